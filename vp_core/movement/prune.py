"""Movement and block pruning as a callback: scores that are trained with the weights say what goes (Lagunas et al. 2021)."""

from collections.abc import Mapping, Sequence
from math import inf
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from vp_core.ground.errors import VPError, one_of
from vp_core.model.projections import Layer, find_layers
from vp_core.movement.choose import SCOPES, ByShare, ByThreshold, Rule, logit, nothing_left, penalty, penalty_factors
from vp_core.movement.fill import FILLS, fill_in, freed, heads_left, to_draw, weights_of
from vp_core.movement.ramp import Ramp
from vp_core.movement.scores import Scores
from vp_core.movement.shapes import NONE, Group, Shapes, find_groups, find_preset, unit_sizes
from vp_core.squeezing.squeeze import squeeze_masked
from vp_core.training.callbacks import Pruner, Run, State
from vp_core.weights.masks import Masks, pack, unpack
from vp_core.weights.matrices import Matrix, find_matrices, view
from vp_core.weights.patterns import by_block
from vp_core.weights.prune import check_masks

LR = 1e-2
"""The learning rate of scores (the paper's own code)."""
LAMBDA = 10.0
"""λ where a threshold says what goes and no other is given: it sets how much goes, and is there to be tuned."""
_MANY, _EVERY = 1 << 20, 4
"""Masks of more units than this are renewed after every fourth step only, which else would cost a tenth of each."""
_ROWS = 20
"""About how many rows of `LearnedMasks.cuts` a training has."""


