"""Writes short labelled reviews from the lexicon and the templates; 0 is negative, 1 is positive."""

import random
import re
import tomllib
from functools import cache

from vp_core.demo.making.words import LABEL_NAMES, OPINIONS, TEXT, Domain, load_domains, split_list, verb_with_me

ROWS = {"train": 6000, "eval": 1000}
MIN_WORDS, MAX_WORDS = 4, 35
# Where the opinion stands among other sentences, and how often each arrangement is taken.
LAYOUTS = {
    "core": 0.36,
    "opener core": 0.1,
    "fact core": 0.16,
    "core fact": 0.14,
    "core core": 0.16,
    "fact core core": 0.08,
}
ONE_SIDED = 0.25  # share of cores from templates that work for one label only
EVERYDAY = 1.5  # above 1, the front of a word list is preferred
CASUAL = 0.12  # share of reviews typed without capitals and final stop
NEEDS_AN = re.compile(r"\b([Aa]) (?=(?!(?:us|uni|one|eu)[a-z])[aeiou]|hour|honest)")
CHOICE = re.compile(r"\[([^\]]*)\]")
BY_LABEL = re.compile(r"<([^|>]*)\|([^>]*)>")
SLOT = re.compile(r"\{(\w+)\}")


@cache
def load_templates(split: str) -> dict[str, tuple[str, ...]]:
    """The templates of a split under "either", "positive", "negative", and its "openers"."""
    table = tomllib.loads((TEXT / f"templates_{split}.toml").read_text(encoding="utf-8"))
    openers = tuple(part.lstrip() for part in table.pop("openers").split("/"))
    return {**{name: split_list("\n" + text) for name, text in table.items()}, "openers": openers}


def plural(noun: str) -> str:
    """The plural of a noun of the lexicon."""
    if noun.endswith("series"):
        return noun
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + ("es" if noun.endswith(("s", "sh", "ch", "x", "z")) else "s")


class Filler:
    """Fills the slots of one review: remembers the thing, the aspects and the words it has already used."""

    def __init__(self, rng: random.Random, domain: Domain, label: int) -> None:
        self.rng, self.domain, self.label = rng, domain, label
        self.thing = rng.choice(domain.things)
        self.mentioned = False
        self.words_used: set[str] = set()
        self.aspects = rng.sample(domain.aspects, len(domain.aspects))

    def fill(self, template: str) -> str:
        """The template with every choice made and every slot filled."""
        text = BY_LABEL.sub(lambda match: match[2 - self.label], template)
        text = CHOICE.sub(lambda match: self.rng.choice(match[1].split("/")), text)
        text = SLOT.sub(lambda match: self._slot(match[1]), text)
        # An aspect is spent once its sentence is written, so that a second sentence cannot contradict the first.
        self.aspects = self.aspects[2 if "{aspect2}" in template else 1 :] if "{aspect" in template else self.aspects
        return re.sub(r" +", " ", text).strip()

    def subject(self) -> str:
        """The thing under review: named the first time, "it" afterwards."""
        named, self.mentioned = self.mentioned, True
        return "it" if named or self.rng.random() < 0.3 else f"{self.rng.choice(['the', 'this'])} {self.thing}"

    def _slot(self, name: str) -> str:
        stem, second = name.rstrip("2"), name.endswith("2")
        if stem == "it":
            return self.subject()
        if stem in ("thing", "things"):
            self.mentioned = True
            return self.thing if stem == "thing" else plural(self.thing)
        if stem in ("use", "used"):
            return self.domain.use[0 if stem == "use" else 2]
        if stem == "very":
            return "" if self.rng.random() < 0.35 else self.rng.choice(self.domain.very)
        if stem == "too":
            return self._fresh(self.domain.too)
        if stem in ("aspect", "was", "aspectnoun", "fit", "fit_b", "unfit"):
            return self._aspect_slot(stem, int(second))
        return self._opinion(stem)

    def _aspect_slot(self, stem: str, index: int) -> str:
        aspect = self.aspects[index]
        if stem == "aspect":
            return aspect.name
        if stem == "aspectnoun":
            return aspect.name.removeprefix("the ")
        if stem == "was":
            return aspect.was
        return self._fresh(aspect.fit[1 - self.label if stem == "unfit" else self.label])

    def _opinion(self, stem: str) -> str:
        """A word for slots such as plain, unplain (the other side), plain_good (that side), unjoynoun (no article)."""
        side = self.label
        for label, label_name in enumerate(LABEL_NAMES):
            if stem.endswith(f"_{label_name}"):
                stem, side = stem.removesuffix(f"_{label_name}"), label
        if stem.startswith("un"):
            stem, side = stem[2:], 1 - side
        if stem in ("impress", "impressed"):
            return verb_with_me(self._fresh(self.domain.opinions["impress"][side]).split("/")[stem == "impressed"])
        if stem == "joynoun":
            return re.sub(r"^an? ", "", self._fresh(self.domain.opinions["joy"][side]))
        if stem == "weloved":  # after a plural subject, where "was fond of" would not agree
            words = self.domain.opinions["loved"][side]
            return self._fresh(tuple(word for word in words if not word.startswith("was ")))
        if stem == "longplain":  # "more X than" is English for long single words only
            words = self.domain.opinions["plain"][side]
            return self._fresh(tuple(word for word in words if len(word) > 7 and " " not in word))
        assert stem in OPINIONS, f"unknown slot {stem}"
        return self._fresh(self.domain.opinions[stem][side])

    def _fresh(self, words: tuple[str, ...]) -> str:
        """A word not yet used in this review; the everyday words at the front of a list come up more often."""
        left = [word for word in words if word not in self.words_used] or list(words)
        word = left[int(len(left) * self.rng.random() ** EVERYDAY)]
        self.words_used.add(word)
        return word


