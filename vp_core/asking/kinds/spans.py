"""Where a paragraph answers a question: what a ...ForQuestionAnswering is asked.

A model gives each token of a window a logit for the beginning of the answer and one for its end. The answer is the best span of
all windows of a question: beginning and end in the paragraph, in this order, at most LONGEST tokens, with the greatest sum of
logits, looked for among all of them (the usual evaluation looks among the twenty best beginnings and ends). Where a question
may have no answer, that is said if the sum at the first token, in the window where it is least, is greater than that of the
best span (Devlin et al. 2019, section 4.3, with a threshold of 0).
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from vp_core.asking.batches import Batch, make_batches
from vp_core.asking.forward import forward
from vp_core.asking.kinds.answers import golds_of, worth_of
from vp_core.asking.kinds.question import BATCH_TOKENS, Question, Worth, running_chunks
from vp_core.asking.metrics import sums_interval
from vp_core.asking.tasks import Task
from vp_core.asking.words.paragraphs import Paragraphs
from vp_core.ground.errors import VPError

LONGEST = 30
"""Tokens of an answer at most, as in BERT's own evaluation."""
SCORE, START, END, NONE, LOSS = range(5)
"""Columns of what a window answers: the best span's sum of logits, its first and last token, counted in its paragraph, the sum
of logits at the window's first token, which says that there is no answer, and the loss of what is right."""


