"""Figures of trainings against the rows they are drawn from."""

import json

import numpy as np
import pytest

from analysis import training
from analysis.masks import in_percent
from vp_core.ground.errors import VPError
from vp_core.ground.names import TYPES

LAYERS, STEPS = 3, 40
CUTS = {10: 0.25, 20: 0.5, 30: 0.75}


def removed(share):
    """More of each further matrix, so that no two cells are alike."""
    return {f"{n}.{type_}": round(share * (6 * n + i + 1) / 18, 4) for n in range(LAYERS) for i, type_ in enumerate(TYPES)}


def score(value):
    return {"metric": "accuracy", "value": value, "low": value - 0.02, "high": value + 0.01, "n": 210}


def run(method="variance", start=0.9, end=0.8, cuts=CUTS, teacher="", upto=STEPS):
    rows = [{"step": 0, "steps": STEPS, **score(start), "seconds": 0.5}]
    for step in range(1, upto + 1):
        row = {"step": step, "steps": STEPS, "loss": 1 / step, "seconds": 0.5 + step}
        if step in cuts:
            row |= {"sparsity": cuts[step], "removed": removed(cuts[step])}
        rows.append(row | (score(0.85) if step == 20 else {}))
    if upto == STEPS:
        end = score(end) | {
            "done": True,
            "share_pruned": 0.6,
            "parameters": 400,
            "removed": removed(max(cuts.values(), default=0)),
        }
        rows.append({"step": STEPS, "steps": STEPS, **end, "seconds": 60.0})
    settings = {"kind": "training", "method": method, "until": 0.75, "teacher": teacher, "task": "demo"}
    return {"settings": settings | {"schedule": {"lr": 1e-4, "seed": 3}}, "rows": rows}


def rows_of(**logs):
    return {name: log["rows"] for name, log in logs.items()}


def drawn(figure, name, row):
    """The lines of a run in one of the three drawings, from the top."""
    axis = "y" if row == 1 else f"y{row}"
    return [t for t in figure.data if t.name == name and t.yaxis in ((axis, None) if row == 1 else (axis,))]


def test_the_table_is_the_rows():
    log = run()
    table = training.table({"one": log["rows"]})
    assert list(table.columns) == list(training.COLUMNS) and len(table) == len(log["rows"])
    for told, row in zip(log["rows"], table.to_dict("records"), strict=True):
        for column in training.COLUMNS[1:]:
            assert row[column] == told[column] if column in told else np.isnan(row[column])


def test_what_is_gone_goes_in_steps():
    points = training.table(rows_of(one=run()))
    found = training.gone(points)
    assert found["step"].tolist() == [0, 10, 20, 30, 40] and found["sparsity"].tolist() == [0, 0.25, 0.5, 0.75, 0.75]
    under_way = training.gone(training.table(rows_of(one=run(upto=15))))
    assert under_way["step"].tolist() == [0, 10, 15] and under_way["sparsity"].tolist() == [0, 0.25, 0.25]
    assert not len(training.gone(training.table(rows_of(one=run(cuts={})))))


def test_a_cut_before_the_first_step_and_one_after_the_last():
    points = training.table(rows_of(one=run(cuts={STEPS: 0.5})))
    assert training.gone(points)["step"].tolist() == [0, STEPS]
    points.loc[0, "sparsity"] = 0.3  # step 0
    assert training.gone(points)["sparsity"].tolist()[:2] == [0.0, 0.3]


def test_lines_are_those_of_the_table():
    logs = rows_of(one=run(), two=run("magnitude", end=0.7, cuts={5: 0.5}))
    figure = training.draw(logs)
    json.dumps(figure.to_plotly_json(), default=lambda value: value.tolist())
    for name, rows in logs.items():
        dots, line = drawn(figure, name, 1)
        losses = [row["loss"] for row in rows if "loss" in row]
        assert list(dots.y) == losses and list(dots.x) == list(range(1, STEPS + 1))
        assert line.y[10] == pytest.approx(np.mean(losses[8:13])) and len(line.y) == len(losses)
        (scores,) = drawn(figure, name, 2)
        assert list(scores.x) == [0, 20, STEPS] and list(scores.y) == [row["value"] for row in rows if "value" in row]
        np.testing.assert_allclose([*scores.error_y.array, *scores.error_y.arrayminus], [0.01] * 3 + [0.02] * 3)
        (gone,) = drawn(figure, name, 3)
        assert gone.line.shape == "hv" and gone.y[-1] == (75 if name == "one" else 50)
    assert [t.name for t in figure.data if t.showlegend] == ["one", "two"]
    assert len({t.line.color for t in figure.data if t.showlegend}) == 2


