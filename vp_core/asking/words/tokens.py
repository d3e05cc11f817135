"""Tokens that a model predicts: their losses, from the states that its head reads.

A vocabulary is wide. The head runs on the states of predicted tokens only, and on a few hundred of them at a time, so that
memory does not grow with the window; the loss of a token is −log of its probability, in nats.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from vp_core.asking.batches import Batch, Inputs
from vp_core.asking.forward import inputs_for, told
from vp_core.asking.kinds.heads import head_states, logits_of
from vp_core.asking.kinds.question import Question, Worth
from vp_core.asking.tasks import Task

AT_ONCE = 256
"""Tokens whose logits are there at the same time."""
_RESAMPLES = 2000


def losses_of_tokens(model: PreTrainedModel, states: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """(loss in nats, whether it was the likeliest) (n,) of tokens `ids` (n,), from the states (n, width) that predict them."""
    losses, right = [], []
    for some, wanted in zip(states.split(AT_ONCE), ids.split(AT_ONCE), strict=True):
        logits = logits_of(model, some)
        losses.append(logits.logsumexp(dim=1) - logits.gather(1, wanted[:, None])[:, 0])
        right.append(logits.argmax(dim=1) == wanted)
    return torch.cat(losses), torch.cat(right)


def drawn_again(sums: np.ndarray) -> tuple[float, float]:
    """The 95 % interval of Σ part / Σ whole, of (part, whole) for each example (n, 2): a percentile bootstrap (seeded)."""
    n = len(sums)
    again = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), _RESAMPLES) @ sums
    low, high = np.percentile(again[:, 0] / again[:, 1], [2.5, 97.5])
    return float(low), float(high)


@dataclass(frozen=True, eq=False)
class Tokens(Question):
    """Which token stands where: windows of text `data` (or pairs of texts), and in window i the tokens `wanted[i]`
    (n,), told by the states at the positions `read[i]` (n,).

    Outputs and answers of a window are (sum of losses, tokens, tokens that were the likeliest).
    """

    data: Inputs
    task: Task
    read: Sequence[np.ndarray]
    wanted: Sequence[np.ndarray]
    sizes: np.ndarray | None = None
    """Bytes of the predicted tokens of each window (windows,); None where the tokeniser does not say."""
    first, following = 8, 64

    def outputs(self, model: PreTrainedModel, batch: Batch) -> Tensor:
        """(windows, 3), float64."""
        device = model.device
        rows = np.concatenate([np.full(len(self.read[int(i)]), row) for row, i in enumerate(batch.examples)])
        places = np.concatenate([self.read[int(i)] for i in batch.examples])
        ids = torch.from_numpy(np.concatenate([self.wanted[int(i)] for i in batch.examples])).to(device)
        row = torch.from_numpy(rows).to(device)
        with told(model, batch):
            states = head_states(model, inputs_for(model, batch))[row, torch.from_numpy(places).to(device)]
            losses, right = losses_of_tokens(model, states, ids)
        each = torch.stack([losses.cpu().double(), torch.ones(len(ids), dtype=torch.float64), right.cpu().double()], dim=1)
        return torch.zeros(len(batch.examples), 3, dtype=torch.float64).index_add_(0, row.cpu(), each)

    def answers(self, outputs: Tensor) -> Tensor:
        """The same."""
        return outputs

    def blank(self) -> np.ndarray:
        """Room for the sums of all windows."""
        return np.zeros((len(self.data), 3))

    def losses(self, examples: np.ndarray, outputs: np.ndarray) -> np.ndarray:
        """The mean loss of each window's tokens."""
        found: np.ndarray = outputs[:, 0] / outputs[:, 1]
        return found

    def weights(self) -> np.ndarray:
        """Tokens of each window."""
        return np.array([len(ids) for ids in self.wanted])

    def count(self, examples: np.ndarray) -> int:
        """Predicted tokens of these windows."""
        return int(self.weights()[examples].sum())

    def worth(self, answers: np.ndarray, seen: np.ndarray) -> Worth:
        """The task's metrics; the interval is a percentile bootstrap over windows (seeded), whose tokens belong together."""
        sums = answers[seen]
        losses, tokens, right = sums.sum(axis=0)
        low, high = drawn_again(sums[:, :2])
        others = {"token_accuracy": float(right / tokens)}
        if self.sizes is not None and "bits_per_byte" in self.task.metrics:
            others["bits_per_byte"] = float(losses / np.log(2) / self.sizes[seen].sum())
        value, low, high = (self.of_loss(float(loss)) for loss in (losses / tokens, low, high))
        return Worth(value, low, high, others if len(seen) == len(self) else {})

    @abstractmethod
    def of_loss(self, loss: float) -> float:
        """The headline metric from the mean loss of a token."""
