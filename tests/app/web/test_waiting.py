"""The jobs that a visitor follows, and how far one says it is."""

import threading

import pytest

from app.web import waiting
from app.web.jobs import Job
from app.web.settings import Settings
from app.web.visitor import Visitor
from app.web.waiting import begin, follow, following, forget, leave, progress_line
from vp_core.ground.work import checkpoint


@pytest.fixture
def me(monkeypatch):
    visitor = Visitor(Settings(), [])
    monkeypatch.setattr(waiting, "visitor", lambda: visitor)
    return visitor


@pytest.fixture
def go_on():
    event = threading.Event()
    yield event
    event.set()


def endless(go_on):
    """A job that works until nobody wants it; whoever starts it is the first to look."""

    def numbers():
        while not go_on.wait(0.001):
            checkpoint()
        yield 1

    return Job(numbers, total=2)


def ended(job):
    job.wait(10**9, timeout=60)
    return job.done


def test_one_job_as_long_as_the_question_is_the_same(me, go_on):
    first = follow("score", "a", lambda: endless(go_on).start(me.name))
    assert follow("score", "a", lambda: pytest.fail("another one")) is first and not first.job.stopped()
    second = follow("score", "b", lambda: endless(go_on).start(me.name))
    assert first.job.stopped() and not second.job.stopped() and ended(first.job)


def test_what_stopped_because_nobody_looked_is_begun_anew_and_what_was_left_is_not(me, go_on):
    first = follow("curve", "a", lambda: endless(go_on).start(me.name))
    first.job.cancel(me.name)  # as if the visitor had been away
    assert ended(first.job)
    second = follow("curve", "a", lambda: endless(go_on).start(me.name))
    assert second is not first
    leave("curve")
    assert ended(second.job)
    assert follow("curve", "a", lambda: pytest.fail("it was left")) is second and second.left
    forget("curve")  # the visitor wants it to go on
    assert follow("curve", "a", lambda: endless(go_on).start(me.name)) is not second


def test_where_nothing_starts_by_itself(me, go_on):
    assert following("compare", "a") is None
    begun = begin("compare", "a", lambda: endless(go_on).start(me.name))
    assert following("compare", "a") is begun
    assert following("compare", "b") is None and begun.job.stopped()


def test_who_left_a_shared_job_can_come_back_to_it(me, go_on):
    shared = endless(go_on).start("another")

    def start():
        shared.look(me.name)
        return shared

    begin("compare", "a", start)
    leave("compare")
    assert not shared.stopped()  # the other one still looks
    begin("compare", "a", start)
    shared.cancel("another")
    assert not shared.stopped()


def test_to_wait_is_for_more_than_was_shown(me):
    followed = follow("score", "a", lambda: Job(lambda: iter([1, 2])).start(me.name))
    assert ended(followed.job)
    followed.wait(60)
    assert followed.seen == 2


def test_how_far_a_job_is_in_one_line():
    job: Job[int] = Job(lambda: iter([]), total=30)
    assert progress_line(job, 0, "points", "", "") == "0 of 30 points"
    job.items, job.seconds = [1], [0.0]
    assert progress_line(job, 1, "points", "mean at 30%") == "1 of 30 points · mean at 30%"
    job.items, job.seconds = [1, 2, 3], [0.0, 0.5, 1.0]
    line = progress_line(job, 3, "points", "refit at 30%", "refitting: layer 2 of 6")
    assert line == "3 of 30 points, about 14 s left · refit at 30% · refitting: layer 2 of 6"
