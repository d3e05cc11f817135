"""Scenes with numbers: how many, how much, which day, who was first."""

from collections.abc import Callable

from vp_core.demo.writing.teller import Teller, fact
from vp_core.demo.writing.words import NUMBERS, held_out, listing, words

MOST = len(NUMBERS) - 1


def drawn(t: Teller, draw: Callable[[], tuple[int, int]], fits: Callable[[int, int], bool]) -> tuple[int, int]:
    """Two numbers that fit; in the training text none of those kept for the test text."""
    while True:
        pair = draw()
        if fits(*pair) and (t.split == "test" or not held_out(*pair)):
            return pair


def change(t: Teller, number: int, least: int = 0) -> int:
    """How many come (or go, if negative), so that between `least` and `MOST` are there."""
    steps = (1, 1, 2, 2, 3, 4, 5, 6)
    return drawn(t, lambda: (number, t.rng.choice(steps) * t.rng.choice((1, -1))), lambda a, b: least <= a + b <= MOST)[1]


def counting(t: Teller) -> None:
    """Things come and go, and are counted."""
    what, who, number = t.new(kind := t.pick("food", "toys")), t.others()[0], t.rng.randint(1, 10)
    t.say(f"{who} had {what.counted(number)}.", f"On {who}'s table {'were' if number > 1 else 'was'} {what.counted(number)}.")
    for _ in range(t.rng.randint(1, 3)):
        step, other = change(t, number), t.others(who)[0]
        size = abs(step)
        if step > 0:
            some = t.pick(what.counted(size), f"{NUMBERS[size]} more")
            t.say(f"{other} gave {who.him} {some}.", f"{who.he} got {some} from {other}.", f"Then {who} found {some}.")
        else:
            few = t.pick(what.counted(size), f"{NUMBERS[size]} of them")
            did = t.pick("ate", "cut up") if kind == "food" else t.pick("lost", "sold")
            t.say(f"{who.he} gave {few} to {other}.", f"{who.he} {did} {few}.", f"{other} took {few}.")
        number += step
        left = f"{fact(NUMBERS[number])} {fact(what.form(number != 1))}"
        t.say(f"Now {who} had {left}.", f"That {'made' if step > 0 else 'left'} {left}.")
    if t.chance(0.4):
        t.say(f'"How many {what.many} do you have, {who}?" asked {t.others(who)[0]}.')
        t.say(f'"I have {fact(NUMBERS[number])}," said {fact(who)}.', f'"{NUMBERS[number]}," said {fact(who)}.')
    t.remember(f"how many {what.many} {who} had in the end", f"{who.he} had {fact(NUMBERS[number])}")


def shopping(t: Teller) -> None:
    """A price, a number of things, a sum to pay, and what is left of the money."""
    what, who = t.new("food"), t.others()[0]
    price, number = drawn(t, lambda: (t.rng.randint(1, 5), t.rng.randint(1, 6)), lambda a, b: a * b <= MOST)
    cost = price * number
    t.say(f"One {what} cost {coins(price)}.", f"{who} went to the shop, where one {what} cost {coins(price)}.")
    t.say(f"{who} bought {what.counted(number)} and paid {fact(coins(cost))}.")
    if cost < MOST and t.chance(0.6):
        had, change = drawn(t, lambda: (t.rng.randint(cost + 1, min(cost + 6, MOST)), -cost), lambda a, b: True)
        t.say(f"Before that {fact(who.he)} had {coins(had)}, and now {fact(who.he)} had {fact(coins(had + change))}.")
    t.remember(f"what {who} paid", f"{who.he} paid {fact(coins(cost))}")


def coins(number: int) -> str:
    """ "one coin", "two coins"."""
    return f"{NUMBERS[number]} coin{'s' * (number != 1)}"


def ages(t: Teller) -> None:
    """How old everybody is, one by another."""
    one, two, three = t.others()[:3]
    age = t.rng.randint(4, 12)
    step = change(t, age, 2)
    other = age + step
    years = f"{NUMBERS[abs(step)]} year{'s' * (abs(step) != 1)}"
    t.say(f"{one} was {NUMBERS[age]} years old, and {two} was {years} {'older' if step > 0 else 'younger'}.")
    t.say(f'"How old is {two}?" asked {three}.', f"{three} did not know how old {two} was.")
    t.say(
        f'"{two} is {fact(NUMBERS[other])} years old," said {fact(one)}.',
        f'"I am {fact(NUMBERS[other])}," said {fact(two)}.',
    )
    t.say(f"So {fact(two if step > 0 else one)} was older than {fact(one if step > 0 else two)}.")
    t.remember(f"how old {two} is", f"{two.he} is {fact(NUMBERS[other])}")


def week(t: Teller) -> None:
    """Day after day, a task each."""
    days, who = words("others", "days"), t.others()[0]
    start, tasks = t.rng.randrange(7), t.rng.sample(words("others", "tasks"), 3)
    t.say(f"On {days[start]} {who} {tasks[0]}.")
    t.say(
        f"On {fact(days[(start + 1) % 7])} {fact(who.he)} {tasks[1]}.",
        f"The next day, on {fact(days[(start + 1) % 7])}, {fact(who.he)} {tasks[1]}.",
    )
    if t.chance(0.5):
        step = t.rng.randint(2, 4)
        t.say(f"{NUMBERS[step]} days later, on {fact(days[(start + 1 + step) % 7])}, {fact(who.he)} {tasks[2]}.")
    else:
        t.say(f"And on {fact(days[(start + 2) % 7])} {fact(who.he)} {tasks[2]}.")
    at = t.rng.randrange(2)
    t.remember(f"what {who} did on {days[(start + at) % 7]}", f"{who.he} {fact(tasks[at])}")


def racing(t: Teller) -> None:
    """Who is faster than whom, and so who comes first and last."""
    first, second, third = cast = t.others()[:3]
    where = t.new("things", "others")
    t.rng.shuffle(cast)
    t.say(f"{listing([str(person) for person in cast])} ran to the {where}.")
    claims = [f"{first} was faster than {second}", f"{second} was faster than {third}"]
    t.say(f"{claims[0]}, and {claims[1]}.", f"{claims[1]}, but {claims[0]}.")
    t.say(
        f"So {fact(first)} came first, {fact(second)} came second and {fact(third)} came last.",
        f"So {fact(first)} won, and {fact(third)} came last.",
        f"{first} was at the {fact(where)} before the others, and {fact(third)} after them.",
    )
    if t.chance(0.5):
        t.say(
            f'"Well done, {fact(first)}!" said {t.pick(str(second), str(third))}.',
            f'"I am always the last," said {fact(third)}.',
        )
    t.remember("who won the race", f"{fact(first)} won it")
