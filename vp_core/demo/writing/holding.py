"""Scenes of things and places: who has it, where is it, what is left."""

from vp_core.demo.writing.teller import Teller, colours_of, fact
from vp_core.demo.writing.words import article, listing


def passing(t: Teller) -> None:
    """A thing goes from hand to hand, at times into a box at the end."""
    thing, holder = t.thing(), t.others()[0]
    t.say(
        f"{holder} had {thing.whole}.",
        f"One day {holder} found {thing.whole}.",
        f"{holder} got {thing.whole} from {holder.his} aunt.",
        f"There was {thing.whole} on the table, and {holder} took it.",
    )
    for _ in range(t.rng.randint(1, 3)):
        taker = t.others(holder)[0]
        t.say(
            f"{holder} gave the {thing} to {taker}.",
            f"Then {holder} handed the {thing} to {taker}.",
            f"{taker} asked for the {thing}, and {fact(holder)} gave it to {fact(taker.him)}.",
            f"Then {taker} took the {thing} from {fact(holder)}.",
            f"{holder} did not need the {thing} any more and gave it to {taker}.",
        )
        if t.chance(0.4):
            t.say(f'"Thank you, {fact(holder)}," said {fact(taker)}.', f'"Take good care of it," said {fact(holder)}.')
        holder = taker
    asker, other = t.others(holder)[:2]
    if t.chance(0.4):
        box = t.new("containers")
        t.say(f"{holder} put the {thing} into the {box}.", f"{holder} hid the {thing} in {article(box.one)}.")
        t.say(f'"Where is the {thing}?" asked {asker}.')
        t.say(
            f'"It is in the {fact(box)}," said {other}.',
            f'"I put it into the {fact(box)}," said {fact(holder)}.',
            f"It was in the {fact(box)}.",
        )
        t.remember(f"where the {thing} is", f"the {thing} is in the {fact(box)}")
    else:
        t.say(f'"Who has the {thing} now?" asked {asker}.')
        t.say(
            f'"{holder} has it," said {other}.',
            f'"I have it," said {fact(holder)}.',
            f"It was {fact(holder)} who had it.",
        )
        t.remember(f"who has the {thing}", f"{fact(holder)} has the {thing}")


def moving(t: Teller) -> None:
    """Two people walk from place to place, and a third looks for one of them."""
    one, two, asker = t.others()[:3]
    places, before = {}, None
    for person in (one, two):
        places[person] = t.place()
        t.say(f"{person} went to the {places[person][1]}.", f"{person} was {' '.join(places[person])}.")
    for _ in range(t.rng.randint(0, 2)):
        walker = t.rng.choice((one, two))
        before, places[walker] = places[walker], t.place()
        goal = places[walker][1]
        t.say(
            f"Then {walker} left the {fact(before[1])} and went to the {goal}.",
            f"Later {walker} ran to the {goal}.",
            f"After that {walker} walked to the {goal}.",
        )
    sought = walker if before else t.rng.choice((one, two))
    other = two if sought is one else one
    if t.chance(0.3):
        sought, other, before = other, sought, None
    at, name = places[sought]
    if before and t.chance(0.5):
        t.say(f'"Is {sought} still {" ".join(before)}?" asked {asker}.')
        t.say(f'"{fact("No")}, {fact(sought.he)} is {at} {fact(name)}," said {other}.')
    else:
        t.say(f'"Where is {sought}?" asked {asker}.')
        t.say(
            f'"{sought} is {at} {fact(name)}," said {other}.',
            f"{asker} found {fact(sought.him)} {at} {fact(name)}.",
            f'"{sought.he} is {at} {fact(name)}," said {other}.',
        )


def carrying(t: Teller) -> None:
    """Somebody carries a thing to a place, leaves it there and goes on."""
    who, thing, found, left, end = t.others()[0], t.thing(), t.place(), t.place(), t.place()
    t.say(
        f"{who} found {thing.whole} {' '.join(found)}.", f"{' '.join(found)} there was {thing.whole}, and {who} picked it up."
    )
    t.say(f"{who} carried the {thing} to the {left[1]}.", f"{who.he} took it to the {left[1]}.")
    t.say(
        f"{who.he} left the {fact(thing)} there and went to the {end[1]}.",
        f"There {who} put it down and walked on to the {end[1]}.",
    )
    asker = t.others(who)[0]
    if t.chance(0.3):
        t.say(f'"Where are you, {who}?" asked {asker}.')
        t.say(f'"I am {end[0]} {fact(end[1])}," said {fact(who)}.')
    t.say(f'"Where is the {thing} now?" asked {asker}.', f"Now {asker} wanted the {thing}.")
    t.say(f"The {fact(thing)} was {left[0]} {fact(left[1])}.", f'"It is still {left[0]} {fact(left[1])}," said {fact(who)}.')
    t.remember(f"where the {thing} is", f"the {thing} is {left[0]} {fact(left[1])}")


def unpacking(t: Teller) -> None:
    """A list of things in a box: some are taken out, the others stay, in their order."""
    box, things = t.new("containers"), [t.new("small") for _ in range(t.rng.randint(3, 4))]
    who = t.others()[0]
    names = [article(thing.one) for thing in things]
    t.say(f"In the {box} there were {listing(names)}.", f"{who} put {listing(names)} into the {box}.")
    for _ in range(t.rng.randint(1, 2)):
        taker = t.others()[0]
        taken = t.rng.choice(things)
        things.remove(taken)
        t.say(f"{taker} took the {taken} out of the {fact(box)}.", f"Then {taker} took out the {taken}.")
        left = [fact(article(thing.one)) for thing in things]
        t.say(f"Now there {fact('were' if len(left) > 1 else 'was')} {listing(left)} in the {fact(box)}.")
        t.remember(f"who took the {taken}", f"{fact(taker)} took the {taken}")


def wearing(t: Teller) -> None:
    """Everybody has the same piece of clothing in another colour; something happens to one of them."""
    kind = t.new("clothes")
    colours = colours_of(kind, "clothes", t.split)
    cast = t.others()[: min(3, len(colours))]
    worn = dict(zip(cast, t.rng.sample(colours, len(cast)), strict=True))
    parts = [f"{person} had {article(f'{colour} {kind}')}" for person, colour in worn.items()]
    t.say(f"{listing(parts)}.")
    owner, other = t.rng.sample(cast, 2)
    t.say(
        f"The wind took the {worn[owner]} {fact(kind)}.",
        f"A dog ran away with the {worn[owner]} {fact(kind)}.",
        f"Somebody had lost the {worn[owner]} {fact(kind)}.",
    )
    t.say(f'"My {fact(kind)} is gone!" cried {fact(owner)}.', f"{owner} was sad because {owner.his} {fact(kind)} was gone.")
    t.say(
        f'"You can have my {fact(worn[other])} one," said {other}.',
        f"{other} still had {other.his} {fact(worn[other])} {fact(kind)}.",
    )
    t.remember(f"which {kind} was gone", f"the {fact(worn[owner])} one")