def test_before_the_first_step():
    assert "no step is taken yet" in training.draw({"one": []}).layout.annotations[0].text
    only_scored = training.draw({"one": run()["rows"][:1]})
    assert list(drawn(only_scored, "one", 2)[0].y) == [0.9]


def test_rows_of_something_else_are_refused():
    with pytest.raises(VPError, match="none of a training"):
        training.table({"snip": [{"iteration": 0, "seconds": 1.0}]})


def test_the_film_has_a_picture_for_each_cut():
    film = training.film_table(run()["rows"])
    assert film["step"].unique().tolist() == [10, 20, 30]  # the end repeats the last cut
    for step, share in CUTS.items():
        part = film[film["step"] == step]
        assert {f"{n}.{t}": s for n, t, s in part[["layer", "type", "sparsity"]].itertuples(index=False)} == removed(share)
    figure = training.draw_film(film, "rows")
    assert [frame.name for frame in figure.frames] == ["10", "20", "30"] and figure.layout.sliders[0].active == 2
    for frame, share in zip(figure.frames, CUTS.values(), strict=True):
        z = np.array(frame.data[0].z, dtype=float)
        want = np.array(list(removed(share).values())).reshape(LAYERS, 6)
        np.testing.assert_allclose(z, 100 * want, atol=0.0501)
    assert figure.data[0].z == figure.frames[2].data[0].z and "rows" in figure.data[0].hovertemplate
    first = training.draw_film(film, "rows", now=0)
    assert first.data[0].z == first.frames[0].data[0].z and first.layout.sliders[0].active == 0
    moves = figure.layout.sliders[0].steps
    assert [list(move.args[0]) for move in moves] == [["10"], ["20"], ["30"]]


def test_a_film_of_many_pictures_is_thinned_and_keeps_both_ends():
    rows = [{"step": n, "steps": 500, "seconds": 1.0, "removed": removed(n / 500)} for n in range(1, 501)]
    film = training.film_table(rows)
    steps = film["step"].unique()
    assert len(steps) == training.FRAMES and (steps[0], steps[-1]) == (1, 500)


def test_word_embeddings_and_gates_have_their_places():
    told = {"word_embeddings": 0.5, "0.query": 0.25, "1.ffn_in.gate": 1.0}
    figure = training.draw_film(training.film_table([{"step": 1, "steps": 2, "seconds": 0, "removed": told}]), "weights")
    z = np.array(figure.data[0].z, dtype=float)
    assert list(figure.data[0].y) == [-1, 0, 1] and z.shape == (3, 8)
    assert (z[0, 7], z[1, 0], z[2, 6]) == (50, 25, 100) or (z[0, 6], z[1, 0], z[2, 7]) == (50, 25, 100)
    assert np.isnan(z).sum() == z.size - 3 and figure.layout.yaxis.ticktext[0] == "embeddings"


def test_without_cuts_the_film_says_so():
    assert (
        "nothing has been removed"
        in training.draw_film(training.film_table(run(cuts={})["rows"][:-1])).layout.annotations[0].text
    )


def test_the_summary_by_hand():
    logs = {"one": run(teacher="demo"), "two": run("random", upto=15), "three": {**run(), "rows": []}}
    found = training.summary(logs).set_index("run")
    one, two, three = found.loc["one"], found.loc["two"], found.loc["three"]
    assert (one["before"], one["score"], one["share"], one["done"]) == (0.9, 0.8, 0.6, True)
    assert (one["method"], one["teacher"], one["lr"], one["seed"], one["seconds"]) == ("variance", "demo", 1e-4, 3, 60.0)
    assert (two["method"], two["step"], two["steps"], two["done"], two["score"]) == ("random", 15, STEPS, False, 0.9)
    assert np.isnan(two["share"]) and three["step"] == 0 and np.isnan(three["score"])


def test_percent_of_what_is_not_there_is_none():
    assert in_percent(np.array([[[0.1234, np.nan]]])) == [[[12.3, None]]]
