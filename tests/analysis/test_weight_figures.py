"""Compressing BERT's figures of weights against numpy and scipy on the matrices themselves."""

import numpy as np
import pytest
import tiny
import torch
from scipy import stats

from analysis.weights import heads, heat, removed, spread
from analysis.weights.tables import SPARSITIES, sparsities_of
from vp_core.comparing.movement import by_magnitude, views
from vp_core.ground.errors import VPError
from vp_core.ground.names import TYPES, WORD_EMBEDDINGS
from vp_core.ground.patterns import find_pattern
from vp_core.weights.matrices import find_matrices, view


@pytest.fixture(scope="module", params=["bert", "llama", "bart", "gpt2"])
def case(request):
    """(ranking by magnitude per matrix, weights by name) of one of each kind of family."""
    return ranked(request.param)


def ranked(family, types=TYPES, **how):
    model = tiny.transformer(family, dtype=torch.float32)
    matrices = find_matrices(model, types)
    weights = views(model, matrices)
    return by_magnitude(matrices, weights, **how), weights


def kept(weight, sparsity):
    """What stays of a matrix when this share of its weights goes, by numpy."""
    flat = np.abs(weight.numpy()).ravel()
    keep = np.ones(flat.size, dtype=bool)
    keep[np.argsort(flat, kind="stable")[: round(sparsity * flat.size)]] = False
    return keep.reshape(weight.shape)


def test_shares_of_heads_are_counted(case):
    ranking, weights = case
    table = heads.table(ranking, (0.0, 0.3, 0.9))
    for (sparsity, name), part in table.groupby(["sparsity", "matrix"]):
        keep = kept(weights[name], sparsity)
        keep = keep.T if name.endswith("attention_output") else keep
        assert part["pruned"].tolist() == pytest.approx([1 - head.mean() for head in np.split(keep, len(part))])
        assert (part["weights"] * len(part) == keep.size).all() and part["head"].tolist() == list(range(len(part)))
    assert set(table["type"]) == {"query", "key", "value", "attention_output"}
    widths = {m.type: m.head_width for m in ranking.matrices if m.head_width}
    assert set(widths.values()) == {12}
    made = heads.summary(table).set_index("sparsity")
    assert made.loc[0.0].tolist() == [0, 0, 0] and made.loc[0.3, "min"] < 0.3 < made.loc[0.3, "max"]
    assert made.loc[0.9, "mean"] == pytest.approx(table[table["sparsity"] == 0.9]["pruned"].mean())


def test_heads_of_what_has_none():
    ranking, _ = ranked("bert", ["ffn_in"])
    with pytest.raises(VPError, match="None of these matrices has heads"):
        heads.table(ranking)


def test_sums_of_magnitudes(case):
    ranking, weights = case
    table = removed.table(ranking, weights, (0.0, 0.5, 1.0))
    for row in table.itertuples():
        values = np.abs(weights[row.matrix].double().numpy())
        gone = values[~kept(weights[row.matrix], row.sparsity)]
        assert row.removed == pytest.approx(gone.sum(), rel=1e-6, abs=1e-9) and row.sum == pytest.approx(values.sum(), rel=1e-9)
        assert row.gone == gone.size and row.share == pytest.approx(gone.sum() / values.sum(), rel=1e-6, abs=1e-12)
    total = removed.total(table).set_index("sparsity")
    assert total["share"].loc[0.0] == 0 and total["share"].loc[1.0] == 1 and 0.1 < total["share"].loc[0.5] < 0.3
    whole = sum(w.abs().double().sum().item() for w in weights.values())
    assert total["sum"].loc[0.5] == pytest.approx(whole) and list(removed.total(table, by_type=True)["type"].unique())


def test_a_pattern_has_its_own_sparsities():
    ranking, weights = ranked("bert", pattern=find_pattern("2:4"))
    assert sparsities_of(ranking) == (0.0, 0.5) and sparsities_of(ranked("bert")[0]) == SPARSITIES
    assert removed.table(ranking, weights)["sparsity"].unique().tolist() == [0.0, 0.5]
    assert (heads.table(ranking)["pruned"].isin([0.0, 0.5])).all()


def test_spread_is_that_of_scipy(case):
    ranking, weights = case
    table = spread.table(ranking.matrices, weights).set_index("matrix")
    for name, weight in weights.items():
        values, row = weight.double().numpy().ravel(), table.loc[name]
        assert [row["mean"], row["std"]] == pytest.approx([values.mean(), values.std()], rel=1e-9, abs=1e-12)
        assert row["skewness"] == pytest.approx(stats.skew(values), rel=1e-6, abs=1e-9)
        assert row["kurtosis"] == pytest.approx(stats.kurtosis(values), rel=1e-6, abs=1e-9)
        normal = stats.norm(values.mean(), values.std()).cdf
        assert row["ks"] == pytest.approx(stats.kstest(values, normal).statistic, rel=1e-6)


def test_what_is_normal_and_what_is_not():
    draw = np.random.default_rng(0)
    normal = spread.spread(torch.from_numpy(draw.normal(0.1, 3, (700, 300)).astype(np.float32)))
    assert normal["ks"] < 0.008 and abs(normal["skewness"]) < 0.03 and abs(normal["kurtosis"]) < 0.05
    uniform = spread.spread(torch.from_numpy(draw.uniform(size=(700, 300)).astype(np.float32)))
    assert uniform["kurtosis"] == pytest.approx(-1.2, abs=0.02) and uniform["ks"] == pytest.approx(0.057, abs=0.005)
    assert spread.spread(torch.zeros(700, 300) + 1)["std"] == 0 and np.isnan(spread.spread(torch.zeros(3, 3))["ks"])
    sampled = torch.from_numpy(draw.normal(size=(700, 300)).astype(np.float32))
    assert spread.spread(sampled) == spread.spread(sampled.clone())