@dataclass(frozen=True, eq=False)
class Spans(Question):
    """Which words of a paragraph answer a question: windows, the task, and whether a question may be `unanswerable`.

    `golds[q]` are the answers that count for question q (`vp_core.asking.kinds.answers.golds_of`), `targets` (windows, 2) the
    positions in each window where an answer begins and ends that a person gave, 0 and 0 where it holds none.
    """

    data: Paragraphs
    task: Task
    unanswerable: bool
    golds: tuple[tuple[str, ...], ...]
    targets: np.ndarray
    first, following = 32, 256
    """Questions before the first running score, and before each next one."""

    @classmethod
    def make(cls, data: Paragraphs, task: Task, unanswerable: bool) -> "Spans":
        """From windows; `unanswerable`: whether questions may have no answer."""
        golds = tuple(golds_of(one.golds, unanswerable) for one in data.asked)
        return cls(data, task, unanswerable, golds, targets_of(data))

    def outputs(self, model: PreTrainedModel, batch: Batch) -> Tensor:
        """What each window answers (windows, 5), float64: the columns above."""
        found = forward(model, batch)
        begins, ends = logits_of_spans(found, batch)
        first = np.array([self.data.first(int(i)) for i in batch.examples])
        tokens = self.data.ends[batch.examples] - self.data.begins[batch.examples]
        best, start, end = best_spans(begins, ends, first, tokens)
        shift = self.data.begins[batch.examples] - first
        rows, loss = np.arange(len(first)), np.zeros(len(first))
        for logits, right in ((begins, self.targets[batch.examples, 0]), (ends, self.targets[batch.examples, 1])):
            loss += (np.logaddexp.reduce(logits, axis=1) - logits[rows, right]) / 2
        return torch.from_numpy(np.stack([best, start + shift, end + shift, begins[:, 0] + ends[:, 0], loss], axis=1))

    def answers(self, outputs: Tensor) -> Tensor:
        """The same."""
        return outputs

    def blank(self) -> np.ndarray:
        """Room for what all windows answer."""
        return np.zeros((len(self.data), 5))

    def losses(self, examples: np.ndarray, outputs: np.ndarray) -> np.ndarray:
        """Of each window the mean cross-entropy of where an answer begins and where it ends, in nats."""
        found: np.ndarray = outputs[:, LOSS]
        return found

    def count(self, examples: np.ndarray) -> int:
        """Questions of these windows."""
        return len(np.unique(self.data.of[examples]))

    def chunks(self, precision: str = "float32") -> list[tuple[np.ndarray, list[Batch]]]:
        """The order of evaluation: random questions, all windows of one together."""
        kept: dict[str, list[tuple[np.ndarray, list[Batch]]]] = self.__dict__.setdefault("_chunks", {})
        if precision not in kept:
            parts = running_chunks(len(self.data.asked), first=self.first, following=self.following)
            windows = [np.flatnonzero(np.isin(self.data.of, part)) for part in parts]
            kept[precision] = [(some, make_batches(self.data, some, BATCH_TOKENS[precision])) for some in windows]
        return kept[precision]

    def worth(self, answers: np.ndarray, seen: np.ndarray) -> Worth:
        """The task's metrics; the interval of the headline is a percentile bootstrap over questions (seeded)."""
        questions, best = self.combined(answers, seen)
        said = [self.said(int(q), row) for q, row in zip(questions, best, strict=True)]
        each = [worth_of(words, self.golds[q], self.unanswerable) for q, words in zip(questions, said, strict=True)]
        by_metric = dict(zip(("answer_f1", "exact_match"), np.array(each).T, strict=True))
        values = by_metric[self.task.metric]
        final = len(seen) == len(self)
        return Worth(
            float(values.mean()),
            *bootstrapped(values),
            {name: float(by_metric[name].mean()) for name in self.task.metrics[1:]} if final else {},
            by_metric["exact_match"] == 1 if final else None,
        )

    def combined(self, answers: np.ndarray, windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(questions (n,), what their windows answer together (n, 5)): the best span, and the least that says that there is no
        answer. Of equal ones the first window's counts."""
        of, rows = self.data.of[windows], answers[windows]
        order = np.lexsort((windows, -rows[:, SCORE], of))
        questions, first = np.unique(of[order], return_index=True)
        best = rows[order][first].copy()
        best[:, NONE] = np.minimum.reduceat(rows[order][:, NONE], first)
        return questions, best

    def said(self, question: int, best: np.ndarray) -> str:
        """The answer in words, from one row of `combined`; '' for none."""
        if self.unanswerable and best[NONE] > best[SCORE]:
            return ""
        first, last = self.data.words(question, int(best[START]), int(best[END]))
        return self.data.asked[question].paragraph[first:last]


def as_spans(question: Question, what: str) -> Spans:
    """The same; VPError where `what` is asked of models that mark answers only."""
    if not isinstance(question, Spans):
        raise VPError(f"{what} is there for question answering only, not for the task {question.task.name!r}: choose another.")
    return question


def logits_of_spans(found: object, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
    """Logits (windows, tokens), float64, of beginnings and ends, −∞ at padding; NaN and infinite ones stay."""
    real = batch.inputs["attention_mask"].bool().numpy()
    begins, ends = (
        getattr(found, name).detach().float().cpu().numpy().astype(float) for name in ("start_logits", "end_logits")
    )
    return np.where(real, begins, -np.inf), np.where(real, ends, -np.inf)


def best_spans(
    begins: np.ndarray, ends: np.ndarray, first: np.ndarray, tokens: np.ndarray, longest: int = LONGEST
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(sum of logits, first, last position) (windows,) of the best span of at most `longest` tokens in each row.

    `begins` and `ends` are logits (windows, tokens); a span lies in the `tokens` (windows,) positions from `first` (windows,)
    on. Of equal ones the one that begins first counts, of these the shortest.
    """
    windows, width = begins.shape
    places = np.arange(width)
    inside = (places >= first[:, None]) & (places < (first + tokens)[:, None])
    begins, ends = np.where(inside, begins, -np.inf), np.where(inside, ends, -np.inf)
    padding = np.full((windows, longest - 1), -np.inf)
    from_here = np.lib.stride_tricks.sliding_window_view(np.concatenate([ends, padding], axis=1), longest, axis=1)
    further = from_here.argmax(axis=2)
    sums = begins + np.take_along_axis(from_here, further[..., None], axis=2)[..., 0]
    start, rows = sums.argmax(axis=1), np.arange(windows)
    return sums[rows, start], start, start + further[rows, start]


def targets_of(data: Paragraphs) -> np.ndarray:
    """Positions (windows, 2) in each window of the first and the last token of the first answer that a person gave; 0 and 0,
    the first token, where the window does not hold it whole."""
    found, bounds = np.zeros((len(data), 2), dtype=int), np.searchsorted(data.of, np.arange(len(data.asked) + 1))
    for q, one in enumerate(data.asked):
        if not one.golds or one.starts[0] < 0:
            continue
        begins, ends = data.offsets[data.about[q]].T
        last = one.starts[0] + len(one.golds[0])
        start, end = np.searchsorted(ends, one.starts[0], side="right"), np.searchsorted(begins, last, side="left") - 1
        if start > end:
            continue
        for i in range(bounds[q], bounds[q + 1]):
            if data.begins[i] <= start and end < data.ends[i]:
                found[i] = start - data.begins[i] + data.first(i), end - data.begins[i] + data.first(i)
    return found


def bootstrapped(values: np.ndarray) -> tuple[float, float]:
    """The 95 % percentile interval of the mean of values (n,), of 2,000 resamples (seeded)."""
    return sums_interval(np.stack([values, np.ones(len(values))], axis=1))
