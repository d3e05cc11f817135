"""Jobs that go on while pages come and go."""

import threading

import pytest

from app.web import jobs
from app.web.jobs import Job
from vp_core.ground.errors import VPError
from vp_core.ground.kept import Kept
from vp_core.ground.work import Turn, checkpoint, say, to_the_end, turn_now


def wait_until_done(job: Job) -> None:
    job.wait(10**9, timeout=120)
    assert job.done


def test_items_arrive_and_the_end_is_told():
    job = Job(lambda: iter([1, 2, 3]), total=3).start("me")
    wait_until_done(job)
    assert job.items == [1, 2, 3] and job.error is None


def test_a_shared_job_goes_on_until_the_last_visitor_cancels():
    go_on = threading.Event()

    def numbers():
        for number in range(10**6):
            go_on.wait(0.001)
            checkpoint()
            yield number

    job = Job(numbers).start("first")
    job.look("second")
    job.cancel("first")
    job.wait(len(job.items), timeout=120)
    assert not job.stopped() and not job.done
    job.cancel("second")
    wait_until_done(job)
    assert job.items == list(range(len(job.items))) and job.error is None


def test_a_job_nobody_looks_at_stops(monkeypatch):
    monkeypatch.setattr(jobs, "ABANDONED_AFTER", 0.05)

    def numbers():
        while True:
            checkpoint()
            yield 0

    wait_until_done(Job(numbers).start("gone"))


def test_what_the_user_can_mend_is_told_in_one_sentence():
    def broken():
        yield 1
        raise VPError("This is wrong: do that.")

    job = Job(broken).start("me")
    wait_until_done(job)
    assert job.items == [1] and job.error == "This is wrong: do that."


def test_seconds_left_is_the_mean_time_of_the_rest():
    job: Job[int] = Job(lambda: iter([]), total=10)
    assert job.seconds_left() is None
    job.items, job.seconds = [1, 2], [3.0, 5.0]
    assert job.seconds_left() == 32.0


def test_what_is_said_is_that_of_the_job_or_of_what_it_waits_for():
    kept, told, go_on = Kept(), threading.Event(), threading.Event()

    def compute():
        say("measuring covariances: batch", 2, 4)
        told.set()
        go_on.wait(20)

    job = Job(lambda: iter([kept.once("key", compute)])).start("me")
    assert told.wait(20)
    waiting = Job(lambda: iter([kept.once("key", compute)])).start("me")
    alone = Job(lambda: iter([go_on.wait(20)])).start("me")
    while not waiting.stages.now:
        assert not waiting.done
    assert job.stages.now == waiting.stages.now == "measuring covariances: batch 2 of 4"
    assert (waiting.stages.stage, alone.stages.now, alone.stages.stage) == ("measuring covariances", "", "")
    go_on.set()
    wait_until_done(job)
    wait_until_done(waiting)
    assert job.stages.now == waiting.stages.now == ""  # what is done says nothing more


def test_the_stages_before_the_first_item_are_kept():
    def work():
        say("measuring covariances")
        say("scoring")
        yield 1
        say("measuring gradients")
        yield 2

    job = Job(work).start("me")
    wait_until_done(job)
    assert [stage.name for stage in job.before] == ["measuring covariances"]  # scoring went on when the item came
    assert [stage.name for stage in job.stages.all] == ["measuring covariances", "scoring", "measuring gradients"]


@pytest.mark.parametrize("words", ["refitting: layer {} of 2", "solving layer {} of 2"])
def test_a_refit_that_nobody_waits_for_is_left_but_what_serves_all_sparsities_is_not(words):
    steps, stop = [], threading.Event()

    def work():
        stop.wait(20)
        with to_the_end():
            for text in ("measuring covariances", "measuring gradients"):
                say(text)
                checkpoint()
                steps.append(text)
        for layer in (1, 2):
            checkpoint()
            say(words.format(layer))
            steps.append(layer)
        yield 1

    job = Job(work).start("me")
    job.cancel("me")
    stop.set()
    wait_until_done(job)
    assert steps == ["measuring covariances", "measuring gradients"] and job.items == [] and job.error is None


def test_a_job_for_everybody_goes_to_its_end():
    stop = threading.Event()

    def numbers():
        stop.wait(20)
        for number in range(3):
            checkpoint()
            yield number

    job = Job(numbers, to_the_end=True).start("me")
    job.cancel("me")
    stop.set()
    wait_until_done(job)
    assert job.items == [0, 1, 2] and job.stopped()


@pytest.mark.parametrize("turn", Turn)
def test_a_job_works_at_its_turn(turn):
    def now():
        yield turn_now()

    job = Job(now, turn=turn).start("me")
    wait_until_done(job)
    assert job.items == [turn] and turn_now() == Turn.FIRST
