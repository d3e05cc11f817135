"""What a plan takes from a model, in numbers (`vp_core.squeezing.cost` counts them)."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Cost:
    """What a plan takes from a model when its removed rows are squeezed out exactly (`vp_core.squeezing.squeeze`).

    `parameters` are weights of the projections (biases and embeddings are not counted). `linear` and `attention` are the
    two parts of the FLOPs formula: weights used per token, and Σ widths. All as if nothing had to be padded: the least that
    is left, and so the limit of what squeezing can save.
    """

    rows: int
    rows_removed: int
    parameters: int
    parameters_left: int
    linear: int
    linear_left: int
    attention: int
    attention_left: int

    @property
    def parameters_removed(self) -> int:
        """The projections' weights that go."""
        return self.parameters - self.parameters_left

    @property
    def share_removed(self) -> float:
        """Share of the projections' weights that goes."""
        return self.parameters_removed / self.parameters

    def flops_per_token(self, length: int = 0) -> int:
        """FLOPs per token of the model as it came in; without attention's products at `length` 0."""
        return 2 * self.linear + 2 * length * self.attention

    def flops_per_token_left(self, length: int = 0) -> int:
        """FLOPs per token that are left."""
        return 2 * self.linear_left + 2 * length * self.attention_left

    def speed_limit(self, length: int = 0) -> float:
        """How many times as fast the squeezed model is if time follows FLOPs; infinite if nothing is left."""
        left = self.flops_per_token_left(length)
        return self.flops_per_token(length) / left if left else float("inf")
