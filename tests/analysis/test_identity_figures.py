"""Figures of iterative identity pruning against the logs they are drawn from."""

import copy
import json

import numpy as np
import pytest

from analysis import identity
from vp_core.ground.errors import VPError
from vp_core.model.blocks import Block
from vp_core.training.run_folder import FORMAT, read_log

LAYERS, HEADS = 3, 4
ALL = [f"{n}.head.{h}" for n in range(LAYERS) for h in range(HEADS)] + [f"{n}.ffn" for n in range(LAYERS)]


def log(mode="joint", sn=None, values=(0.9, 0.9, 0.895, 0.85, 0.7), shares=(0.0, 0.2, 0.4, 0.55, 0.8), given=0.9):
    """A run in which the first blocks of ALL leave two an iteration; `mean` and `identity` are of the state before."""
    rows, gone, attention = [], [], [f"{n}.attention" for n in range(LAYERS)]
    for i, (value, share) in enumerate(zip(values, shares, strict=True)):
        there = [name for name in ALL if name not in gone]
        went = there[:2] if i else []
        gone = [*gone, *went]
        left = {"head": sum("head" in n for n in ALL if n not in gone), "attention": LAYERS}
        row = {"iteration": i, "went": went, "gone": list(gone), "share_pruned": share, "parameters": round(1000 * (1 - share)),
               "metric": "accuracy", "value": value, "low": value - 0.02, "high": value + 0.03, "n": 210, "others": {},
               "left": left | {"ffn": sum("ffn" in n for n in ALL if n not in gone)}, "seconds": 1.5}  # fmt: skip
        if i:
            row["mean"] = {name: 0.5 + i for name in [*there, *attention]}
            row["identity"] = {name: (0.97 if name in went else 0.25) for name in there}
        else:
            row["given"] = {"metric": "accuracy", "value": given}
        rows.append(row)
    return {"settings": {"mode": mode, "sn": sn, "theta": 0.95}, "rows": rows}


@pytest.fixture
def logs():
    return identity.named([log(), log(sn=5.0, values=(0.91, 0.9, 0.9, 0.89, 0.8)), log("heads"), log("heads")])


def test_runs_are_named_by_mode_and_normalisation(logs):
    assert list(logs) == ["joint", "joint + SN", "heads", "heads (2)"]


def test_the_table_is_the_log(logs):
    table = identity.table(logs)
    assert list(table.columns) == list(identity.COLUMNS) and len(table) == 20
    part = table[table["run"] == "joint + SN"]
    assert part["value"].tolist() == [0.91, 0.9, 0.9, 0.89, 0.8] and set(part["sn"]) == {5.0}
    assert part["share_pruned"].tolist() == [0.0, 0.2, 0.4, 0.55, 0.8] and part["went"].tolist() == [0, 2, 2, 2, 2]
    assert part["heads"].tolist() == [12, 10, 8, 6, 4] and set(part["ffns"]) == {3}


def test_the_summary_by_hand(logs):
    found = identity.summary(logs).set_index("run")
    joint, sn = found.loc["joint"], found.loc["joint + SN"]
    assert (joint["given"], joint["within a point"], joint["its score"], joint["its parameters"]) == (0.9, 0.4, 0.895, 600)
    assert (joint[0.5], joint[0.75]) == (0.85, 0.7)  # of the iterations at 55 % and 80 %
    assert (sn["within a point"], sn["its score"], sn["iterations"], sn["pruned to"]) == (0.55, 0.89, 4, 0.8)


def test_a_point_below_counts_as_within_and_less_does_not():
    exact = identity.summary({"a": log(values=(0.9, 0.89, 0.8899, 0.8, 0.7))}).loc[0]
    assert (exact["within a point"], exact["its score"]) == (0.2, 0.89)
    none = identity.summary({"a": log(values=(0.5, 0.5, 0.5, 0.5, 0.5))}).loc[0]
    assert np.isnan(none["within a point"]) and np.isnan(none["its score"]) and none[0.5] == 0.5
    later = identity.summary({"a": log(values=(0.9, 0.8, 0.9, 0.8, 0.7))}).loc[0]
    assert later["within a point"] == 0.4  # whatever happened before


