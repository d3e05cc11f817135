"""The words of the stories, and the little grammar they need: plurals, articles, numbers in words, lists."""

import random
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from vp_core.demo.making.grammar import plural as regular_plural
from vp_core.demo.making.words import split_list

NUMBERS = (
    "no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen",
    "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty",
)  # fmt: skip
HELD_OUT = 5  # one in so many colours of a thing, and sums, is kept for the test text


@dataclass(frozen=True)
class Person:
    """Somebody in a story; as text, the name."""

    name: str
    female: bool

    def __str__(self) -> str:
        return self.name

    @property
    def he(self) -> str:
        """Their pronoun where they act."""
        return "she" if self.female else "he"

    @property
    def him(self) -> str:
        """Their pronoun where something is done to them."""
        return "her" if self.female else "him"

    @property
    def his(self) -> str:
        """Their pronoun before what they have."""
        return "her" if self.female else "his"


@dataclass(frozen=True)
class Noun:
    """A noun; as text, its singular."""

    one: str
    many: str

    def __str__(self) -> str:
        return self.one

    def counted(self, number: int) -> str:
        """ "one apple", "two apples", "no apples"."""
        return f"{NUMBERS[number]} {self.one if number == 1 else self.many}"

    def form(self, several: bool) -> str:
        """The plural, or the singular."""
        return self.many if several else self.one


def noun(text: str) -> Noun:
    """A noun as the list writes it: "mouse/mice", or "cup" where the plural is regular."""
    one, _, many = text.partition("/")
    return Noun(one, many or regular_plural(one))


@cache
def table() -> dict[str, dict[str, str]]:
    """The lists of words.toml as they stand there."""
    return tomllib.loads((Path(__file__).parent / "words.toml").read_text(encoding="utf-8"))


@cache
def words(group: str, name: str) -> tuple[str, ...]:
    """One list."""
    return split_list(table()[group][name])


@cache
def nouns(group: str, name: str) -> tuple[Noun, ...]:
    """One list, of nouns."""
    return tuple(noun(one) for one in words(group, name))


@cache
def rows(group: str, name: str) -> tuple[tuple[str, ...], ...]:
    """One list of entries with parts."""
    return tuple(tuple(part.strip() for part in line.split("|")) for line in split_list("\n" + table()[group][name]))


@cache
def people(new: bool = False) -> tuple[Person, ...]:
    """Everybody with a name; the `new` ones come in the test text only."""
    prefix = "new_" if new else ""
    return tuple(Person(name, kind == "girls") for kind in ("girls", "boys") for name in words("names", prefix + kind))


def nobody(rng: random.Random) -> Person:
    """Somebody with a name that nobody has."""
    female = rng.random() < 0.5
    ends = words("names", "girl_end" if female else "boy_end")
    name = "".join(rng.choice(part) for part in (words("names", "first"), words("names", "middle"), ends))
    return Person(name, female)


def held_out(first: int, second: int) -> bool:
    """Whether a pair of numbers (of a colour and a thing, of two terms of a sum) is kept for the test text."""
    return (2 * first + second) % HELD_OUT == 0


def article(text: str) -> str:
    """With "a" or "an" before it.

    >>> article("egg"), article("umbrella"), article("red egg")
    ('an egg', 'an umbrella', 'a red egg')
    """
    return f"{'an' if text[0] in 'aeiou' else 'a'} {text}"


def listing(parts: list[str]) -> str:
    """As a list in a sentence.

    >>> listing(["a book", "a cup", "a pen"])
    'a book, a cup and a pen'
    """
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
