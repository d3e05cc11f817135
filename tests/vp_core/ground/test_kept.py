"""Results by key: each once, in any number of threads, bounded with its locks."""

import threading

import pytest

from vp_core.ground.kept import Kept
from vp_core.ground.work import TURNS, Cancelled, Turn, checkpoint, say, turn_now, work


def test_each_once_and_those_that_came_first_go():
    kept, made = Kept(most=2), []
    for key in (1, 2, 1, 3, 1):
        assert kept.once(key, lambda key=key: made.append(key) or key * 10) == key * 10
    assert made == [1, 2, 3, 1] and len(kept) == 2 and kept.get(2) is None and kept.get(1) == 10


def test_nothing_is_a_result_too():
    kept, made = Kept(), []
    assert [kept.once("key", lambda: made.append(1)) for _ in range(2)] == [None, None] and made == [1]


def test_threads_that_ask_at_once_get_one_result():
    kept, made, found, begin = Kept(), [], [], threading.Barrier(16)

    def ask(number):
        begin.wait(20)
        found.append(kept.once(number % 4, lambda: made.append(number % 4) or object()))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(made) == [0, 1, 2, 3] and len(set(found)) == 4 and len(found) == 16


def test_another_key_does_not_wait():
    kept, begun, go_on = Kept(), threading.Event(), threading.Event()
    slow = threading.Thread(target=kept.once, args=("slow", lambda: (begun.set(), go_on.wait(20))))
    slow.start()
    assert begun.wait(20) and kept.once("quick", lambda: 1) == 1 and kept.get("slow") is None
    go_on.set()
    slow.join(20)
    assert kept.get("slow") == (None, True)


def test_a_result_may_need_others_of_the_same():
    kept = Kept()

    def factorial(n):
        return 1 if n == 0 else n * kept.once(n - 1, lambda: factorial(n - 1))

    assert kept.once(5, lambda: factorial(5)) == 120 and len(kept) == 6


def test_what_raised_is_computed_again():
    kept = Kept()
    with pytest.raises(ZeroDivisionError):
        kept.once("key", lambda: 1 // 0)
    assert len(kept) == 0 and kept.once("key", lambda: 1) == 1


def test_locks_are_those_of_keys_that_are_asked_for_now():
    kept, held = Kept(most=8), []
    for key in range(1000):
        kept.once(key, lambda: held.append(len(kept._asked)))
    with pytest.raises(ZeroDivisionError):
        kept.once("broken", lambda: 1 // 0)
    assert set(held) == {1} and len(kept._asked) == 0 and len(kept) == 8


def test_again_replaces_what_is_there_and_bounds_hold():
    kept = Kept(most=2)
    kept.put("a", 1), kept.put("b", 2)
    assert kept.once("a", lambda: 5, again=lambda found: found > 1) == 1
    assert kept.once("a", lambda: 5, again=lambda found: found == 1) == 5
    assert kept.get("a") == 5 and kept.get("b") == 2 and len(kept) == 2


@pytest.mark.parametrize("cancellable", [False, True])
def test_what_everybody_may_ask_for_goes_to_its_end(cancellable):
    kept = Kept(cancellable=cancellable)
    with work(cancelled=lambda: True):
        if cancellable:
            with pytest.raises(Cancelled):
                kept.once("key", lambda: checkpoint() or "found")
            assert kept.get("key") is None
        else:
            assert kept.once("key", lambda: checkpoint() or "found") == "found"
        with pytest.raises(Cancelled):
            checkpoint()  # the one who asked has left, as before


@pytest.mark.parametrize("cancellable", [False, True])
def test_the_first_does_not_wait_for_background_work_that_waits_for_it(cancellable):
    kept, begun, go_on, found = Kept(cancellable=cancellable), threading.Event(), threading.Event(), []

    def compute():
        begun.set()
        go_on.wait(20)
        checkpoint()
        return turn_now()

    def in_background():
        with work(turn=Turn.LAST):
            found.append(kept.once("key", compute))

    thread = threading.Thread(target=in_background, daemon=True)
    thread.start()
    assert begun.wait(20)
    with TURNS.first():
        go_on.set()
        assert kept.once("key", lambda: None) == Turn.FIRST  # would wait for ever for work that waits at the gate
    thread.join(20)
    assert found == [Turn.FIRST]


def test_who_waits_hears_what_it_waits_for_also_from_within_and_not_a_moment_longer():
    kept, inner, heard, begun, come, go_on = Kept(), Kept(), {}, threading.Event(), threading.Event(), threading.Event()

    def compute():
        say("first")
        inner.once("inner", lambda: say("second: step", 1, 2))
        begun.set()
        come.wait(20)
        say("third")

    def ask(name, then=lambda: None):
        with work(hear=heard.setdefault(name, []).append):
            kept.once("key", compute)
            then()

    one = threading.Thread(target=ask, args=("one",))
    one.start()
    assert begun.wait(20)
    late = threading.Thread(target=ask, args=("late", lambda: (go_on.wait(20), say("alone"))))
    late.start()
    while not heard.get("late"):
        assert late.is_alive()
    come.set()
    one.join(20)
    kept.once("key", compute)
    go_on.set()
    late.join(20)
    assert heard == {"one": ["first", "second: step 1 of 2", "third"], "late": ["second: step 1 of 2", "third", "alone"]}


def test_what_was_said_before_an_error_is_not_said_to_the_next_who_asks():
    kept, heard = Kept(), []
    with pytest.raises(ZeroDivisionError):
        kept.once("key", lambda: (say("in vain"), 1 // 0))
    with work(hear=heard.append):
        assert kept.once("key", lambda: 1) == 1
    assert heard == []
