"""From a method's name to the callback that prunes by it."""

from transformers import PreTrainedModel

from vp_core.running.settings import TrainSettings
from vp_core.training.callbacks import Pruner


def pruner_of(settings: TrainSettings, steps: int, model: PreTrainedModel) -> Pruner | None:
    """What prunes in a training of so many steps; None for `none`. Raises VPError for cuts that come after its end."""
    if settings.method == "none":
        return None
    raise NotImplementedError
