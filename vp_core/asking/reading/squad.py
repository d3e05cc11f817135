"""Questions about paragraphs, in the JSON of SQuAD, versions 1.1 and 2 (Rajpurkar et al. 2016 and 2018).

In version 2 some questions have no answer in their paragraph. The scores of the two versions are not the same, so a file that
has such questions is not taken for the first.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from vp_core.asking.tasks import Task
from vp_core.ground.bounded import MIB, read_json
from vp_core.ground.errors import VPError
from vp_core.ground.hub import require_hub

LIMIT = 512 * MIB
"""Of a file: the largest of the two versions has 42 MB."""
SECOND = "squad2"
"""The task whose questions may have no answer."""
_FILES = {
    "squad": (("dev-v1.1", "eval_articles", "dev", "dev-v2.0"), ("train-v1.1", "train_articles", "train", "train-v2.0")),
    SECOND: (("dev-v2.0", "eval_articles", "dev", "dev-v1.1"), ("train-v2.0", "train_articles", "train", "train-v1.1")),
}
_HUB = {"squad": "rajpurkar/squad", SECOND: "rajpurkar/squad_v2"}


@dataclass(frozen=True)
class Asking:
    """A question about a paragraph, and the answers that people gave (none: it has no answer there), with the character at
    which each begins."""

    id: str
    question: str
    paragraph: str
    golds: tuple[str, ...]
    starts: tuple[int, ...]

    @property
    def astray(self) -> str | None:
        """The first answer that does not stand where it says; None if all do."""
        places = zip(self.golds, self.starts, strict=True)
        return next((gold for gold, at in places if self.paragraph[at : at + len(gold)] != gold or at < 0), None)


@dataclass(frozen=True, eq=False)
class Questions:
    """What a file or a set of the Hub asks; `notes` say what was odd."""

    asked: Sequence[Asking]
    source: str
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.asked)

    def sample(self, n: int, seed: int = 0) -> "Questions":
        """At most n of them, drawn at random and the same every time, in their order."""
        if n >= len(self):
            return self
        chosen = np.sort(np.random.default_rng(seed).permutation(len(self))[:n])
        return replace(self, asked=[self.asked[int(i)] for i in chosen])


def open_questions(task: Task, data: str | Path | None, split: str) -> Questions:
    """The questions of the `dev` or the `train` split of the task squad or squad2.

    `data` is a JSON file, which serves for both, or a folder that holds the files by their names (dev-v1.1.json,
    train-v1.1.json, dev-v2.0.json, train-v2.0.json, eval_articles.json, train_articles.json), or one that holds such a folder
    under the task's name; without it the Hub. Raises VPError where there is none, and as `read_questions` does.
    """
    if data is None:
        return _checked(_from_hub(task, split), f"Hub: {_HUB[task.name]} {split}", task)
    place = Path(data)
    if not place.is_dir():
        return read_questions(place, task)
    names = _FILES[task.name][split == "train"]
    folders = (*(place / name for name in task.folders), place)
    found = next((path for folder in folders for name in names if (path := folder / f"{name}.json").is_file()), None)
    if found is None:
        raise VPError(
            f"There is no {names[0]}.json in {str(data)!r}: give a folder with {names[0]}.json and its partner, or a single "
            "file in SQuAD's JSON (--data FILE.json)."
        )
    return read_questions(found, task)


def read_questions(path: Path, task: Task) -> Questions:
    """The questions of a file.

    Raises VPError for what is no SQuAD JSON, for a file without questions, two of the same id, a paragraph without a word, and
    for questions without an answer, unless the task is the one that has such. An answer that does not stand in its paragraph
    where it says is told: scores do not look at its place, but nobody can learn it (`check_places`).
    """
    content = read_json(path, LIMIT)
    try:
        asked = list(_askings(content["data"]))
    except _Broken as error:
        raise VPError(f"{str(path)!r} is no SQuAD JSON ({error}): give one of version 1.1 or 2.") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise VPError(
            f"{str(path)!r} is no SQuAD JSON (it has no data with articles): give one of version 1.1 or 2."
        ) from error
    return _checked(asked, str(path), task)


def check_places(questions: Questions) -> None:
    """VPError if an answer does not stand in its paragraph where it says: what begins where is what is learnt."""
    for one in questions.asked:
        if (gold := one.astray) is not None:
            raise VPError(
                f"The answer {_short(gold)} of the question {one.id!r} in {questions.source} does not stand in its paragraph "
                "at its answer_start: mend the file, or take the question out."
            )


class _Broken(ValueError):
    """What is missing, in a few words."""


def _askings(articles: Any) -> Iterator[Asking]:
    if not isinstance(articles, list):
        raise _Broken("its data is no list of articles")
    for paragraph in (p for article in articles for p in _list(article, "paragraphs", "an article")):
        context = _text(paragraph, "context", "a paragraph")
        for one in _list(paragraph, "qas", "a paragraph"):
            yield _asking(one, context)


def _asking(one: Any, paragraph: str) -> Asking:
    what = f"the question {str(one.get('id'))[:60]!r}" if isinstance(one, dict) else "a question"
    id_ = one.get("id") if isinstance(one, dict) else None
    if isinstance(id_, int):
        id_ = str(id_)
    if not isinstance(id_, str):
        raise _Broken("a question has no id")
    answers = [] if one.get("answers") is None else _list(one, "answers", what)
    golds = tuple(_text(answer, "text", f"an answer of {what}") for answer in answers)
    starts = tuple(answer.get("answer_start") for answer in answers)
    if any(not isinstance(at, int) or isinstance(at, bool) for at in starts):
        raise _Broken(f"an answer of {what} has no answer_start")
    if one.get("is_impossible") is True and golds:
        raise _Broken(f"{what} says that it has no answer (is_impossible), and gives one")
    return Asking(id_, _text(one, "question", what), paragraph, golds, starts)


def _list(where: Any, name: str, what: str) -> list[Any]:
    found = where.get(name) if isinstance(where, dict) else None
    if not isinstance(found, list):
        raise _Broken(f"{what} has no list of {name}")
    return found


def _text(where: Any, name: str, what: str) -> str:
    found = where.get(name) if isinstance(where, dict) else None
    if not isinstance(found, str):
        raise _Broken(f"{what} has no {name}")
    return found


def _checked(asked: Sequence[Asking], source: str, task: Task) -> Questions:
    """The questions with notes on them; VPError as `read_questions` says."""
    if not asked:
        raise VPError(f"There are no questions in {source}: give SQuAD JSON with some.")
    [(most, times)] = Counter(one.id for one in asked).most_common(1)
    if times > 1:
        raise VPError(f"The question {most!r} stands {times} times in {source}: give each an id of its own.")
    if (empty := next((one for one in asked if not one.paragraph.strip()), None)) is not None:
        raise VPError(f"The paragraph of the question {empty.id!r} in {source} is empty: give it one, or take it out.")
    notes, unanswered = [], [one for one in asked if not one.golds]
    if unanswered and task.name != SECOND:
        raise VPError(
            f"{len(unanswered):,} of the {len(asked):,} questions in {source} have no answer (such as {unanswered[0].id!r}), "
            f"as in SQuAD's version 2: choose --task {SECOND}, or take them out."
        )
    if not unanswered and task.name == SECOND:
        notes.append(f"Every question in {source} has an answer, as in SQuAD's version 1.1, and saying none is never right.")
    if lost := [one for one in asked if one.astray is not None]:
        notes.append(
            f"{len(lost):,} of the {len(asked):,} questions have an answer that does not stand in its paragraph at its "
            f"answer_start (such as {lost[0].id!r}): they are scored against its words."
        )
    if silent := sum(not one.question.strip() for one in asked):
        notes.append(f"{silent:,} of the {len(asked):,} questions are empty.")
    return Questions(asked, source, tuple(notes))


def _from_hub(task: Task, split: str) -> list[Asking]:
    """SQuAD as it is on the Hub, a row a question."""
    require_hub(f"The data of {task.name}")
    import datasets

    name, part = _HUB[task.name], "train" if split == "train" else "validation"
    try:
        rows = datasets.load_dataset(name, split=part)
        return [
            Asking(r["id"], r["question"], r["context"], tuple(r["answers"]["text"]), tuple(r["answers"]["answer_start"]))
            for r in rows
        ]
    except Exception as error:  # datasets raises many kinds; each means: no data
        raise VPError(
            f"The data of {task.name} could not be had from the Hub ({type(error).__name__}): give SQuAD's JSON (--data DIR), "
            "or check the network."
        ) from error


def _short(text: str, most: int = 40) -> str:
    return repr(text if len(text) <= most else text[: most - 1] + "…")
