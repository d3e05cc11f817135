"""Classes of images: what a ...ForImageClassification is asked."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vp_core.asking.kinds.classification import Classification
from vp_core.asking.kinds.question import Worth
from vp_core.asking.metrics import wilson

_FIVE = 5
_PLACES = {"accuracy": 1, "top5_accuracy": _FIVE}


@dataclass(frozen=True, eq=False)
class ImageClassification(Classification):
    """Which class an image has: the right one is the model's first, or (`top5_accuracy`) among its first five.

    Answers are the likeliest classes (examples, 5), the first first; of two alike the one with the lower output comes first, as
    argmax has it. With five classes or fewer there are as many as there are classes.
    """

    def answers(self, outputs: Tensor) -> Tensor:
        """The classes (examples, places) of the largest outputs, in their order."""
        places = outputs.sort(dim=1, descending=True, stable=True).indices[:, :_FIVE]
        return torch.tensor(self.order)[places]

    def blank(self) -> np.ndarray:
        """Room for all answers."""
        return np.zeros((len(self.labels), min(_FIVE, len(self.order))), dtype=int)

    def worth(self, answers: np.ndarray, seen: np.ndarray) -> Worth:
        """The share of images whose class is among as many places as a metric looks at; Wilson's interval of the headline."""
        hits = answers[seen] == self.labels[seen][:, None]
        right = {metric: hits[:, : _PLACES[metric]].any(axis=1) for metric in self.task.metrics}
        headline, *others = self.task.metrics
        final, found = len(seen) == len(self), right[headline]
        everywhere = np.zeros(len(self), dtype=bool)
        everywhere[seen] = found
        return Worth(
            float(found.mean()),
            *wilson(int(found.sum()), len(found)),
            {metric: float(right[metric].mean()) for metric in others} if final else {},
            everywhere if final else None,
        )
