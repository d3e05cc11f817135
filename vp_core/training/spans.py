"""What is minimised of a model that marks answers: where they begin and where they end, with a teacher beside it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div, log_softmax
from transformers import PreTrainedModel

from vp_core.asking.batches import Batch
from vp_core.asking.words.paragraphs import Paragraphs
from vp_core.ground.names import ALPHA, TEMPERATURE
from vp_core.training.teacher import Teacher
from vp_core.training.words import Ask, Taught

_NEVER = -1e4
"""A logit of what cannot be: its probability is 0 in float32, and unlike that of −∞ its logarithm can be multiplied by it."""


@dataclass(frozen=True, eq=False)
class MarkedSpans(Taught):
    """The mean cross-entropy of where the answer of a window begins and of where it ends, among its tokens (Devlin et al. 2019,
    section 4.2); of a window that does not hold it both are the first token.

    `targets` (windows, 2) are the two positions. With a teacher it is α·loss + (1 − α)·T²·KL(teacher ‖ model), the mean of both
    positions' KL of outputs softened by the temperature T (Hinton et al. 2015); `hidden` weighs the mean squared error of all
    hidden states besides. VPError for α outside 0..1, a temperature or weight that is none.
    """

    data: Paragraphs
    targets: np.ndarray
    teacher: Teacher | None = None
    alpha: float = ALPHA
    temperature: float = TEMPERATURE
    hidden: float = 0.0

    def loss(self, model: PreTrainedModel, batch: Batch, ask: Ask, step: int) -> Tensor:
        """The mean loss () of a batch."""
        found = ask(batch.inputs, **self._more())
        logits = _both(found, batch)
        right = torch.from_numpy(self.targets[batch.examples]).to(logits.device).flatten()
        loss = cross_entropy(logits, right)
        if self.teacher is not None:
            mine, theirs = (
                log_softmax(_both(one, batch, self.temperature).to(logits.device), dim=1)
                for one in (found, self.teacher.spans(batch))
            )
            taught = self.temperature**2 * kl_div(mine, theirs, reduction="batchmean", log_target=True)
            loss = self.alpha * loss + (1 - self.alpha) * taught
        return self._with_hidden(loss, found, batch)


def _both(found: Any, batch: Batch, temperature: float = 1.0) -> Tensor:
    """Logits (2·windows, tokens), float32, of an answer's beginning and end, window by window, softened; not of padding."""
    logits = torch.stack([found.start_logits, found.end_logits], dim=1).float() / temperature
    real = batch.inputs["attention_mask"].bool().to(logits.device)
    return logits.masked_fill(~real[:, None], _NEVER).flatten(0, 1)
