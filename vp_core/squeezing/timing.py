"""Seconds of forward passes: models take turns, so that whatever else the machine does meets all alike."""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel

from vp_core.asking.batches import Batch
from vp_core.asking.forward import inputs_for, told
from vp_core.asking.kinds.heads import head_of
from vp_core.ground.errors import VPError
from vp_core.ground.names import REPEATS
from vp_core.ground.parallel import WORKERS
from vp_core.ground.work import TURNS, checkpoint
from vp_core.model.families import family_of, longest_input
from vp_core.model.family.vision import picture_of, tokens_of
from vp_core.model.precision import device_of


@dataclass(frozen=True)
class Timing:
    """Seconds of each repeat of one forward pass over `batch` texts of `length` tokens."""

    batch: int
    length: int
    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Median of the repeats, in seconds."""
        return statistics.median(self.seconds)

    @property
    def spread(self) -> tuple[float, float]:
        """First and third quartile of the repeats in seconds, the least and the greatest if they are few."""
        if len(self.seconds) < 4:
            return min(self.seconds), max(self.seconds)
        low, _, high = statistics.quantiles(self.seconds, method="inclusive")
        return low, high

    @property
    def texts_per_second(self) -> float:
        """Throughput at the median."""
        return self.batch / self.median


def random_texts(config: PretrainedConfig, batch: int, length: int, seed: int = 0) -> dict[str, Tensor]:
    """Inputs of random tokens, (batch, length) each, without padding: speed depends on their number only.

    Of a model that sees `pixel_values` (batch, channels, height, width) of random pictures, whose length is their own.

    Raises VPError for a batch or length below 1, and for texts longer than the model takes.
    """
    if batch < 1 or length < 1:
        raise VPError(f"A batch of {batch} texts of {length} tokens cannot be timed: both must be 1 or more.")
    generator = torch.Generator().manual_seed(seed)
    if family_of(config.model_type).sees:
        return {"pixel_values": torch.randn(batch, *picture_of(config), generator=generator)}
    if length > longest_input(config):
        raise VPError(f"The model takes {longest_input(config)} tokens at most, not {length}: choose a shorter length.")
    # The last tokens of the vocabulary are words in every family here; the first ones mean padding and the like.
    ids = torch.randint(config.vocab_size // 2, config.vocab_size, (batch, length), generator=generator)
    if family_of(config.model_type).reads_end:  # one in each text
        ids[:, -1] = config.eos_token_id
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def texts_for(model: PreTrainedModel, batch: int, length: int) -> dict[str, Tensor]:
    """`random_texts` for a model; one that writes about a text reads as many tokens in its decoder."""
    inputs = random_texts(model.config, batch, length)
    return inputs | ({"decoder_input_ids": inputs["input_ids"]} if head_of(model) == "target tokens" else {})


def length_of(config: PretrainedConfig, length: int) -> int:
    """How many tokens an input has where so many are asked for: that many, of a model that sees those of its pictures."""
    return tokens_of(config) if family_of(config.model_type).sees else length


def take_turns(
    runs: Mapping[str, Callable[[], object]], repeats: int, device: torch.device | None = None
) -> Iterator[dict[str, tuple[float, ...]]]:
    """After a warm-up, the seconds of each run so far, once each round in which every run had a turn.

    What is begun on an accelerator `device` is waited for before the clock is read.

    Before each run, outside of what is timed, is the moment to let a waiting visitor's score go first, and to stop.
    """
    seconds: dict[str, tuple[float, ...]] = dict.fromkeys(runs, ())
    for round_ in range(repeats + 1):
        for name, run in runs.items():
            checkpoint()
            wait_for(device)
            start = time.perf_counter()
            run()
            wait_for(device)
            if round_:
                seconds[name] += (time.perf_counter() - start,)
        if round_:
            yield dict(seconds)


def wait_for(device: torch.device | None) -> None:
    """Until an accelerator has done all that was begun on it; the processor has at once."""
    if device is not None and device.type in ("cuda", "mps"):
        getattr(torch, device.type).synchronize()


def time_forward(
    models: Mapping[str, PreTrainedModel], batch: int, length: int, repeats: int = REPEATS
) -> Iterator[dict[str, Timing]]:
    """Timings of the models' forward passes so far, round by round; all cores work on each pass, background work waits.

    Raises VPError as `random_texts` does, and if a model fails.
    """
    models = dict(models)
    first = next(iter(models.values()))
    length, device = length_of(first.config, length), device_of(first)
    inputs = {name: value.to(device) for name, value in texts_for(first, batch, length).items()}
    texts = Batch(inputs, np.arange(batch))

    def run_of(model: PreTrainedModel) -> Callable[[], object]:
        def run() -> object:
            with torch.inference_mode(), told(model, texts):  # by torch's own products, as whoever loads the model runs it
                return model(**inputs_for(model, texts))

        return run

    with all_cores():
        for seconds in take_turns({name: run_of(model) for name, model in models.items()}, repeats, device):
            yield {name: Timing(batch, length, values) for name, values in seconds.items()}


@contextmanager
def all_cores() -> Iterator[None]:
    """All cores work on each matrix product, and background work waits, while this is open."""
    with TURNS.first():
        threads = torch.get_num_threads()
        torch.set_num_threads(WORKERS)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
