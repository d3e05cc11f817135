"""The figure of function norms against brute force on the values it stands for."""

import numpy as np
import pytest
import torch

from analysis import function_norms as fn
from analysis.names import block_name
from vp_core.measuring.function_norms import QUANTILES, FunctionNorms
from vp_core.measuring.histogram import Histogram
from vp_core.model.blocks import Block

BLOCKS = tuple(Block(layer, kind, head) for layer in (0, 1) for kind, head in
               (("head", 0), ("head", 1), ("attention", None), ("ffn", None)))  # fmt: skip
TOKENS = 3000


def values_of(seed, scale=1.0):
    """(blocks, TOKENS) norms over several decades, some of them zero."""
    draw = np.random.default_rng(seed)
    found = scale * np.exp(draw.normal(size=(len(BLOCKS), TOKENS)) + np.arange(len(BLOCKS))[:, None] - 4)
    found[3, :10] = 0
    return found.astype(np.float32)


def norms_of(values):
    histogram = Histogram.empty(len(BLOCKS))
    histogram.add(range(len(BLOCKS)), torch.from_numpy(values))
    return FunctionNorms(BLOCKS, histogram, torch.from_numpy(values).view(len(BLOCKS), 100, -1).amax(dim=2).T)


@pytest.fixture(scope="module")
def values():
    return values_of(1)


@pytest.fixture(scope="module")
def norms(values):
    return norms_of(values)


def test_the_table_is_what_numpy_says(norms, values):
    table = fn.norm_table(norms)
    assert [(r.layer, r.kind) for r in table.itertuples()] == [(b.layer, b.kind) for b in BLOCKS]
    assert table["head"].isna().tolist() == [b.head is None for b in BLOCKS]
    assert table.loc[4:5, "head"].tolist() == [0, 1] and (table["tokens"] == TOKENS).all()
    assert np.allclose(table["mean"], values.astype(float).mean(axis=1), rtol=1e-12)
    assert np.array_equal(table["min"], values.min(axis=1)) and np.array_equal(table["max"], values.max(axis=1))
    for q in QUANTILES:
        exact = np.quantile(values, q, axis=1, method="inverted_cdf")
        assert np.all((exact <= table[f"q{round(100 * q):02}"]) & (table[f"q{round(100 * q):02}"] <= exact * (1 + 1 / 32)))
    assert list(table.columns)[-6:] == ["q05", "q25", "q50", "q75", "q95", "q99"]


def test_densities_are_a_histogram_of_all_tokens(norms, values):
    table = fn.density_table(norms)
    for i, block in enumerate(BLOCKS):
        bins = table[table["block"] == block.name]
        low, high = bins["low"].to_numpy(), bins["high"].to_numpy()
        counts = bins["density"].to_numpy() * np.log10(high / low) * TOKENS
        brute = [np.sum((values[i] >= a) & (values[i] < b)) for a, b in zip(low, high, strict=True)]
        brute[0] += np.sum(values[i] == 0)
        assert np.allclose(counts, brute) and sum(brute) == TOKENS
        assert np.array_equal(low[1:], high[:-1]) and np.all((low < bins["value"]) & (bins["value"] < high))
        assert np.all(np.log2(high[1:] / low[1:]) <= 0.18)  # nothing but bins of the histogram is merged
        assert bins["layer"].unique() == [block.layer] and bins["kind"].unique() == [block.kind]


def test_a_block_without_zeros_comes_down_on_both_sides(norms):
    bins = fn.density_table(norms).query("block == '0.head.1'")
    assert bins["density"].iloc[0] == bins["density"].iloc[-1] == 0 and (bins["density"].iloc[1:-1] > 0).any()


def curves(figure, place):
    """{block as hovered: (x, y)} of one subplot's lines, split at the gaps."""
    found = {}
    for trace in figure.data:
        if (trace.xaxis or "x", trace.yaxis or "y") != place or trace.name == "ε":
            continue
        for x, y, what in zip(trace.x, trace.y, trace.customdata, strict=True):
            assert (x is None) == (y is None) == (what is None)
            if what is not None:
                found.setdefault(what, []).append((x, y))
    return {what: np.array(points, float) for what, points in found.items()}


