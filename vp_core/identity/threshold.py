"""What the identity prior would take out right now, nothing trained: thresholds ε and θ on a model as it is."""

from collections.abc import Iterator
from dataclasses import dataclass

from transformers import PreTrainedModel

from vp_core.asking.evaluate import evaluate
from vp_core.asking.kinds.question import Score
from vp_core.ground.chosen import check_epsilon, check_theta
from vp_core.ground.errors import one_of
from vp_core.ground.names import MODES, THETA
from vp_core.ground.store import digest
from vp_core.identity.gate import gated
from vp_core.identity.leaving import blocks_that_leave
from vp_core.measuring.function_norms import FunctionNorms
from vp_core.model.blocks import Block, find_sublayers
from vp_core.squeezing.blocks_off import masked_without
from vp_core.study import Study


@dataclass(frozen=True)
class Threshold:
    """Blocks that are the identity in at least `theta` of the mini-batches are off; `mode` says which may be.

    A block is the identity in a mini-batch where no token's function norm is above ε: `attention` for heads or attention
    blocks, `ffn` for feed-forward networks. With `gate` those that stay are shut token by token (S_ε); else they run as they
    are. VPError with one sentence for ε ≤ 0, θ outside 0..1, and an unknown mode.
    """

    attention: float
    ffn: float
    theta: float = THETA
    mode: str = "joint"
    gate: bool = False

    def __post_init__(self) -> None:
        """Check every field; numbers become floats."""
        one_of("mode", self.mode, tuple(MODES))
        numbers = {"attention": check_epsilon(self.attention), "ffn": check_epsilon(self.ffn), "theta": check_theta(self.theta)}
        for name, value in numbers.items():
            object.__setattr__(self, name, value)

    @property
    def epsilon(self) -> dict[str, float]:
        """ε by kind of block."""
        return {kind: self.ffn if kind == "ffn" else self.attention for kind in MODES[self.mode]}

    def off(self, norms: FunctionNorms) -> list[Block]:
        """The blocks that are off, those that are the identity most often first."""
        return blocks_that_leave(norms, self.epsilon, self.mode, self.theta)


def model_under(study: Study, threshold: Threshold) -> PreTrainedModel:
    """The study's model with what is off taken out, and the gates on the rest if they are asked for; nothing trained."""
    off = threshold.off(study.measured().norms())
    model = masked_without(study.model, off)
    if not threshold.gate:
        return model
    return gated(model, find_sublayers(model), threshold.epsilon)  # what is off puts out zeros: its gates are shut


def running_scores(study: Study, threshold: Threshold) -> Iterator[Score]:
    """Running scores of the study's model under a threshold, the last one exact."""
    return evaluate(model_under(study, threshold), study.question)


def key(study: Study, threshold: Threshold) -> str:
    """A key of what a score under a threshold depends on: without gates the blocks that are off, and nothing else."""
    off = sorted(block.name for block in threshold.off(study.measured().norms()))
    gates = sorted(threshold.epsilon.items()) if threshold.gate else ()
    return digest("threshold 1", study.loaded.fingerprint, study.data_id, off, gates)
