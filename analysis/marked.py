"""A paragraph with the answers that models mark in it: by underline and frame too, so that not colour alone tells them."""

from collections.abc import Mapping
from html import escape
from itertools import pairwise

import pandas as pd

from analysis import theme
from vp_core.comparing.spans import Marked

_FIRST = f"background: {theme.translucent(theme.KEPT, 0.22)}; border-bottom: 3px solid {theme.KEPT}"
_SECOND = f"box-shadow: inset 0 1.5px {theme.ACCENT}, inset 0 -1.5px {theme.ACCENT}"
_LOOKS = (_FIRST, f"{_SECOND}; background: {theme.translucent(theme.ACCENT, 0.14)}")
"""How what the first model marks looks, and the second."""
_PARAGRAPH = "white-space: pre-wrap; line-height: 1.9; margin: 0.2rem 0 0.7rem; overflow-wrap: anywhere"


def draw(paragraph: str, marked: Mapping[str, Marked], may_say_none: bool = False) -> str:
    """The paragraph in HTML with the answers of one or two models, by name, and what each is called by; `may_say_none`: whether
    a question may have no answer."""
    spans = {name: _span(one, may_say_none) for name, one in marked.items()}
    cuts = sorted({0, len(paragraph), *(end for span in spans.values() for end in span)})
    parts = []
    for start, end in pairwise(cuts):
        names = [name for name, (first, last) in spans.items() if first <= start and end <= last]
        parts.append(_marked(escape(paragraph[start:end]), names, list(marked)))
    answers = "".join(_answer(i, name, one, may_say_none) for i, (name, one) in enumerate(marked.items()))
    return f"<div style='{_PARAGRAPH}'>{''.join(parts)}</div><div>{answers}</div>"


def table(marked: Mapping[str, Marked]) -> pd.DataFrame:
    """One row a model: the answer, where it begins and ends, its sum of logits, and the one that says that there is none."""
    rows = [
        {"model": name, "answer": one.text, "start": one.start, "end": one.end, "score": one.score, "no answer": one.none}
        for name, one in marked.items()
    ]
    return pd.DataFrame(rows, columns=["model", "answer", "start", "end", "score", "no answer"])


def _span(one: Marked, may_say_none: bool) -> tuple[int, int]:
    return (0, 0) if may_say_none and one.unanswered else (one.start, one.end)


def _marked(text: str, names: list[str], order: list[str]) -> str:
    """A part of the paragraph, marked as the models of these names mark it."""
    if not names:
        return text
    look = f"{_FIRST}; {_SECOND}" if len(names) > 1 else _LOOKS[order.index(names[0]) % len(_LOOKS)]
    title = escape("marked by " + " and ".join(names), quote=True)
    return f"<mark style='color: inherit; {look}' title='{title}'>{text}</mark>"


def _answer(place: int, name: str, one: Marked, may_say_none: bool) -> str:
    """A line of the legend: how the model marks, and what."""
    said = "<i>no answer</i>" if may_say_none and one.unanswered else escape(one.text)
    sample = f"<mark style='color: inherit; {_LOOKS[place % len(_LOOKS)]}; padding: 0 0.5em'>{escape(name)}</mark>"
    sure = f"<small>(sum of logits {one.score:.1f}{f', of no answer {one.none:.1f}' if may_say_none else ''})</small>"
    return f"<div style='margin-bottom: 0.5rem'>{sample} {said} {sure}</div>"
