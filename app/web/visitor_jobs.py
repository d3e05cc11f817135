"""What is computed for one visitor alone: the score of a slider's position, of a threshold, the answers to a sentence.

The work is the visitor's; what it finishes goes to where all find it (`app.web.caching`).
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from analysis.tokens import Readings
from app.web.caching import dense_score, readings, store, threshold_scores
from app.web.jobs import Job
from vp_core.asking.kinds.heads import head_of
from vp_core.asking.kinds.question import Score
from vp_core.comparing.tokens import Reading, go_on, read
from vp_core.curves import known_point, point, score_of
from vp_core.ground.work import TURNS, Turn
from vp_core.identity.threshold import Threshold, running_scores
from vp_core.identity.threshold import key as threshold_key
from vp_core.ranking.plan import Plan
from vp_core.recipes import Recipe
from vp_core.study import Study
from vp_core.weights.masks import Masks

Answers = dict[str, tuple[np.ndarray, bool]]
"""By model, what `Study.predict` says of a text."""


def score_job(study: Study, recipe: Recipe, sparsity: float, precision: str, watcher: str) -> Job[Score]:
    """The running score of one slider position; background work and measurements wait meanwhile."""

    def scores() -> Iterator[Score]:
        kept = known_point(study, recipe, sparsity, precision, store(study))
        if kept is not None:
            yield score_of(kept)
            return
        with TURNS.first():
            last = None
            for last in study.running_scores(recipe, sparsity, precision):
                if last.final:
                    store(study).add(point(study, recipe, sparsity, last, precision))
                yield last
            yield from _dense_too(study, last, precision)

    return Job(scores).start(watcher)


def masks_job(study: Study, recipe: Recipe, sparsity: float, watcher: str) -> Job[Masks | Plan]:
    """Which weights survive at a position of the slider, or of a recipe of rows which rows."""

    def found() -> Iterator[Masks | Plan]:
        yield study.masks(recipe, sparsity) if recipe.pattern else study.plan(recipe, sparsity)

    return Job(found, total=1).start(watcher)


def _dense_too(study: Study, last: Score | None, precision: str) -> Iterator[Score]:
    """An exact score once more, when the dense one is there to compare it with; nothing if it was known before."""
    if last is None or not last.final or dense_score(study, precision) is not None:
        return
    for dense in study.running_scores(Recipe(), 0.0, precision):
        if dense.final:
            store(study).add(point(study, Recipe(), 0.0, dense, precision))
            yield last


def threshold_job(study: Study, threshold: Threshold, watcher: str) -> Job[Score]:
    """The running score of one setting of ε and θ; a setting that was finished before answers at once."""
    scores = threshold_scores()

    def fresh(key: str) -> Iterator[Score]:
        for score in running_scores(study, threshold):
            if score.final:
                scores.put(key, score)
            yield score

    def known_or_fresh() -> Iterator[Score]:
        key, last = threshold_key(study, threshold), None
        with TURNS.first():
            kept: Score | None = scores.get(key)
            for last in fresh(key) if kept is None else [kept]:
                yield last
            yield from _dense_too(study, last, "float32")

    return Job(known_or_fresh).start(watcher)


def sentence_job(study: Study, recipe: Recipe, sparsity: float, text: tuple[str, ...], watcher: str) -> Job[Answers]:
    """What the dense and the pruned model say of one text."""

    def answers() -> Iterator[Answers]:
        models = {"dense": study.model, "pruned": study.pruned(recipe, sparsity)}
        yield {name: study.predict(model, [text]) for name, model in models.items()}

    return Job(answers).start(watcher)


def trying_job(
    study: Study, recipe: Recipe, sparsity: float, names: tuple[str, ...], what: Callable[[Any], Any], watcher: str
) -> Job[dict[str, Any]]:  # fmt: skip
    """What `what(model)` is of each model of these names, "dense" or "pruned": items that grow by one; scores go first."""

    def parts() -> Iterator[dict[str, Any]]:
        found: dict[str, Any] = {}
        for name in names:
            found[name] = what(study.model if name == "dense" else study.pruned(recipe, sparsity))
            yield dict(found)

    return Job(parts, len(names), turn=Turn.SECOND).start(watcher)


def reading_job(
    study: Study, recipe: Recipe, sparsity: float, text: str, names: tuple[str, ...], watcher: str
) -> Job[Readings]:  # fmt: skip
    """What language models, "dense" or "pruned", make of a text, piece by piece as it is known; scores go first."""
    tokenizer, longest = study.loaded.tokenizer, study.question.data.max_length
    writes = head_of(study.model) == "next tokens"

    def of(name: str, what: Callable[..., Any]) -> Any:
        def found() -> Any:
            model = study.model if name == "dense" else study.pruned(recipe, sparsity)
            return what(model, tokenizer, text, longest)

        key = study.loaded.fingerprint, text, longest, what.__name__
        return readings().once(key, found) if name == "dense" else found()

    def parts() -> Iterator[Readings]:
        read_by: dict[str, Reading] = {}
        more: dict[str, str] = {}
        for name in names:
            read_by[name] = of(name, read)
            yield Readings(dict(read_by), {})
        for name in names if writes else ():
            more[name] = of(name, go_on)
            yield Readings(dict(read_by), dict(more))

    return Job(parts, len(names) * (2 if writes else 1), turn=Turn.SECOND).start(watcher)
