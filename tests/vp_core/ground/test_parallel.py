"""Work in order on many threads, that waits for its turn and can be cancelled."""

import threading

import pytest
from cancelling import after, until_cancelled

from vp_core.ground.parallel import WORKERS, in_parallel
from vp_core.ground.work import TURNS, Turn, work


def test_results_in_order_and_each_once():
    done = []

    def work(i):
        done.append(i)
        return i * i

    assert list(in_parallel(work, range(50))) == [i * i for i in range(50)]
    assert sorted(done) == list(range(50))


def test_errors_reach_the_caller_and_the_pool_lives_on():
    def work(i):
        if i == 3:
            raise RuntimeError("three")
        return i

    found = []
    with pytest.raises(RuntimeError, match="three"):
        for value in in_parallel(work, range(10)):
            found.append(value)
    assert found == [0, 1, 2]
    assert list(in_parallel(work, [1, 2])) == [1, 2]


def test_closing_drops_what_has_not_begun():
    begun = []
    running = in_parallel(begun.append, range(10_000))
    next(running)
    running.close()
    assert len(begun) <= 1 + 2 * WORKERS + 1


@pytest.mark.parametrize("checkpoints", [0, 1, 50, 51])
def test_cancelling_drops_what_has_not_begun(checkpoints):
    begun = []
    with work(cancelled=after(checkpoints)):
        found = until_cancelled(in_parallel(lambda i: begun.append(i) or i, range(10_000)))
    assert found == list(range(len(found))) and set(found) <= set(begun)
    assert max(checkpoints - 2 * WORKERS, 0) <= len(found) <= len(begun) <= checkpoints


def test_cancelling_drops_results_that_nobody_waits_for():
    """All have been handed to the pool by the first result; the rest is not waited for."""
    found = []
    with work(cancelled=lambda: bool(found)):
        until_cancelled(found.append(i) for i in in_parallel(lambda i: i, range(WORKERS)))
    assert found == [0]


@pytest.mark.parametrize("background", [True, False])
def test_background_work_waits_while_somebody_is_served(background):
    begun, finished = threading.Event(), threading.Event()

    def listen():
        with work(turn=Turn.LAST if background else Turn.FIRST):
            list(in_parallel(lambda _i: begun.set(), range(3)))
        finished.set()

    with TURNS.first(), TURNS.first():
        threading.Thread(target=listen, daemon=True).start()
        assert begun.wait(0.3) != background
    assert finished.wait(30)


ENDING = """
import threading, time
from vp_core.ground.parallel import in_parallel

def halves():
    print(len(list(in_parallel(lambda i: time.sleep(0.2) or i, range(100)))), flush=True)

threading.Thread(target=halves, daemon=True).start()
time.sleep(0.5)
"""


def test_a_process_that_ends_leaves_no_half_answers(python):
    out, err = python(ENDING).communicate(timeout=300)
    assert (out, err) == ("", "")


def test_work_of_the_pool_that_asks_for_more_does_not_wait_for_itself():
    def outer(i):
        return sum(in_parallel(lambda j: 10 * i + j, range(3)))

    assert list(in_parallel(outer, range(8))) == [30 * i + 3 for i in range(8)]
