"""What a criterion may look at, each measured when it is first asked for: outputs, inputs of consumers, gradients,
function norms."""

from collections.abc import Callable
from dataclasses import dataclass

from transformers import PreTrainedModel

from vp_core.covariance import Covariances
from vp_core.errors import VPError
from vp_core.function_norms import FunctionNorms
from vp_core.gradients import Gradients
from vp_core.statistics import Statistics


def _missing():
    raise VPError("This criterion needs texts to measure the model on: name a task, or take magnitude.")


@dataclass(frozen=True, eq=False)
class Evidence:
    """A model and what was measured of it; `seed` matters to `random` only."""

    model: PreTrainedModel
    statistics: Callable[[], Statistics] = _missing
    covariances: Callable[[], Covariances] = _missing
    gradients: Callable[[], Gradients] = _missing
    norms: Callable[[], FunctionNorms] = _missing
    seed: int = 0
