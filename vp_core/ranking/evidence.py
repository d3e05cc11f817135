"""What a criterion may look at: a model and what texts say of it, each measured when it is first asked for.

`vp_core.measuring.measured.Measured` is such evidence; so is anything else that has these members. What criteria read off
for one group of units is in `vp_core.ranking.readings`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor
from transformers import PreTrainedModel

from vp_core.ground.errors import VPError
from vp_core.measuring.covariance import Covariances
from vp_core.measuring.function_norms import FunctionNorms
from vp_core.measuring.gradients import Gradients
from vp_core.measuring.statistics import Statistics


class Evidence(Protocol):
    """A model and what was measured of it; each method raises VPError for what there are no texts to measure on."""

    @property
    def model(self) -> PreTrainedModel:
        """The model whose units are scored."""

    @property
    def seed(self) -> int:
        """The seed of the criterion `random`; no other looks at it."""

    def statistics(self) -> Statistics:
        """Mean and variance of what every projection puts out."""

    def covariances(self) -> Covariances:
        """Second moments where units are read."""

    def inputs(self) -> Covariances:
        """Second moments of what every matrix reads."""

    def gradients(self) -> Gradients:
        """What each coordinate does to the outputs, to first order."""

    def weight_effects(self) -> Mapping[str, Tensor]:
        """What each weight does to the outputs, to first order and squared: matrix name → (d_out, d_in)."""

    def norms(self) -> FunctionNorms:
        """Function norms of heads, attention blocks and feed-forward networks."""


@dataclass(frozen=True, eq=False)
class StatisticsAlone:
    """Evidence for single rows: a model and statistics of its outputs; whatever else is asked for raises VPError."""

    model: PreTrainedModel
    outputs: Statistics
    seed: int = 0

    def statistics(self) -> Statistics:
        """The statistics that were given, `outputs`."""
        return self.outputs

    def covariances(self) -> Covariances:
        """Raises VPError: there are no texts to measure on."""
        raise _missing()

    def inputs(self) -> Covariances:
        """Raises VPError: there are no texts to measure on."""
        raise _missing()

    def gradients(self) -> Gradients:
        """Raises VPError: there are no texts to measure on."""
        raise _missing()

    def weight_effects(self) -> Mapping[str, Tensor]:
        """Raises VPError: there are no texts to measure on."""
        raise _missing()

    def norms(self) -> FunctionNorms:
        """Raises VPError: there are no texts to measure on."""
        raise _missing()


def _missing() -> VPError:
    return VPError("This criterion needs texts to measure the model on: name a task, or take magnitude.")
