"""How good is a model on a data set: a running score with an interval, exact at the end."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from vp_core.asking.batches import Batch
from vp_core.asking.kinds.question import Question, Score
from vp_core.ground.errors import VPError
from vp_core.ground.parallel import WORKERS, Stopwatch, in_parallel, share_now
from vp_core.ground.work import say
from vp_core.model.precision import device_of, in_precision
from vp_core.model.sharing import share


def outputs_by_batch(model: PreTrainedModel, question: Question, batches: Sequence[Batch]) -> Iterator[tuple[Batch, Tensor]]:
    """(batch, outputs (examples, outputs)) in the order of `batches`, several at a time.

    The caller's model is not touched. Raises VPError for outputs that are NaN or infinite, and if the model fails on a text.
    """
    private = share(model)

    def one(batch: Batch) -> tuple[Batch, Tensor]:
        with torch.inference_mode():
            return batch, question.outputs(private, batch)

    with question.ready(private):
        for batch, outputs in _in_order(one, batches, device_of(model)):
            if not torch.isfinite(outputs).all():
                raise VPError("The model's outputs are NaN or infinite: check its weights, or evaluate in float32.")
            yield batch, outputs


def _in_order(
    one: Callable[[Batch], tuple[Batch, Tensor]], batches: Sequence[Batch], device: torch.device
) -> Iterator[tuple[Batch, Tensor]]:
    """`one(batch)` of all batches; several processes share out a few at a time, and each hears of all."""
    share = share_now()
    if share.number == 1:
        yield from in_parallel(one, batches, device)
        return
    step = 2 * WORKERS * share.number
    for start in range(0, len(batches), step):
        mine = share.of(batches[start : start + step])

        def asked(mine: Sequence[Batch] = mine) -> list[Tensor]:
            return [outputs for _, outputs in in_parallel(one, mine, device)]

        parts = share.together(asked)
        for i, batch in enumerate(batches[start : start + step]):
            yield batch, parts[i % share.number][i // share.number]


def evaluate(
    model: PreTrainedModel,
    question: Question,
    precision: str = "float32",
    hear: Callable[[Batch, Tensor], object] = lambda batch, outputs: None,
) -> Iterator[Score]:
    """Running scores, the last one exact: iterate for a first answer early, or take `score` for the last.

    `hear(batch, outputs (examples, outputs))` is told what a score is made of, for whoever makes something else of it too.

    Every caller gets the same batches in the same order, so that the same question has the same answer everywhere.
    Between two batches it waits for its turn; once it is cancelled no more scores come (see `vp_core.ground.work`).
    Raises VPError for an unknown precision, and for outputs that are NaN or infinite.
    """
    clock = Stopwatch()
    model = in_precision(model, precision)
    answers = question.blank()
    seen: list[np.ndarray] = []
    chunks = question.chunks(precision)
    left = [len(batches) for _, batches in chunks]
    everything = [batch for _, batches in chunks for batch in batches]
    say("scoring")
    for batch, outputs in outputs_by_batch(model, question, everything):
        hear(batch, outputs)
        answers[batch.examples] = question.answers(outputs).numpy()
        left[len(seen)] -= 1
        if left[len(seen)] == 0:
            seen.append(chunks[len(seen)][0])
            yield question.score(answers, np.concatenate(seen), clock.seconds)


def score(model: PreTrainedModel, question: Question, precision: str = "float32") -> Score:
    """The exact score on all examples; raises as `evaluate` does."""
    *_, last = evaluate(model, question, precision)
    return last