class LearnedMasks(Pruner):
    """Prune by learned scores: W' = W ⊙ expand(1[S > cut]) while the model trains (block pruning, section 4).

    `shapes` say what has one score (or a preset's name does, see `of`). What goes is said in one of two ways:

    * `until`: a share of the encoder's linear parameters, in the end exact to one unit. The lowest scores go, each counted by
      the weights that go with it, all together (`scope` `global`) or as large a share of attention as of the feed-forward
      networks (`per part`). It needs no λ.
    * `threshold` τ (soft movement): σ(S) > τ stays, and λ_att·mean σ(S_att) + λ_ffn·mean σ(S_ffn) is added to the loss, with
      λ_ffn = `strength` and λ_att = `ratio` · `strength` (None: the sizes of both parts). τ and λ rise along the ramp. On a
      decoder's units λ is `decoder` times as large (the paper takes 2 for BART).

    `ramp` says when. Scores begin at `start` and are trained by AdamW at rate `lr`, which the schedule warms up and lets decay,
    without weight decay. They move by at most about the sum of these rates: with a threshold τ, log(1/τ − 1) + start must
    be well within it. `fill`, once masks are fixed, frees what is empty in surviving heads and neurons
    (`vp_core.movement.fill`), so that less than `until` is gone in the end; `seed` is what is drawn there. `protect` are the
    masks of an earlier run: units in a head that survived there stay (rewinding). Raises VPError for settings that cannot be.
    """

    def __init__(
        self,
        shapes: Shapes | None = None,
        *,
        until: float | None = None,
        threshold: float | None = None,
        scope: str = "global",
        strength: float | None = None,
        ratio: float | None = None,
        decoder: float = 1.0,
        ramp: Ramp | None = None,
        lr: float = LR,
        start: float = 0.0,
        fill: str | None = None,
        protect: Masks | None = None,
        seed: int = 0,
    ) -> None:
        self.shapes, self.ramp, self.scope = shapes or Shapes(), ramp or Ramp(), one_of("scope", scope, SCOPES)
        self.until, self.threshold, self.ratio, self.decoder = until, threshold, ratio, decoder
        self.strength = (0.0 if threshold is None else LAMBDA) if strength is None else strength
        self.lr, self.start, self.fill, self.protect, self.seed = lr, start, fill, protect, seed
        self.fixed, self._refused = False, ""
        self._rows: list[dict[str, Any]] = []
        self._check()

    @classmethod
    def of(cls, preset: str, **settings: Any) -> "LearnedMasks":
        """By a preset of the paper's table 1 (`vp_core.movement.shapes.PRESETS`), with further settings; its teacher is for the
        objective of the training. VPError for one that there is not."""
        found = find_preset(preset)
        own = {"shapes": found.shapes, "ratio": found.ratio, "fill": FILLS[0] if found.filled else None}
        return cls(**(own | settings))

    def _check(self) -> None:
        if (self.until is None) == (self.threshold is None):
            raise VPError("Say either until, the share that goes, or a threshold of the scores: exactly one of them.")
        if self.until is not None and not 0 < self.until < 1:
            raise VPError(f"The share {self.until!r} to prune until must lie between 0 and 1: all units would leave no model.")
        if self.threshold is not None and not 0 < self.threshold < 1:
            raise VPError(f"The threshold {self.threshold!r} of σ(S) must lie between 0 and 1: the paper's code takes 0.1.")
        if self.threshold is not None and not self.start > logit(self.threshold):
            raise VPError(
                f"Scores that begin at {self.start:g} are below the threshold {self.threshold:g} from the first step on, and "
                "everything would go: choose a lower threshold, or a start above "
                f"{logit(self.threshold):.3g}."
            )
        if not 0 < self.lr < 10:
            raise VPError(f"The learning rate {self.lr!r} of scores is not between 0 and 10: 0.01 is the default.")
        for name, value in (
            ("strength λ", self.strength),
            ("ratio", self.ratio or 0.0),
            ("weight of the decoder", self.decoder),
        ):
            if not 0 <= value < inf:
                raise VPError(f"The {name} {value!r} must be a number from 0 on: leave it out for the default.")
        if self.decoder != 1 and not self.strength:
            raise VPError("The decoder's weight is one of the penalty λ: choose a strength above 0 with it, or leave it at 1.")
        if self.fill is not None:
            one_of("fill", self.fill, FILLS)
            if not self.ramp.cool_down:
                raise VPError("What is filled is trained in the cool-down, and there is none: choose one above 0.")

    # what a training asks

    def check(self, steps: int) -> None:
        """VPError for steps that are too few for warm-up, ramp and cool-down."""
        self.ramp.check(steps)

    def prepare(self, model: PreTrainedModel, steps: int) -> None:
        """Put scores on the model; VPError for steps that are too few, and for a share that these shapes cannot reach."""
        self.check(steps)
        if hasattr(model, "squeezed"):
            raise VPError("This model is squeezed already: prune the model that it was made from.")
        self.layers: Sequence[Layer] = find_layers(model)
        self.matrices: Sequence[Matrix] = find_matrices(model, layers=self.layers)
        self.weights = sum(matrix.size for matrix in self.matrices)
        self.scores = Scores.put_on(model, find_groups(self.layers, self.matrices, self.shapes), self.start)
        units, protected = self.scores.units, self._protected()
        self._every = _EVERY if sum(one.group.units for one in units) > _MANY else 1
        for one in units:
            one.protected = _units_in(one.group, protected).to(one.score.device) if protected else None
        try:
            self.rule = self._rule()
        except VPError:
            self.scores.take_off(model)
            raise
        self._factors = penalty_factors(units, self.strength, self.ratio, self.decoder)

    def groups(self) -> Sequence[Mapping[str, Any]]:
        """All scores, with their own rate and no weight decay."""
        return [{"params": [one.score for one in self.scores.units], "lr": self.lr, "weight_decay": 0.0}]

    def begin(self, run: Run) -> None:
        """Without a warm-up the ramp begins here, where nothing goes yet."""
        self._act(run)

    def before_step(self, run: Run) -> None:
        """VPError if nothing is left of attention, or of the feed-forward networks; the state before it is whole."""
        if self._refused:
            raise VPError(self._refused)
        self.scores.keep_rooms(run.model)

    def after_step(self, run: Run) -> None:
        """New masks from the scores; at the end of the ramp they are fixed, and filled."""
        self._act(run)

    def _act(self, run: Run) -> None:
        first, last = self.ramp.first(run.steps), self.ramp.last(run.steps)
        if self.fixed or run.step < first or (run.step < last and (run.step - first) % self._every):
            return
        done = self.ramp.at(run.step, run.steps)
        gone = self.rule.gone(self.scores.units, done)
        self._refused = nothing_left(self.scores.units, gone, run.step, self.rule, done)
        if self._refused:
            return
        for one, goes in zip(self.scores.units, gone, strict=True):
            torch.logical_not(goes, out=one.keep)
        if run.step >= last:
            self._fix(run, done)
        elif run.step > first and (run.step - first) % (self._every * max(1, (last - first) // _ROWS // self._every)) == 0:
            self._note(run.step)

    def penalty(self, run: Run, inputs: Mapping[str, Tensor]) -> Tensor | None:
        """λ_att·mean σ(S_att) + λ_ffn·mean σ(S_ffn); None where λ is 0."""
        done = self.ramp.at(run.step, run.steps)
        if self.fixed or not self.strength * done:
            return None
        return penalty(self.scores.units, [factor * done for factor in self._factors])

    def end(self, run: Run) -> None:
        """What is masked becomes zero in plain weights. Raises VPError as `before_step` does."""
        self.before_step(run)
        self.scores.take_off(run.model)

    def state(self) -> State:
        """Which units stay, what was filled, and what went when."""
        tensors = {f"keep {i}": pack(one.keep.bool().cpu()) for i, one in enumerate(self.scores.units)}
        for name, place in self.scores.places.items():
            if place.mask is not None:
                tensors[f"mask {name}"] = pack(place.kept())
        return tensors, {"fixed": self.fixed, "rows": self._rows, "refused": self._refused}

    def restore(self, run: Run, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Go on from there; VPError if it was made with other shapes."""
        if {name for name in tensors if name.startswith("keep")} != {f"keep {i}" for i in range(len(self.scores.units))}:
            raise VPError("The checkpoint was made with scores of other shapes: choose a new folder (--out).")
        for i, one in enumerate(self.scores.units):
            one.keep.copy_(unpack(tensors[f"keep {i}"], (1, len(one.keep)))[0])
        for name, place in self.scores.places.items():
            if f"mask {name}" in tensors:
                place.mask = unpack(tensors[f"mask {name}"], place.matrix.shape).to(place.units.keep)
        self._rows, self._refused = list(facts["rows"]), facts["refused"]
        self._set_fixed(facts["fixed"])

    # what came of it

    @property
    def sparsity(self) -> float:
        """Share of the encoder's linear parameters that is masked by now."""
        return sum(share * m.size for m, share in zip(self.matrices, self.removed().values(), strict=True)) / self.weights

    def removed(self) -> dict[str, float]:
        """Share of every matrix that is masked by now: matrix name → 0..1."""
        return {matrix.name: self._share(matrix) for matrix in self.matrices}

    def cuts(self) -> list[dict[str, Any]]:
        """Now and then a row of `step`, `sparsity` (of the encoder's linear parameters) and `removed`, by matrix."""
        return list(self._rows)

    def masks(self) -> Masks:
        """Which weights survive, of all matrices of the encoder."""
        keep = {}
        for matrix in self.matrices:
            place = self.scores.places.get(matrix.name)
            keep[matrix.name] = torch.ones(matrix.shape, dtype=torch.bool) if place is None else place.kept()
        return self._named(keep)

    def compact(self, model: PreTrainedModel) -> PreTrainedModel:
        """After `end`, on the CPU: a new model with the same outputs, without what is wholly zero, masked here or before."""
        masks = self.masks()
        keep = {matrix.name: masks.keep(matrix.name) & (view(model, matrix) != 0) for matrix in self.matrices}
        return squeeze_masked(model, self._named(keep))

    # how

    def _named(self, keep: Mapping[str, Tensor]) -> Masks:
        return Masks.of(keep, criterion="movement", scope=self.scope, sparsity=self.sparsity, units=self.shapes.name)

    def _rule(self) -> Rule:
        if self.until is not None:
            return ByShare(self.until, self.scope, self.weights, self.scores.units)
        assert self.threshold is not None
        return ByThreshold(self.threshold, self.strength)

    def _fix(self, run: Run, done: float) -> None:
        heads = torch.cat(list(heads_left(self.layers, self.masks()).values()))
        if not heads.any():
            self._refused = f"At step {run.step:,} no head would be left that is read {self.rule.advice(done)}"
            return
        self._set_fixed(True)
        if self.fill is not None:
            self._fill(run)
        self._note(run.step)
        run.tell(
            f"masks are fixed: {self.sparsity:.1%} of the encoder's linear parameters are gone, {int(heads.sum())} of "
            f"{len(heads)} heads are left"
        )
        if self.threshold is not None and not self.sparsity:
            run.tell("no score fell below the threshold: train longer, or with a larger strength λ or rate of the scores")

    def _set_fixed(self, fixed: bool) -> None:
        self.fixed = fixed
        for one in self.scores.units:
            one.learning = not fixed

    def _fill(self, run: Run) -> None:
        assert self.fill is not None
        masks = self.masks()
        new = freed(self.layers, masks, self.shapes.attention != NONE, self.shapes.ffn != NONE)
        drawn = to_draw(run.model, self.layers, masks, self.fill)
        fill_in(run.model, self.scores, run.optimiser, new, drawn, self.seed)
        count = sum(int(where.sum()) for where in new.values())
        said = f"{count:,} weights are filled" if count else "nothing is empty in surviving heads and neurons"
        run.tell(said + (", at random: the outputs change at this step" if count and self.fill == "uniform" else ""))

    def _share(self, matrix: Matrix) -> float:
        place = self.scores.places.get(matrix.name)
        if place is None:
            return 0.0
        if place.mask is not None:
            return 1 - float(place.mask.mean(dtype=torch.float64))
        gone = 1 - place.units.keep.double().cpu()
        return float((gone * unit_sizes(matrix, place.pattern)).sum() / matrix.size)

    def _note(self, step: int) -> None:
        removed = self.removed()
        self._rows.append({"step": step, "sparsity": self.sparsity, "removed": removed})

    def _protected(self) -> dict[str, Tensor]:
        """Matrix name → (rows, columns) bool: weights of heads that survived in the earlier run."""
        if self.protect is None:
            return {}
        check_masks(self.protect, self.matrices)
        return weights_of(self.layers, heads_left(self.layers, self.protect), {})


def _units_in(group: Group, weights: Mapping[str, Tensor]) -> Tensor:
    """(n,) bool: units that have some of these weights (matrix name → (rows, columns) bool) in a matrix."""
    found = torch.zeros(group.units, dtype=torch.bool)
    for matrix, pattern in group.members:
        if matrix.name in weights:
            found |= by_block(weights[matrix.name].float(), pattern).flatten() > 0
    return found
