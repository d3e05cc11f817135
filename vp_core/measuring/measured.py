"""All that calibration texts say of a model, each thing measured once, when it is first asked for."""

import copy
import sys
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from torch import Tensor
from transformers import PreTrainedModel

from vp_core.asking.batches import Batch, Inputs, make_batches
from vp_core.asking.kinds.heads import tells_words
from vp_core.ground.kept import NOWHERE, Kept, Shelf
from vp_core.ground.work import say
from vp_core.measuring.covariance import LARGE, Covariances, bytes_needed, collect_covariances, collect_inputs
from vp_core.measuring.function_norms import FunctionNorms, collect_norms
from vp_core.measuring.gradients import Gradients, collect_gradients, collect_token_weights, collect_weight_effects
from vp_core.measuring.layerwise import collect_by_layer
from vp_core.measuring.statistics import Statistics, collect
from vp_core.model.precision import device_of
from vp_core.model.projections import find_layers

EWMV_BATCH = 32
"""Texts in a batch of the moving variance."""
SOLVING_TOKENS = 2048
"""Tokens in a batch of gradients and of refit, which walk through the layers with it."""
WINDOW_TOKENS = 512
"""The same of language models, where a backward pass keeps what every one of many layers has read, and of a few texts."""
HELD_OUT = 5
"""Every fifth text is held out while λ is chosen."""