def test_every_line_is_its_blocks_density(norms):
    other = norms_of(values_of(2, 3.0))
    figure = fn.draw({"plain": norms, "normalised": other})
    for row, one in enumerate((norms, other)):
        table = fn.density_table(one)
        for column, kind in enumerate(("head", "ffn")):
            number = 2 * row + column + 1
            shown = curves(figure, (f"x{number}" if number > 1 else "x", f"y{number}" if number > 1 else "y"))
            assert sorted(shown) == sorted(block_name(b) for b in BLOCKS if b.kind == kind)
            for block in (b for b in BLOCKS if b.kind == kind):
                bins = table[table["block"] == block.name]
                assert np.allclose(shown[block_name(block)], bins[["value", "density"]], rtol=1e-3, atol=1e-4)


def test_models_share_axes_and_layers_share_a_colour_and_a_legend(norms):
    figure = fn.draw({"plain": norms, "normalised": norms_of(values_of(2, 3.0))}, ("head", "attention", "ffn"))
    layout = figure.layout
    for upper, lower in (("", 4), (2, 5), (3, 6)):
        assert layout[f"yaxis{lower}"].matches == f"y{upper}"
        assert layout[f"xaxis{upper}"].range == layout[f"xaxis{lower}"].range
        assert layout[f"yaxis{upper}"].range == layout[f"yaxis{lower}"].range
        assert layout[f"xaxis{lower}"].title.text == fn.NORM and layout[f"xaxis{lower}"].type == "log"
    for model, axis in (("plain", "yaxis"), ("normalised", "yaxis4")):
        assert model in layout[axis].title.text and "density" in layout[axis].title.text
    named = [trace.name for trace in figure.data if trace.showlegend]
    assert sorted(named) == ["layer 0", "layer 1"]
    for name in named:
        assert len({trace.line.color for trace in figure.data if trace.legendgroup == name}) == 1
    assert len({trace.line.color for trace in figure.data}) == 2


def test_all_of_a_drawing_is_in_sight(norms):
    figure = fn.draw({"plain": norms}, epsilon={"head": 1e-4, "ffn": 1e4})
    for axis, trace in (("xaxis", "x"), ("xaxis2", "x2")):
        low, high = (10**v for v in figure.layout[axis].range)
        shown = [x for t in figure.data if (t.xaxis or "x") == trace for x in t.x if x is not None]
        assert low <= min(shown) and max(shown) <= high
    top = figure.layout.yaxis.range[1]
    assert top > max(y for t in figure.data if (t.xaxis or "x") == "x" and t.name != "ε" for y in t.y if y is not None)


def test_epsilon_stands_where_it_is_and_moves(norms):
    figure = fn.draw({"a": norms, "b": norms}, epsilon={"head": 0.2, "ffn": 3.0})
    marks = [trace for trace in figure.data if trace.name == "ε"]
    assert [mark.x for mark in marks] == [(0.2, 0.2), (0.2, 0.2), (3.0, 3.0), (3.0, 3.0)]
    assert [mark.showlegend for mark in marks] == [True, False, False, False]
    fn.move(figure, {"head": 0.3, "ffn": 2.0})
    assert [tuple(mark.x) for mark in marks] == [(0.3, 0.3), (0.3, 0.3), (2.0, 2.0), (2.0, 2.0)]
    only = fn.draw({"a": norms}, epsilon={"ffn": 3.0})
    assert [(t.x, t.showlegend) for t in only.data if t.name == "ε"] == [((3.0, 3.0), True)]


def test_real_models_have_a_row_for_each_block(studies):
    for family in ("bert", "albert", "gpt2", "bart"):
        norms = studies[family].measured().norms()
        table = fn.norm_tables({family: norms})
        assert len(table) == len(norms.blocks) and (table["mean"] > 0).all() and (table["model"] == family).all()
        assert np.all((table["min"] <= table["mean"]) & (table["mean"] <= table["max"]))
        figure = fn.draw({family: norms})
        heads = table[table["kind"] == "head"]
        assert len(curves(figure, ("x", "y"))) == len(heads)
