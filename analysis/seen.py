"""What models see in an image: the likeliest classes of each, as bars with their numbers."""

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
import pandas as pd

from analysis import theme

MOST = 5
"""Classes of each model that are shown."""
_STYLE = """<style>
table.vp-seen { border-collapse: collapse; width: 100%; margin: 0.2rem 0 0.7rem; }
table.vp-seen th, table.vp-seen td { padding: 0.15rem 0.6rem 0.15rem 0; text-align: left; font-weight: normal; }
table.vp-seen th[scope=col] { font-weight: 600; }
table.vp-seen td { width: 40%; white-space: nowrap; }
table.vp-seen b { font-weight: 600; }
.vp-bar { display: inline-block; height: 0.75rem; border-radius: 2px; vertical-align: -0.06rem; margin-right: 0.45rem;
  min-width: 1px; }
</style>"""
_COLOURS = (theme.KEPT, theme.ACCENT)


def table(seen: Mapping[str, np.ndarray], labels: Sequence[str]) -> pd.DataFrame:
    """One row a class: the class, and a column a model with its probability, from (classes,) of each."""
    return pd.DataFrame({"class": list(labels), **{name: shares for name, shares in seen.items()}})


def shown_classes(seen: Mapping[str, np.ndarray], most: int = MOST) -> list[int]:
    """Places of the classes that are among the likeliest of any model, by the greatest probability that one gives.

    >>> shown_classes({"dense": np.array([0.1, 0.7, 0.2]), "pruned": np.array([0.6, 0.3, 0.1])}, most=1)
    [1, 0]
    """
    found = {int(i) for shares in seen.values() for i in np.argsort(-shares, kind="stable")[:most]}
    return sorted(found, key=lambda i: (-max(shares[i] for shares in seen.values()), i))


def draw(seen: Mapping[str, np.ndarray], labels: Sequence[str]) -> str:
    """An HTML table: the likeliest classes with a bar and a number for each model, whose own answer is bold."""
    head = "".join(f"<th scope='col'>{escape(name)}</th>" for name in seen)
    rows = "".join(_row(i, seen, labels[i]) for i in shown_classes(seen))
    return f"{_STYLE}<table class='vp-seen'><tr><th scope='col'>class</th>{head}</tr>{rows}</table>"


def _row(i: int, seen: Mapping[str, np.ndarray], label: str) -> str:
    cells = "".join(_cell(shares, i, _COLOURS[place % len(_COLOURS)]) for place, shares in enumerate(seen.values()))
    return f"<tr><th scope='row'>{escape(label)}</th>{cells}</tr>"


def _cell(shares: np.ndarray, i: int, colour: str) -> str:
    number = f"{100 * shares[i]:.1f} %"
    number = f"<b>{number}</b>" if i == int(shares.argmax()) else number
    return f"<td><span class='vp-bar' style='width: {55 * shares[i]:.1f}%; background: {colour}'></span>{number}</td>"
