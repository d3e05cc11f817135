"""How SNIP's paper is read where it leaves a choice, or where a short training wants another one."""

from dataclasses import asdict, dataclass

from vp_core.ground.errors import one_of
from vp_core.ground.names import PAPER_READINGS, PAPER_TRAINING, READINGS
from vp_core.training.schedule import Schedule


@dataclass(frozen=True)
class Readings:
    """One word for each question; `vp_core.ground.names.READINGS` says what each word means and which the paper's is.

    `start`: the weights that spectral normalisation begins with (section 3.3). `identity`: when a block is the identity in a
    mini-batch. `usage`: what θ is a threshold of. `counted`: the mini-batches that are counted (section 3.4, step 3). `l1_on`:
    what the L1 term is of. The defaults are those that runs had before there was a choice. VPError for other words.
    """

    start: str = "nearest"
    identity: str = "max"
    usage: str = "identity"
    counted: str = "texts"
    l1_on: str = "norms"

    def __post_init__(self) -> None:
        """Check every word."""
        for name, value in asdict(self).items():
            one_of(name.replace("_", "-"), value, tuple(READINGS[name.replace("_", "-")]))


PAPER = Readings(**{name.replace("-", "_"): word for name, word in PAPER_READINGS.items()})
"""As the paper has it, or nearest to its words: ε is a mean, so a mini-batch is compared by its mean; usage falls below θ."""


def paper_schedule(epochs: int = 1, seed: int = 0) -> Schedule:
    """Its table 3: learning rate 1e-4, layer-wise decay 0.8, Adam's ε 1e-6, whole passes (`epochs` is 3 for MRPC)."""
    its = PAPER_TRAINING
    return Schedule(epochs=epochs, seed=seed, lr=its["lr"], layer_decay=its["layer_decay"], epsilon=its["epsilon"])


def passes(share: float, theta: float, usage: str) -> bool:
    """Whether a block that was the identity in this `share` of the mini-batches leaves.

    >>> passes(0.5, 0.95, "identity"), passes(0.5, 0.95, "use")
    (False, True)
    """
    return share >= theta if usage == "identity" else 1 - share < theta
