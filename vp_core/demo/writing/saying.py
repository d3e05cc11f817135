"""Scenes of language and of common sense: agreement, causes, opposites, sounds, trades, who answers whom."""

from vp_core.demo.writing.teller import Teller, capital, fact
from vp_core.demo.writing.words import article, noun, rows, words


def agreement(t: Teller) -> None:
    """Subjects whose verb comes late, at times with a noun of the other number in between."""
    for _ in range(t.rng.randint(1, 2)):
        several = t.chance(0.5)
        who = noun(t.rng.choice(rows("animals", "sounds"))[0]) if t.chance(0.4) else t.new("people", "others")
        by = f"{t.pick(*words('others', 'near'))} the {t.new('things', 'others').form(t.chance(0.5))}"
        verb, state = t.pick(*words("others", "verbs")).split("/")[several], t.pick(*words("others", "states"))
        are, were = ("are", "were") if several else ("is", "was")
        some, subject, friend = f"some {who.many}" if several else article(who.one), f"the {who.form(several)}", t.others()[0]
        t.say(
            f"{subject} {by} {fact(were)} {state}.",
            f"{subject} that {friend} saw {by} {fact(were)} {state}.",
            f'"{subject} {by} {fact(are)} {state}," said {friend}.',
            f'"Look, {subject} {by} {verb}!" said {friend}.',
            f"There {were} {some} {by}, and the {fact(who.form(several))} {fact(were)} {state}.",
        )


def needing(t: Teller) -> None:
    """An animal or several need something, and get it."""
    several = t.chance(0.5)
    animal = noun(t.rng.choice(rows("animals", "sounds"))[0])
    state, want, gift = t.rng.choice(rows("others", "wants"))
    who, where = t.others()[0], t.new("things", "others")
    they, them, were = ("they", "them", "were") if several else ("it", "it", "was")
    some = animal.counted(t.rng.randint(2, 5)) if several else article(animal.one)
    t.say(f"{who} saw {some} behind the {where}.", f"Behind the {where} {who} met {some}.")
    t.say(
        f"The {fact(animal.form(several))} {fact(were)} {state}, so {fact(they)} {fact(want)}.",
        f"{they} {fact(were)} {state} and {fact(want)}.",
    )
    t.say(f"{who} gave {fact(them)} {fact(gift)}.", f"{who} fetched {fact(gift)} and gave it to {fact(them)}.")
    t.remember(f"what {who} gave to the {animal.form(several)}", f"{who.he} gave {them} {fact(gift)}")


def causes(t: Teller) -> None:
    """Something happens, something follows, somebody does what helps; told forwards or backwards."""
    happened, had, result, act = t.rng.choice(rows("causes", "all"))
    who, asker = t.others()[:2]
    did = act.format(a=who, his=who.his).removeprefix(f"{who} ")
    if t.chance(0.5):
        t.say(f"{happened}, so {fact(result)}.", f"{happened}. {capital(fact(result))}.")
        t.say(f"Because {fact(result)}, {who} {fact(did)}.", f"So {who} {fact(did)}.")
    else:
        t.say(f"{result}.")
        t.say(f"That was because {fact(had)}.", f'"Why?" asked {asker}. "Because {fact(happened)}," said {who}.')
        t.say(f"So {who} {fact(did)}.", f"Then {who} {fact(did)}.")
    t.remember(f"why {result}", f"because {fact(happened)}")


def meeting(t: Teller) -> None:
    """Two people meet: each says the other's name."""
    one, two = t.others()[:2]
    when = t.pick("morning", "evening", "afternoon")
    t.say(f'"Good {when}, {two}," said {one}.', f'{one} met {two}. "Good {when}, {fact(two)}," said {fact(one)}.')
    t.say(f'"Good {fact(when)}, {fact(one)}," said {fact(two)}.', f'"Good {fact(when)} to you too," said {fact(two)}.')
    thing, state = t.thing(), t.pick("nice", "small", "beautiful", "strange", "useful")
    t.say(f'"I have {thing.whole} for you," said {one}.', f'"Look what I have: {thing.whole}!" said {one}.')
    t.say(
        f'"What a {state} {fact(thing)}!" said {fact(two)}.',
        f'"Thank you for the {fact(thing)}, {fact(one)}," said {fact(two)}.',
    )
    t.remember(f"what {one} had", f"{one.he} had {fact(thing.whole)}")


def hearing(t: Teller) -> None:
    """A sound, and whose it is."""
    (name, did, sound), (second, also, _) = t.rng.sample(rows("animals", "sounds"), 2)
    one, another, where = noun(name).one, article(noun(second).one), t.new("things", "others")
    who, other = t.others()[:2]
    t.say(f"{who} heard {sound} behind the {where}.", f'"I hear {sound}," said {who}.')
    t.say(f'"It must be {fact(article(one))}," said {other}.', f"It was {fact(article(one))}.")
    t.say(f"The {fact(one)} {fact(did)} again, and {another} {fact(also)} too.", f"Then {another} came and {fact(also)}.")


def trades(t: Teller) -> None:
    """What somebody is, and so does."""
    who, other = t.others()[:2]
    mine, yours = t.rng.sample(rows("others", "jobs"), 2)
    t.say(
        f"{who} was {article(mine[0])}, and {other} was {article(yours[0])}.",
        f"{who} worked as {article(mine[0])} and {other} as {article(yours[0])}.",
    )
    t.say(
        f"Every day {who} {fact(mine[1])}, and {other} {fact(yours[1])}.",
        f"Every day {other} {fact(yours[1])}, and {who} {fact(mine[1])}.",
    )
    t.say(
        f"The {mine[0]} needed {who.his} {fact(mine[2])}.", f'"I cannot work without my {fact(yours[2])}," said {fact(other)}.'
    )
    t.remember(f"what {who} was", f"{who.he} was {fact(article(mine[0]))}")


def opposites(t: Teller) -> None:
    """Two things of a kind, each the opposite of the other; somebody chooses."""
    what, pair = t.new("containers"), t.pick(*words("others", "opposites")).split("/")
    left, right = t.rng.sample(pair, 2)
    who, other = t.others()[:2]
    t.say(f"There were two {what.many}. One {what} was {left}, but the other one was {fact(right)}.")
    t.say(f"{who} took the {left} {fact(what)}, so {other} got the {fact(right)} one.")
    t.say(f'"Mine is {fact(left)}," said {fact(who)}.', f'"Why is mine {fact(right)}?" asked {fact(other)}.')
    t.remember(f"which {what} {other} got", f"the {fact(right)} one")