def test_a_map_is_the_mean_of_each_cell(monkeypatch):
    monkeypatch.setattr(heat, "CELLS", 10)
    ranking, weights = ranked("bert")
    by_name = {matrix.name: matrix for matrix in ranking.matrices}
    for name, cell in (("1.key", (6, 5)), ("1.attention_output", (5, 6)), ("1.ffn_in", (6, 5))):
        values, table = weights[name].abs().double().numpy(), heat.matrix_table(weights[name], by_name[name])
        assert (table["rows"].max(), table["columns"].max()) == cell  # 12 rows a head: cells of 6, not of 5
        for row in table.itertuples():
            there = values[row.row : row.row + row.rows, row.column : row.column + row.columns]
            assert row.mean == pytest.approx(there.mean(), rel=1e-12) and there.shape == (row.rows, row.columns)
        assert (table["rows"] * table["columns"]).sum() == values.size


def test_a_small_matrix_is_shown_weight_by_weight():
    ranking, weights = ranked("bert")
    matrix = ranking.matrices[1]
    table = heat.matrix_table(weights[matrix.name], matrix)
    assert np.array_equal(table["mean"], weights[matrix.name].abs().double().numpy().ravel())
    figure = heat.draw_matrix(table, matrix)
    assert len(figure.layout.shapes) == 3 and "a cell" not in figure.layout.title.text
    assert [shape.y0 for shape in figure.layout.shapes] == [11.5, 23.5, 35.5]


def test_a_large_matrix_stays_small():
    matrix = type(ranked("bert")[0].matrices[0])("0.ffn_in", "ffn_in", "x", 3072, 768, layer=0)
    table = heat.matrix_table(torch.ones(3072, 768), matrix)
    assert len(table) <= 400 * 400 and (table["mean"] == 1).all()
    assert "8 × 2 weights a cell" in heat.draw_matrix(table, matrix).layout.title.text


class Tokens:
    """A tokeniser of these tokens, of which the last is special."""

    def __init__(self, *tokens):
        self.tokens, self.all_special_ids = tokens, [len(tokens) - 1]

    def __len__(self):
        return len(self.tokens)

    def convert_ids_to_tokens(self, ids):
        return [self.tokens[i] for i in ids]

    def convert_tokens_to_string(self, tokens):
        return " ".join(tokens)


def test_lengths_of_tokens_are_without_marks():
    found = heat.token_lengths(Tokens("a", "##ing", "film", "▁the", "Ġwas", "##", "#", "[unused12]", "ü", "[SEP]"))
    assert found.tolist() == [1, 3, 4, 3, 3, 1, 1, 0, 1, 0]


def test_lengths_of_bytes_are_those_of_the_text():
    tok = tiny.tokenizer("gpt2")
    found = dict(zip(tok.convert_ids_to_tokens(range(len(tok))), heat.token_lengths(tok), strict=True))
    assert found["Ġfilm"] == 4 and found["Ġ"] == 1 and found["<|endoftext|>"] == 0


def test_embeddings_by_length_and_dimension(loaded):
    model, tok = loaded["bert"].model, loaded["bert"].tokenizer
    words = view(model, find_matrices(model, [WORD_EMBEDDINGS])[0])
    table = heat.embedding_table(words, tok)
    lengths = {i: len(token) for token, i in tok.get_vocab().items() if i not in tok.all_special_ids}
    for length, part in table.groupby("length"):
        ids = [i for i, n in lengths.items() if n == length]
        assert np.allclose(part["mean"], words[ids].abs().double().mean(dim=0), rtol=1e-6)
        assert (part["tokens"] == len(ids)).all() and len(part) == words.shape[1]
    assert table.drop_duplicates("length")["tokens"].sum() == len(lengths)
    with pytest.raises(VPError, match="take the model's own"):
        heat.embedding_table(words[:10], tok)
    assert "word embeddings" in heat.draw_embeddings(table).layout.title.text


def test_the_longest_tokens_share_a_row():
    tok = Tokens(*(["ab"] * 3000), "a" * 7, "a" * 9, "a" * 8, "a" * 11, "[SEP]")
    table = heat.embedding_table(torch.rand(3005, 3), tok)
    assert [(r.length, r.up_to, r.tokens) for r in table.drop_duplicates("length").itertuples()] == [(2, 2, 3000), (7, 11, 4)]
    assert list(heat.draw_embeddings(table).layout.yaxis.ticktext) == ["2", "7 – 11"]


def test_figures_say_what_their_axes_are(case, labelled):
    ranking, weights = case
    labelled(removed.draw(removed.table(ranking, weights)))
    labelled(spread.draw(spread.table(ranking.matrices, weights)))
    labelled(heat.draw_matrix(heat.matrix_table(weights[ranking.matrices[0].name], ranking.matrices[0]), ranking.matrices[0]))
    figure = heads.draw(heads.table(ranking))
    assert [trace.name for trace in figure.data if trace.name] == ["least", "most", "mean"] * 4
    assert any("share of weights removed" in annotation.text for annotation in figure.layout.annotations)


def test_word_embeddings_have_no_layer():
    ranking, weights = ranked("bert", (*TYPES, WORD_EMBEDDINGS))
    table = spread.table(ranking.matrices, weights)
    assert table["layer"].isna().sum() == 1 and table["layer"].dtype == "Int64"
    assert "words" in spread.draw(table).layout.xaxis.ticktext
    assert len(removed.draw(removed.table(ranking, weights)).data) == 2 + 7  # the even line, all, seven types
