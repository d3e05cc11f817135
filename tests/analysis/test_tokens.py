"""A text token by token as a table and in HTML."""

import re

import numpy as np
import pytest

from analysis import theme, tokens
from vp_core.comparing.tokens import Reading


def reading(*losses, pieces=("a", " <b>", "\n"), cut=False):
    likeliest = ((), ((" x", 0.5), ("y", 0.25)), ((" z", 0.75),), (("\n", 1.0),))
    return Reading(pieces, np.array(losses), likeliest, cut)


READ = {"dense": reading(np.nan, 1.0, 2.0), "pruned": reading(np.nan, 6.0, 0.0)}


def test_the_table_has_a_row_a_model_and_token():
    table = tokens.table(READ)
    assert list(table.columns) == ["model", "place", "token", "loss", "likeliest"] and len(table) == 6
    assert table["loss"].isna().tolist() == [True, False, False] * 2
    assert table.loc[4, "likeliest"] == '" x" 50.0 %, "y" 25.0 %' and table.loc[4, "loss"] == 6.0


def test_likeliest_tokens_of_both_at_a_place_and_behind_the_text():
    table = tokens.next_table(READ, 1)
    assert table["dense"].tolist() == [" x", "y"] and table["pruned: probability"].tolist() == [0.5, 0.25]
    assert tokens.next_table(READ)["dense"].tolist() == ["↵"]


def test_both_texts_have_one_scale_and_every_token_its_number():
    html = tokens.draw(READ, {"dense": " and <i>on"})
    alphas = [
        float(a) for a in re.findall(rf"background: {re.escape(theme.translucent(theme.ACCENT, 0)[:-2])}([\d.]+)\)'", html)
    ]
    assert alphas == pytest.approx([0.6 / 6, 0.6 * 2 / 6, 0.6, 0.0], abs=1e-3)  # against the largest loss of both, 6
    assert "loss 6.00 nats · probability 0.2 %" in html and html.count("not predicted") == 2
    assert "<b>" not in html.replace("<b>dense</b>", "").replace("<b>pruned</b>", "")  # what was typed is no HTML
    assert "&lt;b&gt;" in html and " and &lt;i&gt;on" in html and "6 nats" in html
    assert "1.50 nats a token, perplexity 4.5" in html and "perplexity 20.1" in html


def test_the_scale_begins_at_four_nats_and_ends_at_twelve():
    assert tokens.top_of({"a": reading(np.nan, 0.1, 0.2)}) == 4.0
    assert tokens.top_of({"a": reading(np.nan, 0.1, 30.0)}) == 12.0
    assert "12 nats and more" in tokens.draw({"a": reading(np.nan, 0.1, 30.0)})


def test_where_nothing_but_masks_is_predicted_they_are_marked():
    html = tokens.draw({"dense": reading(np.nan, np.nan, np.nan)})
    assert html.count("inset 0 -2px") == 2 and "perplexity" not in html