class Measured:
    """A model and the texts it is measured on: evidence for any criterion (`vp_core.ranking.evidence.Evidence`).

    `model_id` and `data_id` say of which model and texts in what is saved. `covariances()` are those of a model for which they
    are known already, as when its coordinates were turned: of which `basis` it then is. What is small, and took long to
    measure, goes on the `shelf`, and is read from there. `estimator` (of variances) and `seed` (of `random`) are how a
    criterion looks at it. What is measured goes to its end and is cached, whoever asked for it.
    """

    def __init__(
        self, model: PreTrainedModel, texts: Inputs, model_id: str, data_id: str,
        covariances: Callable[[], Covariances] | None = None, shelf: Shelf = NOWHERE, basis: str = "neurons",
    ) -> None:  # fmt: skip
        self.model, self.texts, self.model_id, self.data_id = model, texts, model_id, data_id
        self.layers = find_layers(model)
        self.estimator, self.seed = "exact", 0
        self._known, self._kept, self.shelf, self._basis = covariances, Kept(), shelf, basis
        self._chosen = np.arange(len(texts))

    @property
    def large(self) -> bool:
        """Whether covariances of all layers together are too many to be kept as they are."""
        return bytes_needed(self.layers) > LARGE and all(layer.uses == 1 for layer in self.layers)

    def place(self, what: str, *facts: object) -> tuple[object, ...]:
        """The key of something that was measured of this model on these texts, on the shelf."""
        where = device_of(self.model).type, str(self.model.dtype)
        return what, self.model_id, self.data_id, self._basis, *where, *facts

    def seen_with(self, estimator: str, seed: int) -> "Measured":
        """These measurements as a criterion sees them with another estimator and seed; nothing is measured again."""
        other = copy.copy(self)
        other.estimator, other.seed = estimator, seed
        return other

    def on_some(self, texts: int) -> "Measured":
        """The same model with its covariances, everything else measured on so many of the texts, spread over all of them."""
        if texts >= len(self._chosen):
            return self
        other = copy.copy(self)
        other._known, other._kept, other.shelf = self.covariances, Kept(), NOWHERE
        other._chosen = self._chosen[np.linspace(0, len(self._chosen) - 1, texts).astype(int)]
        return other

    def statistics(self) -> Statistics:
        """Mean and variance of the outputs of all six types, by `estimator`."""
        return self._kept.once(("statistics", self.estimator), lambda: self._statistics(self.estimator))

    def covariances(self) -> Covariances:
        """Second moments where units are read; over every fifth text apart, to choose λ on."""
        return self._kept.once("covariances", self._covariances)

    def inputs(self) -> Covariances:
        """The whole covariance of what every projection reads, by its name: single weights need it."""
        return self._kept.once("inputs", self._inputs)

    def gradients(self) -> Gradients:
        """What each coordinate does to the outputs, to first order."""
        return self._kept.once("gradients", self._gradients)

    def token_weights(self) -> Mapping[str, Sequence[Tensor]]:
        """How much each token counts where a projection puts out (`Gradients.weights`), of `solving_batches`."""
        known = self._kept.get("gradients")
        return known.weights if known is not None else self._kept.once("token weights", self._token_weights)

    def weight_effects(self) -> Mapping[str, Tensor]:
        """What each weight does to the outputs, to first order and squared: matrix name → (d_out, d_in)."""
        return self._kept.once("weight effects", self._weight_effects)

    def norms(self) -> FunctionNorms:
        """Function norms of every head, attention block and feed-forward network."""
        return self._kept.once("norms", self._norms)

    def solving_batches(self) -> list[Batch]:
        """All texts in the batches of gradients and of refit, which takes its token weights from the gradients."""
        few = len(self._chosen) < len(self.texts)  # which would be one batch, for one core
        tokens = WINDOW_TOKENS if few or tells_words(self.model) else SOLVING_TOKENS
        return make_batches(self.texts, self._chosen, tokens)

    def some_batches(self, texts: int) -> list[Batch]:
        """Batches of so many texts at most, spread over all of them."""
        return make_batches(self.texts, np.linspace(0, len(self.texts) - 1, min(texts, len(self.texts))).astype(int))

    def _statistics(self, estimator: str) -> Statistics:
        of = self.model_id, self.data_id

        def measured() -> Mapping[str, Tensor]:
            batches = make_batches(self.texts, self._chosen) if estimator == "exact" else self._shuffled()
            found = collect(self.model, batches, estimator, model_id=of[0], data_id=of[1], layers=self.layers)
            return found.tensors()

        return Statistics.from_tensors(self.shelf.once(self.place("statistics", estimator), measured), estimator, *of)

    def _shuffled(self) -> list[Batch]:
        """A moving variance depends on the order, and wants batches like any other: not sorted by length."""
        shuffled = np.random.default_rng(0).permutation(self._chosen)
        parts = np.split(shuffled, range(EWMV_BATCH, len(shuffled), EWMV_BATCH))
        return [batch for part in parts for batch in make_batches(self.texts, part, sys.maxsize)]

    def _covariances(self) -> Covariances:
        if self._known is not None:
            return self._known()
        say(f"measuring covariances ({bytes_needed(self.layers) / 1e6:,.0f} MB)")
        collect_ = collect_by_layer if self.large else collect_covariances
        return collect_(self.model, *self.parted(), self.layers)

    def _inputs(self) -> Covariances:
        known = self.covariances()
        say("measuring the inputs of all matrices")
        return collect_inputs(self.model, *self.parted(), known, self.layers)

    def parted(self) -> tuple[list[Batch], list[Batch]]:
        """The texts that λ is fitted on, and those held out to choose it."""
        everything = np.arange(len(self.texts))
        held_out = everything % HELD_OUT == HELD_OUT - 1
        seen, unseen = (make_batches(self.texts, everything[where]) for where in (~held_out, held_out))
        return seen, unseen

    def _gradients(self) -> Gradients:
        say("measuring gradients")
        exact = self.seen_with("exact", self.seed).statistics()
        return collect_gradients(self.model, self.solving_batches(), exact, self.covariances(), self.layers)

    def _token_weights(self) -> Mapping[str, Sequence[Tensor]]:
        say("measuring gradients")
        return collect_token_weights(self.model, self.solving_batches(), self.layers)

    def _weight_effects(self) -> Mapping[str, Tensor]:
        say("measuring what each weight does to the outputs")
        return collect_weight_effects(self.model, self.solving_batches(), self.layers)

    def _norms(self) -> FunctionNorms:
        batches = make_batches(self.texts, self._chosen)
        return collect_norms(self.model, batches, model_id=self.model_id, data_id=self.data_id)
