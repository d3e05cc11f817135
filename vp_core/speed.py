"""How fast a model is on this machine: forms of it take turns, so that whatever else the machine does meets all alike."""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel

from vp_core.cost import Cost, flops_per_token, parameters
from vp_core.criteria import score_neurons
from vp_core.errors import VPError
from vp_core.families import longest_input
from vp_core.parallel import WORKERS, served_first
from vp_core.plan import rank
from vp_core.precision import bytes_of, in_precision
from vp_core.projections import find_layers
from vp_core.prune import prune
from vp_core.squeeze import squeeze
from vp_core.statistics import Statistics
from vp_core.study import Recipe, Study

REPEATS = 7
Row = dict[str, Any]
"""One line of a table of speeds: form, sparsity, precision, batch, length, latency with quartiles, sizes."""


@dataclass(frozen=True)
class Timing:
    """Seconds of each repeat of one forward pass over `batch` texts of `length` tokens."""

    batch: int
    length: int
    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def spread(self) -> tuple[float, float]:
        """First and third quartile of the repeats, the least and the greatest if they are few."""
        if len(self.seconds) < 4:
            return min(self.seconds), max(self.seconds)
        low, _, high = statistics.quantiles(self.seconds, method="inclusive")
        return low, high

    @property
    def texts_per_second(self) -> float:
        return self.batch / self.median


def random_texts(config: PretrainedConfig, batch: int, length: int, seed: int = 0) -> dict[str, Tensor]:
    """Inputs of random tokens without padding: speed depends on their number only."""
    if batch < 1 or length < 1:
        raise VPError(f"A batch of {batch} texts of {length} tokens cannot be timed: both must be 1 or more.")
    if length > longest_input(config):
        raise VPError(f"The model takes {longest_input(config)} tokens at most, not {length}: choose a shorter length.")
    generator = torch.Generator().manual_seed(seed)
    # The last tokens of the vocabulary are words in every family here; the first ones mean padding and the like.
    ids = torch.randint(config.vocab_size // 2, config.vocab_size, (batch, length), generator=generator)
    if config.model_type == "bart":  # its classifier reads the end token, one in each text
        ids[:, -1] = config.eos_token_id
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def take_turns(
    runs: Mapping[str, Callable[[], object]], repeats: int, stopped: Callable[[], bool] = lambda: False
) -> Iterator[dict[str, tuple[float, ...]]]:
    """After a warm-up, the seconds of each run so far, once each round in which every run had a turn."""
    seconds: dict[str, tuple[float, ...]] = dict.fromkeys(runs, ())
    for round_ in range(repeats + 1):
        for name, run in runs.items():
            if stopped():
                return
            start = time.perf_counter()
            run()
            if round_:
                seconds[name] += (time.perf_counter() - start,)
        if round_:
            yield dict(seconds)


def time_forward(
    models: Mapping[str, PreTrainedModel],
    batch: int,
    length: int,
    repeats: int = REPEATS,
    stopped: Callable[[], bool] = lambda: False,
) -> Iterator[dict[str, Timing]]:
    """Timings of the models' forward passes so far, round by round; all cores work on each pass, background work waits."""
    models = dict(models)
    inputs = random_texts(next(iter(models.values())).config, batch, length)

    def forward(model: PreTrainedModel) -> Callable[[], object]:
        def run() -> object:
            with torch.inference_mode():
                return model(**inputs)

        return run

    with served_first():
        threads = torch.get_num_threads()
        torch.set_num_threads(WORKERS)
        try:
            for seconds in take_turns({name: forward(model) for name, model in models.items()}, repeats, stopped):
                yield {name: Timing(batch, length, values) for name, values in seconds.items()}
        finally:
            torch.set_num_threads(threads)


@dataclass(frozen=True, eq=False)
class Forms:
    """A model as it came, with its removed rows masked, and squeezed; what the plan takes from it."""

    dense: PreTrainedModel
    masked: PreTrainedModel
    squeezed: PreTrainedModel
    cost: Cost

    def items(self) -> dict[str, PreTrainedModel]:
        return {"dense": self.dense, "masked": self.masked, "squeezed": self.squeezed}


def forms_of(study: Study, recipe: Recipe, sparsity: float) -> Forms:
    """The three forms of a study's model at one sparsity."""
    masked = study.pruned(recipe, sparsity)
    return Forms(study.model, masked, squeeze(masked, study.plan(recipe, sparsity)), study.cost(recipe, sparsity))


def forms_without_data(model: PreTrainedModel, sparsity: float) -> Forms:
    """Forms of a model nobody has measured on text: rows of the smallest norm (`magnitude`, per type) become zero.

    Good enough to time, since speed does not depend on the constants; its answers mean nothing.
    """
    layers = find_layers(model)
    projections = [p for layer in layers for p in layer.projections.values()]
    nothing = Statistics({}, None, "", "")
    plan = rank(score_neurons("magnitude", model, nothing, projections), projections, criterion="magnitude").plan(sparsity)
    masked = prune(model, plan, {p.name: torch.zeros(p.d_out) for p in projections})
    squeezed = squeeze(masked, plan)
    return Forms(model, masked, squeezed, squeezed.squeezed.cost)


def compare(
    forms: Forms,
    sparsity: float,
    batch: int,
    length: int,
    precision: str = "float32",
    repeats: int = REPEATS,
    stopped: Callable[[], bool] = lambda: False,
) -> Iterator[list[Row]]:
    """Rows of the three forms, better with every round; the last list has all repeats.

    Speed-ups are against the dense model in the same precision and the same rounds.
    """
    models = {name: in_precision(model, precision) for name, model in forms.items().items()}
    for timings in time_forward(models, batch, length, repeats, stopped):
        yield [_row(name, sparsity, precision, forms, models[name], timings[name], timings["dense"]) for name in models]


def _row(form: str, sparsity: float, precision: str, forms: Forms, run: PreTrainedModel, timing: Timing, dense: Timing) -> Row:
    low, high = timing.spread
    model = forms.items()[form]
    return {
        "form": form,
        "sparsity": sparsity if form != "dense" else 0.0,
        "precision": precision,
        "batch": timing.batch,
        "length": timing.length,
        "latency_ms": 1000 * timing.median,
        "low_ms": 1000 * low,
        "high_ms": 1000 * high,
        "texts_per_second": timing.texts_per_second,
        "speedup": dense.median / timing.median,
        "flop_limit": forms.cost.speed_limit(timing.length) if form == "squeezed" else 1.0,
        "parameters": parameters(model),
        "megabytes": bytes_of(run) / 1e6,
        "mflops_per_token": flops_per_token(model, timing.length) / 1e6,
        "repeats": len(timing.seconds),
    }
