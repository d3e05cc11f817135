"""A text of one's own as language models read it: each token coloured by its loss, and the likeliest tokens at a place."""

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape

import numpy as np
import pandas as pd

from analysis import theme
from vp_core.comparing.tokens import Guesses, Reading

LEAST_TOP = 4.0
"""Nats that the scale of colours reaches at least, so that a text that is easy throughout looks so."""
MOST_TOP = 12.0
_STRONGEST = 0.6
"""How opaque the colour of the largest loss is: letters stay legible on it, on light and on dark pages."""
_STYLE = f"""<style>
.vp-text {{ white-space: pre-wrap; line-height: 2.1; margin: 0.1rem 0 0.7rem; overflow-wrap: anywhere; }}
.vp-text span.vp-token {{ position: relative; border-radius: 3px; padding: 0.2em 0; }}
.vp-text span.vp-token:hover, .vp-text span.vp-token:focus {{ outline: 2px solid {theme.ACCENT}; z-index: 3; }}
.vp-text span.vp-tip {{ display: none; position: absolute; left: 0; top: 1.9em; z-index: 9; padding: 0.4em 0.7em;
  white-space: pre; line-height: 1.45; font-size: 0.85rem; border-radius: 5px; background: #262730; color: #fafafa; }}
.vp-text span.vp-token:hover > span.vp-tip, .vp-text span.vp-token:focus > span.vp-tip {{ display: block; }}
.vp-text i {{ opacity: 0.75; }}
.vp-scale {{ display: inline-block; width: 9rem; height: 0.8rem; border-radius: 3px; vertical-align: middle; margin: 0 0.5em;
  background: linear-gradient(to right, {theme.translucent(theme.ACCENT, 0.0)}, {theme.translucent(theme.ACCENT, _STRONGEST)});
  border: 1px solid {theme.translucent(theme.PRUNED, 0.6)}; }}
</style>"""


@dataclass(frozen=True)
class Readings:
    """By model, what it makes of a text so far, and how it goes on behind it."""

    read: Mapping[str, Reading]
    more: Mapping[str, str]


def table(readings: Mapping[str, Reading]) -> pd.DataFrame:
    """One row a model and token: model, place, token, loss (nats; missing where there is none), and the likeliest there."""
    rows = [
        {"model": name, "place": i, "token": piece, "loss": float(loss), "likeliest": said(guesses)}
        for name, one in readings.items()
        for i, (piece, loss, guesses) in enumerate(zip(one.pieces, one.losses, one.guesses, strict=False))
    ]
    return pd.DataFrame(rows, columns=["model", "place", "token", "loss", "likeliest"])


def next_table(readings: Mapping[str, Reading], place: int = -1) -> pd.DataFrame:
    """What each model holds likeliest at a place (default: behind the text): a row a rank, two columns a model, its token and
    the token's probability."""
    columns: dict[str, list[object]] = {}
    for name, one in readings.items():
        columns[name] = [visible(token) for token, _ in one.guesses[place]]
        columns[f"{name}: probability"] = [share for _, share in one.guesses[place]]
    return pd.DataFrame({name: pd.Series(values) for name, values in columns.items()})


def mean_loss(reading: Reading) -> float:
    """The mean loss of the tokens that are predicted; NaN if there are none."""
    return float(np.nanmean(reading.losses)) if np.isfinite(reading.losses).any() else float("nan")


def top_of(readings: Mapping[str, Reading]) -> float:
    """The loss of the strongest colour, the same for all models."""
    losses = np.concatenate([one.losses[np.isfinite(one.losses)] for one in readings.values()] or [np.zeros(0)])
    return float(np.clip(losses.max(initial=0.0), LEAST_TOP, MOST_TOP))


def draw(readings: Mapping[str, Reading], more: Mapping[str, str] | None = None, empty: str = "") -> str:
    """The text of each model in HTML, one below the other, with one scale of colours and its legend.

    A token says its loss and what was likelier where it is pointed at, or reached with the Tab key. `more`: how models go on
    behind the text, by name, in italics. `empty`: what stands in the place of a text without tokens.
    """
    top, parts = top_of(readings), [_STYLE]
    for name, one in readings.items():
        mean = mean_loss(one)
        loss = f" · {mean:.2f} nats a token, perplexity {np.exp(mean):.1f}" if np.isfinite(mean) else ""
        ahead = f"<i>{escape(visible(more[name]))}</i>" if more and more.get(name) else ""
        text = _tokens(one, top) or f"<i>{escape(empty)}</i>"
        parts.append(f"<div><b>{escape(name)}</b>{loss}</div><div class='vp-text'>{text}{ahead}</div>")
    return "".join(parts) + _legend(top)


def said(guesses: Guesses) -> str:
    """Tokens with their probabilities, in one line.

    >>> said(((" cat", 0.5), ("!", 0.25)))
    '" cat" 50.0 %, "!" 25.0 %'
    """
    return ", ".join(f'"{visible(token)}" {100 * share:.1f} %' for token, share in guesses)


def visible(token: str) -> str:
    r"""A token whose line breaks can be seen.

    >>> visible("\n"), visible(" a")
    ('↵', ' a')
    """
    return token.replace("\n", "↵").replace("\t", "⇥")


def _tokens(reading: Reading, top: float) -> str:
    return "".join(
        _token(piece, float(loss), guesses, top)
        for piece, loss, guesses in zip(reading.pieces, reading.losses, reading.guesses, strict=False)
    )


def _token(piece: str, loss: float, guesses: Guesses, top: float) -> str:
    shown = escape(piece).replace("\n", "↵\n") or "·"
    if not np.isfinite(loss):
        tip = "likeliest here:\n" + _lines(guesses) if guesses else "not predicted: nothing stands before it"
        line = f"box-shadow: inset 0 -2px {theme.ACCENT}" if guesses else "opacity: 0.75"
    else:
        share = 100 * np.exp(-loss)
        odds = f"{share:.1f}" if share >= 0.1 else f"{share:.2g}"
        tip = f"loss {loss:.2f} nats · probability {odds} %"
        tip += f"\nlikeliest here:\n{_lines(guesses)}" if guesses else ""
        line = f"background: {theme.translucent(theme.ACCENT, round(_STRONGEST * min(loss / top, 1.0), 3))}"
    told = f"<span class='vp-tip' role='tooltip'>{escape(tip)}</span>"
    return f"<span class='vp-token' tabindex='0' style='{line}'>{shown}{told}</span>"


def _lines(guesses: Guesses) -> str:
    return "\n".join(f"{100 * share:5.1f} %  {visible(token)}" for token, share in guesses)


def _legend(top: float) -> str:
    scale = "<span class='vp-scale' role='img' aria-label='from pale to strong'></span>"
    return (
        f"<div style='font-size: 0.85rem'>loss of a token: 0{scale}"
        f"{top:.3g} nats{' and more' if top == MOST_TOP else ''} · point at a token for its number and what was likelier</div>"
    )