def write_review(rng: random.Random, split: str, domain: Domain, label: int) -> str:
    """One review of a thing of this domain with this label."""
    templates, filler = load_templates(split), Filler(rng, domain, label)
    layout = rng.choices(list(LAYOUTS), list(LAYOUTS.values()))[0]
    sentences: list[str] = []
    written: set[str] = set()
    opener = ""
    for part in layout.split():
        if part == "opener":
            opener = rng.choice(templates["openers"])
        elif part == "fact":
            fact = rng.choice(domain.facts)
            if fact.startswith("it ") and not filler.mentioned:
                fact = filler.subject() + fact.removeprefix("it")
            sentences.append(fact)
        else:
            kind = ("negative", "positive")[label] if rng.random() < ONE_SIDED else "either"
            chosen = rng.choice([template for template in templates[kind] if template not in written])
            written.add(chosen)
            sentences.append(opener + filler.fill(chosen))
    return finish(rng, sentences)


def finish(rng: random.Random, sentences: list[str]) -> str:
    """Joins sentences with capitals, stops and a/an as they should be, or as a hurried person would type them."""
    done = []
    for sentence in sentences:
        stop = "" if sentence[-1] in "?!" else "."
        done.append(sentence[0].upper() + sentence[1:] + stop)
    text = NEEDS_AN.sub(r"\1n ", " ".join(done))
    if len(done) == 1 and text[-1] == "." and rng.random() < 0.08:
        text = text[:-1] + "!"
    if rng.random() < CASUAL:
        text = text[:-1] if text[-1] == "." else text
        text = text.lower() if rng.random() < 0.5 else text[0].lower() + text[1:]
    return text


def write_reviews(split: str, seed: int) -> list[tuple[str, int]]:
    """The reviews of a split ("train" or "eval"): balanced, no sentence twice, in a seeded random order."""
    rng = random.Random(f"{split} {seed}")
    domains, per_label = load_domains(split), ROWS[split] // 2
    reviews: dict[str, int] = {}
    seen: set[str] = set()  # lower-cased, so that two reviews never differ by capitals alone
    for label in (0, 1):
        while sum(1 for value in reviews.values() if value == label) < per_label:
            text = write_review(rng, split, domains[len(reviews) % len(domains)], label)
            key = text.lower().rstrip(".!")
            if key not in seen and MIN_WORDS <= len(text.split()) <= MAX_WORDS:
                seen.add(key)
                reviews[text] = label
    rows = list(reviews.items())
    rng.shuffle(rows)
    return rows
