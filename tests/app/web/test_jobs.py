"""Jobs that go on while pages come and go."""

import threading

from app.web import jobs
from app.web.jobs import Job, News
from vp_core.ground.errors import VPError


def wait_until_done(job: Job) -> None:
    job.wait(10**9, timeout=120)
    assert job.done


def test_items_arrive_and_the_end_is_told():
    job = Job(lambda stopped: iter([1, 2, 3]), total=3).start("me")
    wait_until_done(job)
    assert job.items == [1, 2, 3] and job.error is None


def test_a_shared_job_goes_on_until_the_last_visitor_cancels():
    go_on = threading.Event()

    def numbers(stopped):
        for number in range(10**6):
            go_on.wait(0.001)
            if stopped():
                return
            yield number

    job = Job(numbers).start("first")
    job.look("second")
    job.cancel("first")
    job.wait(len(job.items), timeout=120)
    assert not job.stopped() and not job.done
    job.cancel("second")
    wait_until_done(job)
    assert job.items == list(range(len(job.items)))


def test_a_job_nobody_looks_at_stops(monkeypatch):
    monkeypatch.setattr(jobs, "ABANDONED_AFTER", 0.05)

    def numbers(stopped):
        while not stopped():
            yield 0

    wait_until_done(Job(numbers).start("gone"))


def test_what_the_user_can_mend_is_told_in_one_sentence():
    def broken(stopped):
        yield 1
        raise VPError("This is wrong: do that.")

    job = Job(broken).start("me")
    wait_until_done(job)
    assert job.items == [1] and job.error == "This is wrong: do that."


def test_seconds_left_is_the_mean_time_of_the_rest():
    job: Job[int] = Job(lambda stopped: iter([]), total=10)
    assert job.seconds_left() is None
    job.items, job.seconds = [1, 2], [3.0, 5.0]
    assert job.seconds_left() == 32.0


def test_news_are_those_of_the_job_or_of_what_it_waits_for():
    news, told, go_on = News(), threading.Event(), threading.Event()

    def work(stopped):
        with news.working(stopped):
            news("refitting: layer 1 of 2")
            told.set()
            go_on.wait(20)
            yield 1

    waiting = Job(lambda stopped: iter([go_on.wait(20)])).start("me")
    job = Job(work).start("me")
    assert told.wait(20)
    assert news.about(job) == news.about(waiting) == news.of(job) == "refitting: layer 1 of 2"
    assert news.of(waiting) == ""
    go_on.set()
    wait_until_done(job)
    assert news.about(job) == ""  # what is done is no news


def test_a_refit_that_nobody_waits_for_is_left_but_what_serves_all_sparsities_is_not():
    news, steps, stop = News(), [], threading.Event()

    def work(stopped):
        with news.working(stopped):
            for text in ("measuring covariances", "refitting: layer 1 of 2", "refitting: layer 2 of 2"):
                stop.wait(20)
                news(text)
                steps.append(text)
            yield 1

    job = Job(work).start("me")
    job.cancel("me")
    stop.set()
    wait_until_done(job)
    assert steps == ["measuring covariances"] and job.items == [] and job.error is None
