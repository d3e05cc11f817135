"""One way to cancel, to wait and to be heard: by hand, and in the middle of real computations."""

import sys
import threading

import bench_models
import pytest
import tiny
from bench_models import stage
from cancelling import after, until_cancelled

from vp_core.asking.evaluate import evaluate, score
from vp_core.curves import CurveStore, sweep
from vp_core.ground.work import TURNS, Cancelled, Gate, Turn, checkpoint, say, to_the_end, turn_now, work
from vp_core.recipes import Recipe
from vp_core.replacing.refit import Progress, refit


def in_thread(do):
    """Run `do` on a thread of its own; gives an event that is set at its end."""
    done = threading.Event()
    threading.Thread(target=lambda: (do(), done.set()), daemon=True).start()
    return done


def test_without_work_nothing_waits_nothing_is_cancelled_and_nobody_hears():
    assert turn_now() == Turn.FIRST
    with TURNS.first():
        checkpoint()
        say("nobody hears this")


def test_what_is_not_given_stays_as_it_is_outside():
    heard, inner = [], []
    with work(turn=Turn.LAST, hear=heard.append):
        with work(hear=inner.append):
            say("inside")
            assert turn_now() == Turn.LAST
        with work(cancelled=lambda: True):
            say("outside")
            with pytest.raises(Cancelled):
                checkpoint()
            with to_the_end():
                checkpoint()
        checkpoint()
    assert (heard, inner, turn_now()) == (["outside"], ["inside"], Turn.FIRST)


def test_a_thread_begins_with_nothing_open():
    heard = []
    with work(cancelled=lambda: True, turn=Turn.LAST, hear=heard.append):
        assert in_thread(lambda: (checkpoint(), say("elsewhere"))).wait(20)
    assert heard == []


@pytest.mark.parametrize("inside", Turn)
@pytest.mark.parametrize("turn", Turn)
def test_later_turns_wait_for_earlier_ones_alone(turn, inside):
    gate = Gate()

    def wait():
        with work(turn=turn):
            gate.wait()

    with work(turn=inside), gate.first(), gate.first():
        done = in_thread(wait)
        assert done.wait(0.2 if turn > inside else 20) == (turn <= inside)
    assert done.wait(20)


def test_two_measurements_that_let_a_score_go_first_do_not_wait_for_each_other():
    inside, go_on = threading.Barrier(3), threading.Event()

    def measure():
        with work(turn=Turn.SECOND), TURNS.first():
            inside.wait(20)
            go_on.wait(20)
            checkpoint()

    measuring = [in_thread(measure), in_thread(measure)]
    inside.wait(20)
    go_on.set()
    assert all(done.wait(20) for done in measuring)


def test_an_evaluation_ends_before_its_next_score(studies):
    study, stop = studies["bert"], []
    with work(cancelled=lambda: bool(stop)):
        got = until_cancelled(stop.append(one) or one.n for one in evaluate(study.model, study.question))
    assert got == [64] and tiny.hooks(study.model) == 0
    assert score(study.model, study.question).final  # nothing of it stays open


def test_background_work_waits_in_the_middle_of_an_evaluation(studies):
    study, found = studies["bert"], []

    def listen():
        with work(turn=Turn.LAST):
            found.extend(evaluate(study.model, study.question))

    with TURNS.first():
        done = in_thread(listen)
        assert not done.wait(0.3) and found == []
        assert score(study.model, study.question).final  # whoever is first goes through
    assert done.wait(60) and found[-1].value == score(study.model, study.question).value


def test_a_sweep_keeps_what_was_finished(studies):
    study, store, rows = studies["bert"], CurveStore(), []
    with work(cancelled=lambda: len(rows) == 2):
        until_cancelled(rows.append(row) for row in sweep(study, ["variance"], [0, 0.25, 0.5], store=store))
    again = list(sweep(study, ["variance"], [0, 0.25, 0.5], store=store))
    assert again[:2] == rows and [row["sparsity"] for row in again] == [0, 0.5, 0.25]


def test_a_refit_ends_between_layers_and_leaves_the_model_alone():
    one = stage("bert", 60)
    model, batches, weights = one.measured.model, one.measured.solving_batches(), one.measured.gradients().weights
    plan, before, steps = bench_models.random_ranking(model, ("rows",)).plan(0.3), tiny.sha(model), []
    running = refit(model, plan, batches, {}, True, weights)
    with work(cancelled=lambda: len(steps) == 1):
        until_cancelled(steps.append(step) for step in running)
    assert [step.layer for step in steps] == [1] and isinstance(steps[0], Progress)
    assert (tiny.sha(model), tiny.hooks(model)) == (before, 0)


@pytest.fixture
def other_words(monkeypatch):
    """Every message says the same, so that none can have a meaning."""
    for module in list(sys.modules.values()):
        if getattr(module, "say", None) is say and module.__name__ not in (say.__module__, __name__):
            monkeypatch.setattr(module, "say", lambda text, *how_far: say("hm"))


@pytest.mark.parametrize("words", ["as they are", "others"])
def test_what_serves_everybody_is_measured_to_its_end_but_a_refit_is_not(words, request):
    if words == "others":
        request.getfixturevalue("other_words")
    one, recipe, heard = stage("bert", 60), Recipe("variance", replacement="refit"), []
    with work(cancelled=lambda: len(heard) > 0, hear=heard.append), pytest.raises(Cancelled):
        one.pruned(recipe, 0.3)  # nobody waits any more from the first message on
    said = heard[0]
    assert said.startswith("measuring ") if words == "as they are" else said == "hm"
    known = one.measured._kept.get("covariances")
    assert known is not None and known is one.measured.covariances()
    with work(hear=heard.append):
        one.pruned(recipe, 0.3)
    assert one._refitted.get((recipe, 0.3)) is not None


def test_a_refit_that_was_cancelled_in_the_middle_is_begun_anew_by_the_next_who_asks():
    one, recipe, heard = stage("bert", 60), Recipe("variance", replacement="refit"), []
    one.measured.gradients()
    with work(cancelled=lambda: heard[-1:] == ["refitting: layer 1 of 2"], hear=heard.append), pytest.raises(Cancelled):
        one.pruned(recipe, 0.3)
    assert heard[-1] == "refitting: layer 1 of 2" and one._refitted.get((recipe, 0.3)) is None
    alone = stage("bert", 60).pruned(recipe, 0.3)
    assert tiny.sha(one.pruned(recipe, 0.3)) == tiny.sha(alone)


def test_a_count_of_checkpoints_ends_any_of_them(studies):
    study = studies["bert"]
    for checkpoints in range(4):
        with work(cancelled=after(checkpoints)):
            assert until_cancelled(evaluate(study.model, study.question)) == []
