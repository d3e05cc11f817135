"""Stories: an opening, some scenes with the same people, an end; a text of them has an empty line between two."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from vp_core.demo.writing import counting, holding, saying
from vp_core.demo.writing.teller import Fact, Teller
from vp_core.demo.writing.words import listing

SCENES: tuple[Callable[[Teller], None], ...] = (
    holding.passing, holding.moving, holding.carrying, holding.unpacking, holding.wearing,
    counting.counting, counting.shopping, counting.ages, counting.week, counting.racing,
    saying.agreement, saying.needing, saying.causes, saying.meeting, saying.hearing, saying.trades, saying.opposites,
)  # fmt: skip
BREAK = "\n\n"
SPLITS = ("train", "test")


@dataclass(frozen=True)
class Story:
    """One paragraph, and what in it can be known before it is read."""

    text: str
    facts: tuple[Fact, ...]


def tell(rng: random.Random, split: str) -> Story:
    """One story of a split ("train" or "test")."""
    teller = Teller(rng, split)
    if teller.chance(0.6):
        opening(teller)
    for scene in rng.sample(SCENES, rng.randint(1, 3)):
        teller.kind = scene.__name__
        scene(teller)
    if teller.chance(0.5):
        teller.recall()
    elif teller.chance(0.5):
        ending(teller)
    return Story(teller.text, tuple(teller.facts))


def opening(t: Teller) -> None:
    """Who is there, and where."""
    t.kind = "opening"
    cast, where = t.others(), " ".join(t.place())
    cast = cast[: t.rng.randint(1, len(cast))]
    names, was = listing([str(person) for person in cast]), "were" if len(cast) > 1 else "was"
    when = t.pick(
        "one morning", "one day", "on a warm day", "on a cold day", "last summer", "one winter", "early in the morning"
    )
    t.say(f"{when} {names} {was} {where}.", f"{names} {was} {where}.", f"This is a story of {names}.")


def ending(t: Teller) -> None:
    """How it ends."""
    t.kind = "ending"
    one = t.others()[0]
    t.say(
        "Then everybody went home.",
        f"In the evening {one} was tired and went to bed.",
        "It was a good day.",
        f"{one} was happy.",
    )


def write_stories(split: str, seed: int, size: int) -> list[Story]:
    """Stories of a split, no text twice, until they and the empty lines between them fill `size` bytes."""
    rng = random.Random(f"{split} {seed}")
    found: dict[str, Story] = {}
    length = 0
    while length < size:
        story = tell(rng, split)
        if story.text not in found:
            found[story.text] = story
            length += len(story.text.encode()) + len(BREAK)
    return list(found.values())


def whole(stories: list[Story]) -> str:
    """The text of a file of stories."""
    return BREAK.join(story.text for story in stories) + "\n"
