"""Whoever tells a story: chooses among ways to say it, keeps the cast together, and marks what the reader can know."""

import random
import re
from dataclasses import dataclass

from vp_core.demo.writing.words import Noun, Person, article, held_out, nobody, nouns, people, words

STRANGE = {"train": 0.25, "test": 0.15}  # share of people with a name that nobody has, or one kept for the test text
_MARK = re.compile("\x02([^\x03]*)\x03")


@dataclass(frozen=True)
class Fact:
    """A stretch [start, end) of a story that follows from what stands before it; `kind` is the scene."""

    kind: str
    start: int
    end: int


@dataclass(frozen=True)
class Thing:
    """A thing with its colour."""

    colour: str
    noun: Noun

    def __str__(self) -> str:
        return self.noun.one

    @property
    def whole(self) -> str:
        """ "a red ball"."""
        return article(f"{self.colour} {self.noun}")


def fact(what: object) -> str:
    """Marks a word that follows from what stands before it."""
    return f"\x02{what}\x03"


def capital(text: str) -> str:
    """The text with its first letter large, behind quotes and marks too."""
    first = next(place for place, letter in enumerate(text) if letter.isalnum())
    return text[:first] + text[first].upper() + text[first + 1 :]


class Teller:
    """Tells one story: `say` adds a sentence. Nothing with a name comes in two scenes with different meanings."""

    def __init__(self, rng: random.Random, split: str) -> None:
        self.rng, self.split, self.kind = rng, split, ""
        self.text = ""
        self.facts: list[Fact] = []
        self.cast = self._cast(rng.choice((3, 3, 4)))
        self._left: dict[str, list[Noun]] = {}
        self._memories: list[tuple[str, str, str]] = []

    def _cast(self, size: int) -> list[Person]:
        found: list[Person] = []
        while len(found) < size:
            person = self.rng.choice(people())
            if self.chance(STRANGE[self.split]):
                person = self.rng.choice(people(new=True)) if self.split == "test" else nobody(self.rng)
            if person.name not in [other.name for other in found]:
                found.append(person)
        return found

    def pick(self, *options: str) -> str:
        """One of these."""
        return self.rng.choice(options)

    def chance(self, share: float) -> bool:
        """Whether something happens that happens in this share of stories."""
        return self.rng.random() < share

    def others(self, *but: Person) -> list[Person]:
        """The cast without these, in a random order."""
        return self.rng.sample(left := [person for person in self.cast if person not in but], len(left))

    def new(self, name: str, group: str = "things") -> Noun:
        """A noun of a list that this story has not used."""
        if name not in self._left:
            self._left[name] = self.rng.sample(nouns(group, name), len(nouns(group, name)))
        return self._left[name].pop()

    def thing(self, kind: str = "small") -> Thing:
        """A new thing; in the training text in none of the colours that are kept for the test text."""
        what = self.new(kind)
        return Thing(self.rng.choice(colours_of(what, kind, self.split)), what)

    def place(self) -> tuple[str, str]:
        """A new place: where somebody is who is there ("in the"), and its name."""
        before, _, name = self.new("places").one.partition(" ")
        return f"{before} the", name

    def say(self, *options: str) -> None:
        """Adds one of these sentences, with a capital; keeps where its facts stand."""
        text = capital(self.rng.choice(options))
        at = len(self.text) + bool(self.text)
        for shift, mark in enumerate(_MARK.finditer(text)):
            start = at + mark.start() - 2 * shift
            self.facts.append(Fact(self.kind, start, start + len(mark[1])))
        self.text = (self.text + " " + _MARK.sub(r"\1", text)).lstrip()

    def remember(self, question: str, answer: str) -> None:
        """What can be asked at the end of the story, and the answer."""
        self._memories.append((self.kind, question, answer))

    def recall(self) -> None:
        """Somebody asks for what was told in an earlier scene, and somebody else answers: neither of them is spoken of."""
        told = [memory for memory in self._memories if memory[0] != self.kind]
        if told:
            _, question, answer = self.rng.choice(told)
            spoken_of = re.findall(r"\w+", f"{question} {answer}")
            asker, other = [person for person in self.others() if person.name not in spoken_of][:2]
            self.kind = "recalled"
            self.say(f'In the evening {asker} said, "Tell me {question}."', f'"Do you still know {question}?" asked {asker}.')
            self.say(f'"{capital(answer)}," said {other}.')


def colours_of(what: Noun, kind: str, split: str) -> list[str]:
    """The colours that a thing has in the text of this split: in the test text, all."""
    at = nouns("things", kind).index(what)
    return [colour for i, colour in enumerate(words("things", "colours")) if split == "test" or not held_out(i, at)]