def test_what_a_run_has_not_reached_is_missing():
    short = log(values=(0.9, 0.9), shares=(0.0, 0.5))
    found = identity.summary({"a": short}).loc[0]
    assert found[0.5] == 0.9 and np.isnan(found[0.75]) and found["pruned to"] == 0.5
    empty = {"settings": {"mode": "ffn", "sn": None}, "rows": []}
    nothing = identity.summary({"a": empty}).loc[0]
    assert np.isnan(nothing["given"]) and np.isnan(nothing[0.5]) and nothing["iterations"] == 0


def test_the_curve_has_each_runs_points_and_a_level_a_point_below(logs, labelled):
    figure = identity.draw_score(logs)
    labelled(figure)
    table = identity.table(logs)
    assert [trace.name for trace in figure.data] == list(logs)
    for trace in figure.data:
        part = table[table["run"] == trace.name]
        assert np.allclose(trace.x, 100 * part["share_pruned"]) and np.allclose(trace.y, part["value"])
        assert np.allclose(trace.error_y.array, 0.03) and np.allclose(trace.error_y.arrayminus, 0.02)
    by_name = {trace.name: trace.line for trace in figure.data}
    assert by_name["joint"].color == by_name["joint + SN"].color != by_name["heads"].color
    assert (by_name["joint"].dash, by_name["joint + SN"].dash) == ("dash", "solid")
    assert [shape.y0 for shape in figure.layout.shapes] == [pytest.approx(0.89)]


def test_the_map_follows_every_block(logs):
    run = logs["joint"]
    table = identity.map_table(run)
    assert len(table) == 5 * (len(ALL) + LAYERS)
    for row in run["rows"]:
        part = table[table["iteration"] == row["iteration"]].set_index("block")
        assert set(part.index[~part["left"]]) == set(row["gone"]) and set(part.index[part["went"]]) == set(row["went"])
        for name, share in row.get("identity", {}).items():
            assert part.loc[name, "identity"] == share and part.loc[name, "mean"] == row["mean"][name]
    figure = identity.draw_map(run)
    heads, ffns, means = figure.data
    names = sorted({Block.named(n) for n in ALL if "head" in n})
    for i, row in enumerate(run["rows"]):
        there = [z is not None for z in heads.z[i]]
        assert there == [block.name not in row["gone"] for block in names]
        assert [z is not None for z in ffns.z[i]] == [f"{n}.ffn" not in row["gone"] for n in range(LAYERS)]
        for layer in range(LAYERS):
            left = np.mean([f"{layer}.head.{h}" not in row["gone"] for h in range(HEADS)])
            assert (means.z[i][layer] or 0) == pytest.approx(100 * left)
            assert (means.z[i][layer] is None) == (left == 0)
    assert "0 % of the heads left" in means.text[-1][0]
    assert "left in this iteration" in heads.text[1][0] and "gone" in heads.text[2][0]
    assert "97% of mini-batches" in heads.text[1][0]
    axis = figure.layout.yaxis
    assert axis.title.text == "share pruned (%)" and list(axis.ticktext) == ["0", "20", "40", "55", "80"]
    assert axis.autorange == "reversed"


def test_heads_go_with_their_attention_block():
    run = log("attention")
    for row in run["rows"]:
        row["gone"] = row["went"] = ["1.attention"] if row["iteration"] else []
    last = identity.map_table(run).query("iteration == 4").set_index("block")
    assert set(last.index[~last["left"]]) == {"1.attention", *(f"1.head.{h}" for h in range(HEADS))}


def test_long_runs_and_runs_that_have_just_begun_are_drawn():
    many = 60
    run = log(values=[0.9] * many, shares=list(np.linspace(0, 0.9, many)))
    figure = identity.draw_map(run)
    assert len(figure.layout.yaxis.tickvals) <= 16 and len(figure.data[0].z) == many and figure.layout.height <= 720
    begun = log(values=(0.9,), shares=(0.0,))
    assert "no iteration finished" in identity.draw_map(begun).layout.annotations[0].text
    nothing = begun | {"rows": []}
    assert "nothing finished" in identity.draw_score({"joint": nothing}).layout.annotations[0].text


@pytest.mark.parametrize("missing", ["share_pruned", "left", "value"])
def test_a_log_that_lacks_something_is_said(missing, tmp_path):
    broken = copy.deepcopy(log())
    del broken["rows"][2][missing]
    (tmp_path / "run.json").write_text(json.dumps({"format": FORMAT, **broken}))
    with pytest.raises(VPError, match=f"log of the run 'joint' lacks '{missing}'"):
        identity.draw_score(identity.named([read_log(tmp_path)]))
