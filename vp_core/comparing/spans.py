"""What a model answers to a question about a paragraph of one's own, and where it stands."""

from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from vp_core.asking.batches import make_batches
from vp_core.asking.evaluate import outputs_by_batch
from vp_core.asking.kinds.heads import head_of
from vp_core.asking.kinds.spans import END, NONE, SCORE, START, Spans
from vp_core.asking.reading.squad import SECOND, Asking
from vp_core.asking.tasks import TASKS
from vp_core.asking.words.paragraphs import windows_of
from vp_core.ground.errors import VPError


@dataclass(frozen=True)
class Marked:
    """The best answer to a question: `text`, the characters of the paragraph from `start` to before `end`.

    `score` is the sum of the logits of its beginning and its end, `none` the one which says that there is no answer, the least
    of all windows; of a model that was trained on questions without an answer, there is none where `none` is greater
    (`unanswered`). `windows`: how many the paragraph was read in, 1 if it fits into one.
    """

    text: str
    start: int
    end: int
    score: float
    none: float
    windows: int = 1

    @property
    def unanswered(self) -> bool:
        """Whether a model that may say so says that there is no answer."""
        return self.none > self.score

    @property
    def cut(self) -> bool:
        """Whether the paragraph was read in several windows."""
        return self.windows > 1


def mark(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    question: str,
    paragraph: str,
    max_length: int,
    stride: int | None = None,
) -> Marked:
    """The best answer in a paragraph, read in windows of at most `max_length` tokens.

    Raises VPError for an empty question or paragraph, a model that marks no answers, and as
    `vp_core.asking.words.paragraphs.windows_of` does.
    """
    if head_of(model) != "spans":
        raise VPError(f"A {type(model).__name__} marks no answers in a text: give a ...ForQuestionAnswering.")
    for what, text in (("question", question), ("paragraph", paragraph)):
        if not text.strip():
            raise VPError(f"The {what} is empty: write one.")
    data = windows_of(tokenizer, [Asking("of your own", question, paragraph, (), ())], max_length, stride)
    asked = Spans.make(data, TASKS[SECOND], True)
    answers, everything = asked.blank(), np.arange(len(data))
    for batch, outputs in outputs_by_batch(model, asked, make_batches(data, everything)):
        answers[batch.examples] = asked.answers(outputs).numpy()
    _, [best] = asked.combined(answers, everything)
    start, end = data.words(0, int(best[START]), int(best[END]))
    return Marked(paragraph[start:end], start, end, float(best[SCORE]), float(best[NONE]), len(data))
