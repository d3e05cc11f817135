"""A text with the tag that each model gives to every word: in words below it, and coloured by kind."""

from collections.abc import Mapping
from html import escape

import pandas as pd

from analysis import theme
from vp_core.comparing.tags import Piece, Tagged

_NONE = "O"
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8A6BBE", "#6B4E16")
_STYLE = """<style>
.vp-tagged { line-height: 2.9; margin: 0.1rem 0 0.7rem; white-space: pre-wrap; overflow-wrap: anywhere; }
.vp-tagged ruby { ruby-position: under; border-radius: 3px; padding: 0.15em 0.2em; }
.vp-tagged rt { font-size: 0.68em; letter-spacing: 0.02em; }
</style>"""


def draw(tagged: Mapping[str, Tagged]) -> str:
    """The text in HTML once for each model, by name. A word that another model tags otherwise is underlined."""
    kinds = sorted({_kind(name) for one in tagged.values() for name in one.names} - {_NONE})
    colours = {kind: _COLOURS[i % len(_COLOURS)] for i, kind in enumerate(kinds)}
    parts = [_STYLE]
    for name, one in tagged.items():
        others = [other for other in tagged.values() if other is not one]
        words = "".join(_word(piece, colours, _differs(i, piece, others)) for i, piece in enumerate(one.pieces))
        parts.append(f"<div><b>{escape(name)}</b></div><div class='vp-tagged'>{words}</div>")
    return "".join(parts)


def table(tagged: Mapping[str, Tagged]) -> pd.DataFrame:
    """One row a word: the word, and two columns a model, its tag and how probable that is."""
    first = next(iter(tagged.values()), None)
    columns: dict[str, list[object]] = {"word": [piece.text for piece in first.words] if first else []}
    for name, one in tagged.items():
        columns[name] = [piece.tag for piece in one.words]
        columns[f"{name}: probability"] = [piece.probability for piece in one.words]
    return pd.DataFrame({name: pd.Series(values) for name, values in columns.items()})


def _kind(tag: str) -> str:
    """What an entity is, without whether it begins here: "PER" of "B-PER"."""
    return tag.partition("-")[2] or tag


def _differs(place: int, piece: Piece, others: list[Tagged]) -> bool:
    return any(place < len(other.pieces) and other.pieces[place].tag != piece.tag for other in others)


def _word(piece: Piece, colours: Mapping[str, str], differs: bool) -> str:
    text = escape(piece.text)
    if piece.tag is None:
        return text
    colour = colours.get(_kind(piece.tag))
    style = f"background: {theme.translucent(colour, 0.22)};" if colour else ""
    style += f" border-bottom: 2px dashed {theme.ACCENT};" if differs else ""
    sure = f"{piece.tag}, {100 * (piece.probability or 0.0):.1f} %{'; the other model says otherwise' if differs else ''}"
    told = f" title='{escape(sure, quote=True)}'"
    if piece.tag == _NONE:
        return f"<span style='{style}'{told}>{text}</span>" if differs else f"<span{told}>{text}</span>"
    return f"<ruby style='{style}'{told}>{text}<rt>{escape(piece.tag)}</rt></ruby>"
