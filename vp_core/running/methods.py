"""From a method's name to the callback that prunes by it."""

from vp_core.gradual.rows import GradualRows
from vp_core.gradual.weights import GradualWeights
from vp_core.ground.names import TYPES, WORD_EMBEDDINGS
from vp_core.movement.prune import LearnedMasks
from vp_core.running.settings import ROWS, WEIGHTS, TrainSettings
from vp_core.training.callbacks import Pruner


def pruner_of(settings: TrainSettings, steps: int) -> Pruner | None:
    """What prunes in a training of so many steps; None for `none`. Raises VPError for cuts that come after its end."""
    seed = settings.schedule.seed
    if settings.method == "none":
        return None
    if settings.method in ROWS:
        squeezed = "last" if settings.squeeze else "end"
        return GradualRows(settings.cuts(steps), settings.method, seed=seed, squeezed=squeezed)
    if settings.method in WEIGHTS:
        types = (*TYPES, WORD_EMBEDDINGS) if settings.embeddings else TYPES
        return GradualWeights(settings.cuts(steps), types=types, free=settings.method == "deletion", seed=seed)
    return LearnedMasks.of(settings.method, until=settings.until, seed=seed)
