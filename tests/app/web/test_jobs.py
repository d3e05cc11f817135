"""Jobs that go on while pages come and go."""

import threading

import pytest

from app.web import jobs
from app.web.jobs import Job, Said
from vp_core.ground.errors import VPError
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
    said, told, go_on = Said(), threading.Event(), threading.Event()

    def work():
        say("refitting: layer 1 of 2")
        told.set()
        go_on.wait(20)
        yield 1

    waiting = Job(lambda: iter([go_on.wait(20)]), said=said).start("me")
    job = Job(work, said=said).start("me")
    assert told.wait(20)
    assert said.about(job) == said.about(waiting) == said.of(job) == "refitting: layer 1 of 2"
    assert said.of(waiting) == ""
    go_on.set()
    wait_until_done(job)
    assert said.about(job) == ""  # what is done says nothing more


def test_what_another_thread_measures_is_said_too():
    said, go_on = Said(), threading.Event()
    waiting = Job(lambda: iter([go_on.wait(20)]), said=said).start("me")
    with said.hearing("a download"):
        say("measuring covariances")
        assert said.about(waiting) == "measuring covariances" and said.of(waiting) == ""
    say("nobody hears this")
    assert said.about(waiting) == ""
    go_on.set()
    wait_until_done(waiting)


@pytest.mark.parametrize("words", ["refitting: layer {} of 2", "solving layer {} of 2"])
def test_a_refit_that_nobody_waits_for_is_left_but_what_serves_all_sparsities_is_not(words):
    said, steps, stop = Said(), [], threading.Event()

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

    job = Job(work, said=said).start("me")
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
