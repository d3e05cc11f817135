"""The sparsity explorer in plain Python: no kernel, no browser."""

import threading
import time

import pytest
from patience import until

from analysis import masks
from notebooks import widgets
from notebooks.widgets import AtRest, score_html, show_sentences, sparsity_explorer
from vp_core.curves import CurveStore, sweep
from vp_core.ground.errors import VPError
from vp_core.recipes import Recipe


def cells(heat_map):
    return [list(row) for row in heat_map.data[0].z]


def test_figures_follow_the_thumb_at_once(study, monkeypatch):
    monkeypatch.setattr(widgets, "REST", 3600)  # the thumb never rests: nothing here waits for a score
    recipe = Recipe()
    explorer = sparsity_explorer(study, recipe, start=0)
    live, shown = masks.draw(study.ranking(recipe)), []
    for position in (0, 13, 70, 100, 41):
        explorer.slider.value = position
        assert cells(explorer.heat_map) == live.changes[0].frames[position]
        lines = explorer.sorted_neurons.data
        grey = lines[len(lines) // 2 :]
        drawn = sum(y is not None for line in grey for y in line.y)
        gone = sum(int((~keep).sum()) for name, keep in study.plan(recipe, position / 100).keep.items() if "ffn_in" in name)
        assert drawn == gone
        assert explorer.curve.data[-2].x == (position, position)
        assert f"{study.plan(recipe, position / 100).rows_removed:,} of" in explorer.cost.value
        shown.append(explorer.score.value)
    assert shown[-1] == "<i>the score at 41 % comes when the thumb rests</i>"
    assert len(set(map(str, live.changes[0].frames))) > 50  # frames differ, so the comparison above says something


def test_the_resting_score_is_the_study_s(study):
    recipe = Recipe(types=("ffn_in", "value"))
    explorer = sparsity_explorer(study, recipe, start=10)
    explorer.slider.value = 35
    explorer.slider.value = 60
    until(lambda: "dense" in explorer.score.value)
    score, dense = study.score(recipe, 0.6), study.score(recipe, 0.0)
    assert explorer.score.value == score_html(score, dense)
    assert f"{score.value:.4f}" in explorer.score.value and f"{score.low:.4f} to {score.high:.4f}" in explorer.score.value
    points = next(line for line in explorer.curve.data if line.name == "variance")
    assert list(points.x) == [0, 60] and list(points.y) == [dense.value, score.value]


def test_a_kept_score_is_shown_at_once_and_computed_once(study, monkeypatch):
    store = CurveStore()
    row = list(sweep(study, ["variance"], [0.0, 0.4], Recipe(), store))[1]
    asked = []
    monkeypatch.setattr(type(study), "running_scores", lambda *_a, **_k: asked.append(1) or iter(()))
    explorer = sparsity_explorer(study, store=store, start=40)
    assert f"<b>accuracy {row['value']:.4f}</b>" in explorer.score.value and "dense" in explorer.score.value
    time.sleep(4 * widgets.REST)
    assert not asked


def test_a_mistake_is_shown_as_a_sentence(study, monkeypatch):
    def fail(*_a, **_k):
        raise VPError("The model's outputs are NaN: check it.")

    explorer = sparsity_explorer(study, start=0)
    monkeypatch.setattr(type(study), "running_scores", fail)
    explorer.slider.value = 20
    until(lambda: "check it" in explorer.score.value)


def test_every_criterion_and_only_the_chosen_types(study):
    for criterion in ("random", "magnitude"):
        assert sparsity_explorer(study, Recipe(criterion=criterion), "query").sorted_neurons.data
    with pytest.raises(VPError, match=r"Unknown projection type 'ffn_in'.*query"):
        sparsity_explorer(study, Recipe(types=("query",)))


def test_only_the_value_at_rest_is_worked_on():
    done, gave_up, first = [], [], threading.Event()

    def work(value, superseded):
        if value == "slow":
            first.set()
            until(superseded)
            gave_up.append(value)
        else:
            done.append(value)

    at_rest = AtRest(work, 0.1)
    at_rest.ask("slow")
    assert first.wait(10)
    for value in range(20):
        at_rest.ask(value)
    until(lambda: done and gave_up)
    time.sleep(0.3)
    assert (done, gave_up) == ([19], ["slow"])


def test_sentences_on_both_models(study):
    table = show_sentences(study, Recipe(), 1.0, ["the film was great", ("the plot was dull",)])
    assert list(table) == ["text", "dense", "pruned"] and table["text"][1] == "the plot was dull"
    assert table["pruned"][0] == table["pruned"][1]  # every row gone: nothing of the text reaches the answer
    outputs, _ = study.predict(study.model, [("the film was great",)])
    assert table["dense"][0] == widgets.answer_text(study.question.task, outputs[0])
