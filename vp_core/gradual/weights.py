"""Single weights go while a model trains: by their size (Zhu and Gupta 2017; Compressing BERT, section 2.1), or at random."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from vp_core.gradual.cuts import Cuts
from vp_core.gradual.gone import check_plain, of_its_shape
from vp_core.ground.errors import VPError, one_of
from vp_core.ground.names import TYPES
from vp_core.ground.patterns import find_pattern
from vp_core.model.projections import as_rows, find_layers
from vp_core.ranking.plan import Plan
from vp_core.squeezing.squeeze import squeeze, squeeze_masked
from vp_core.training.callbacks import Pruner, Run, State
from vp_core.weights.masks import Masks
from vp_core.weights.matrices import Matrix, find_matrices, view
from vp_core.weights.order import Score, WeightRanking, sort_scores
from vp_core.weights.prune import check_masks

CRITERIA = ("magnitude", "random")
SCOPES = ("per matrix", "per type", "global", "per row")
_LEAST = torch.finfo(torch.float32).tiny
"""The score of a weight that is there and happens to be 0: above that of one which is gone."""


class GradualWeights(Pruner):
    """At every cut the smallest weights go by their values of that moment, and what is gone stays gone.

    Of n `units` that compete (`scope`) round(s·n) are gone after a cut at the share s, ties by matrix, then row by row. The
    weights, their gradients and Adam moments are zero ever after. `types` are those of the matrices, word embeddings among them
    where asked for. `random` takes as many of each matrix as magnitude would. `free` is the *information deletion* of
    Compressing BERT: set to zero at the cut, with what the optimiser remembers of them, and from then on free to move; each
    cut chooses among all weights anew. `start` are masks that hold from the beginning, with or without `cuts`.

    VPError for cuts that do not fit the training, masks of other matrices, a squeezed or spectrally normalised model, and a
    family that is not supported.
    """

    def __init__(
        self, cuts: Cuts | None, criterion: str = "magnitude", scope: str = "per matrix", types: Sequence[str] = TYPES,
        units: str = "weights", free: bool = False, start: Masks | None = None, seed: int = 0,
    ) -> None:  # fmt: skip
        self.criterion, self.scope = one_of("criterion", criterion, CRITERIA), one_of("scope", scope, SCOPES)
        found = find_pattern(units)
        if found is None:
            raise VPError(f"{units!r} are no units of single weights: choose weights, columns, blocks 32x32 or 2:4.")
        if cuts is None and start is None:
            raise VPError("Without cuts and without masks nothing would be pruned: give one of them.")
        if free and start is not None:
            raise VPError(
                "Masks to start from stay as they are, and deleted weights are free to come back: choose one of both."
            )
        if found.of and cuts is not None and (cuts.number > 1 or abs(cuts.until - (found.sparsity or 0)) > 0.005):
            raise VPError(f"{found.name} has one sparsity, {found.sparsity:.0%}: make one cut of that share.")
        if scope == "per row" and not found.single:
            raise VPError("Only single weights compete within a row: choose the units weights, or another scope.")
        self.schedule, self.pattern, self.types, self.free = cuts, found, tuple(types), free
        self.start, self.seed = start, seed
        self.matrices: tuple[Matrix, ...] = ()
        self._masks: Masks | None = None
        self._gone: dict[str, Tensor] = {}
        self._cuts: list[dict[str, Any]] = []

    def check(self, steps: int) -> None:
        """VPError unless all cuts come before the last step."""
        if self.schedule is not None:
            self.schedule.check(steps)

    def prepare(self, model: PreTrainedModel, steps: int) -> None:
        """Check that cuts, masks and model go together."""
        self.check(steps)
        check_plain(model)
        self.matrices = find_matrices(model, self.types)
        if self.start is not None:
            check_masks(self.start, self.matrices)

    def begin(self, run: Run) -> None:
        """Masks that are there from the beginning, and a cut before the first step."""
        if self.start is not None:
            self._set(run, self.start)
            self._zero(run)
        self._cut_if_due(run)

    def after_backward(self, run: Run) -> None:
        """What is gone gets no gradient."""
        for matrix in () if self.free else self.matrices:
            module = run.model.get_submodule(matrix.path)
            gradient = module.weight.grad
            if isinstance(gradient, Tensor) and matrix.name in self._gone:
                _zero(matrix, as_rows(module, gradient), self._gone[matrix.name])

    def after_step(self, run: Run) -> None:
        """Where it is time, weights go."""
        self._cut_if_due(run)

    def _cut_if_due(self, run: Run) -> None:
        share = None if self.schedule is None else self.schedule.at(run.step)
        if share is None:
            return
        self._set(run, self._choose(run.model, share))
        self._zero(run)
        self._cuts.append({"step": run.step, "sparsity": share, "removed": self.removed()})
        masks = self.masks()
        what = "set to zero" if self.free else "gone"
        run.tell(f"{masks.weights_removed:,} of {masks.weights:,} weights are {what} after step {run.step:,}")

    def _choose(self, model: PreTrainedModel, share: float) -> Masks:
        """Which weights stay at this share: none of those that are gone."""

        def there(scores: Tensor, matrix: Matrix) -> Tensor:
            scores, gone = scores.clamp_min(_LEAST), None if self.free else self._gone.get(matrix.name)
            return scores if gone is None else scores.masked_fill(gone.cpu(), 0)

        def magnitude(matrix: Matrix) -> Tensor:
            return there(view(model, matrix).cpu().abs().float(), matrix)

        def draw(matrix: Matrix) -> Tensor:
            rng = np.random.default_rng([self.seed, *matrix.name.encode()])
            return there(torch.from_numpy(rng.random(matrix.shape, dtype=np.float32)), matrix)

        ranking = self._ranking(magnitude, None)
        if self.criterion == "random":
            ranking = self._ranking(draw, ranking)
        masks = ranking.masks(share)
        if self.free or not self._gone:
            return masks
        keep = {matrix.name: masks.keep(matrix.name) & ~self._gone[matrix.name].cpu() for matrix in self.matrices}
        return Masks.of(keep, **self._about(share))

    def _ranking(self, score: Score, like: WeightRanking | None) -> WeightRanking:
        ordered = sort_scores(self.matrices, self.pattern, score, self.scope == "per row", self.criterion)
        return WeightRanking(self.matrices, self.pattern, score, ordered, self.criterion, self.scope, like=like)

    def _about(self, share: float) -> dict[str, Any]:
        return {"criterion": self.criterion, "scope": self.scope, "units": self.pattern.name, "sparsity": share}

    def _set(self, run: Run, masks: Masks) -> None:
        self._masks = masks
        self._gone = {m.name: ~masks.keep(m.name).to(run.accelerator.device) for m in self.matrices}

    def _zero(self, run: Run) -> None:
        """What is gone becomes zero, with all that belongs to it."""
        for matrix in self.matrices:
            module = run.model.get_submodule(matrix.path)
            weight = module.weight
            assert isinstance(weight, Tensor)
            for one in of_its_shape(weight, run.optimiser):
                _zero(matrix, as_rows(module, one), self._gone[matrix.name])

    def masks(self) -> Masks:
        """Which weights are left by now; of deleted ones (`free`) which were set to zero by the last cut."""
        if self._masks is None:
            return Masks.of({m.name: torch.ones(m.shape, dtype=torch.bool) for m in self.matrices}, **self._about(0.0))
        return self._masks

    def removed(self) -> dict[str, float]:
        """Share of each matrix's weights that is gone by now."""
        masks = self.masks()
        return {matrix.name: masks.share_removed(matrix.name) for matrix in self.matrices}

    def cuts(self) -> list[dict[str, Any]]:
        """What went when."""
        return list(self._cuts)

    def compact(self, model: PreTrainedModel) -> PreTrainedModel:
        """After the training: a squeezed model with the outputs of `model`; where weights were free, nothing is left out."""
        if not self.free:
            return squeeze_masked(model, self.masks())
        projections = [p for layer in find_layers(model) for p in layer.projections.values()]
        return squeeze(model, Plan({p.name: torch.ones(p.d_out, dtype=torch.bool) for p in projections}, "none", "any", 0.0))

    def state(self) -> State:
        """Masks, a bit a weight, and cuts."""
        if self._masks is None:
            return {}, {"cuts": self._cuts, "share": None}
        return dict(self._masks.bits), {"cuts": self._cuts, "share": self._masks.sparsity}

    def restore(self, run: Run, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Go on from a state; the weights are restored by themselves."""
        self._cuts = list(facts["cuts"])
        if facts["share"] is not None:
            self._set(run, Masks(dict(tensors), {m.name: m.shape for m in self.matrices}, **self._about(facts["share"])))


def _zero(matrix: Matrix, values: Tensor, gone: Tensor) -> None:
    """What is `gone` (rows, columns) of a matrix becomes zero in `values`, its module's, in place."""
    matrix.part.give(values, values[matrix.part.index].masked_fill_(gone, 0))
