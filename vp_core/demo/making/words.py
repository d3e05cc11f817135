"""The lexicon: which words a review of each subject can be written with, separately for training and evaluation."""

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

TEXT = Path(__file__).parent / "text"
SPLITS = ("train", "eval")
OPINIONS = ("plain", "strong", "joy", "loved", "happy", "impress", "charm", "did")
LABEL_NAMES = ("bad", "good")
Table = dict[str, str]


@dataclass(frozen=True)
class Aspect:
    """A part of the thing under review ("the plot was") with what can be said of it, by label."""

    name: str
    was: str
    fit: tuple[tuple[str, ...], tuple[str, ...]]


@dataclass(frozen=True)
class Domain:
    """Everything needed to write about one subject; `opinions[slot][label]` lists the words for a slot."""

    name: str
    things: tuple[str, ...]
    use: tuple[str, ...]
    very: tuple[str, ...]
    too: tuple[str, ...]
    aspects: tuple[Aspect, ...]
    facts: tuple[str, ...]
    opinions: dict[str, tuple[tuple[str, ...], ...]]


def split_list(text: str) -> tuple[str, ...]:
    """The entries of a list written with commas on one line, or one entry a line."""
    parts = text.strip().split("\n") if "\n" in text.strip() or text.startswith("\n") else text.split(",")
    return tuple(part.strip() for part in parts if part.strip())


def _aspect(line: str) -> Aspect:
    """Reads "the plot was | good words | bad words"."""
    subject, good, bad = (part.strip() for part in line.split("|"))
    name, was = subject.rsplit(" ", 1)
    return Aspect(name, was, (split_list(bad), split_list(good)))


def _domain(name: str, own: Table, shared: list[Table]) -> Domain:
    """One subject: its own opinion words, then those it shares."""
    opinions = {}
    for slot in OPINIONS:
        lists = [
            [word for table in [own, *shared] for word in split_list(table.get(f"{slot}_{side}", ""))] for side in LABEL_NAMES
        ]
        opinions[slot] = tuple(tuple(dict.fromkeys(words)) for words in lists)
    return Domain(
        name,
        split_list(own["things"]),
        split_list(own["use"]),
        split_list(shared[-1]["very"]),
        split_list(own["too"]),
        tuple(_aspect(line) for line in split_list("\n" + own["aspects"])),
        split_list("\n" + own["facts"]),
        opinions,
    )


@cache
def load_domains(split: str) -> tuple[Domain, ...]:
    """All subjects of a split ("train" or "eval")."""
    table: dict[str, Any] = tomllib.loads((TEXT / f"lexicon_{split}.toml").read_text(encoding="utf-8"))
    general, groups = table.pop("general"), table.pop("groups", {}).values()
    return tuple(
        _domain(name, own, [*(group for group in groups if name in split_list(group["of"])), general])
        for name, own in table.items()
    )


def verb_with_me(verb: str) -> str:
    """Gives a verb its object: "bored" becomes "bored me", "let _ down" becomes "let me down"."""
    return verb.replace("_", "me") if "_" in verb else f"{verb} me"


def opinion_words(split: str) -> set[str]:
    """Every word or phrase of a split that carries an opinion, as it stands in a sentence."""
    found: set[str] = set()
    for domain in load_domains(split):
        found.update(domain.too)
        for aspect in domain.aspects:
            found.update(aspect.fit[0], aspect.fit[1])
        for slot, sides in domain.opinions.items():
            for entry in sides[0] + sides[1]:
                forms = [verb_with_me(form) for form in entry.split("/")] if slot == "impress" else [entry]
                found.update(form.removesuffix(" me") for form in forms)
    return found
