"""What `vp speed` does; its options are in `app.cli.main`."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd
from transformers import PreTrainedModel

from app.cli.options import count, listed, open_from, print_json, recipe_from, say, sparsities_from
from vp_core.ground.errors import VPError, one_of
from vp_core.ground.names import PRECISIONS
from vp_core.loading.load import EMBEDDED, load_any
from vp_core.speed import Forms, SpeedRow, compare, forms_of, forms_without_data, measure_sparse, no_semi_structured
from vp_core.weights.masks import Masks


@dataclass(frozen=True)
class _Timed:
    """What is timed: the `forms` by sparsity, where rows go or there are texts, and of single weights a layer of `model`."""

    model: PreTrainedModel
    forms: Callable[[float], Forms] | None
    single: bool = False
    masks: Callable[[float], Masks] | None = None


def speed(options: argparse.Namespace) -> None:
    """Time every form at every batch size and sparsity, of single weights one layer's products too, and print a table."""
    pattern = recipe_from(options).pattern
    own = pattern.sparsity if pattern else None
    sparsities = sparsities_from(options, "0.3,0.5,0.7" if own is None else str(own))
    batches = [count("batch", part) for part in listed(options.batch)]
    length, repeats = count("length", options.length), count("repeats", options.repeats)
    timed = _timed(options)
    rows, zeros = list[SpeedRow](), list[SpeedRow]()
    for batch in batches:
        for sparsity in sparsities if timed.forms else ():
            assert timed.forms
            *_, last = compare(timed.forms(sparsity), sparsity, batch, length, options.precision, repeats)
            # The dense model is timed in every comparison; the first one stands for it.
            rows += last if sparsity == sparsities[0] else last[1:]
            say(f"batch {batch}, sparsity {sparsity:g}: squeezed {last[-1]['speedup']:.2f} times as fast as dense")
        for sparsity in (s for s in sparsities if s and timed.single):
            *_, last = measure_sparse(timed.model, [sparsity], batch, length, repeats, timed.masks)
            zeros += last
            say(f"batch {batch}, sparsity {sparsity:g}: single zeros {last[1]['speedup']:.2f} times as fast as dense")
    if options.json:
        print_json({"model": rows, "one layer": zeros, "2:4": no_semi_structured()} if timed.single else rows)
        return
    _print(rows, "flop_limit", "megabytes")
    if timed.single:
        print("\nOne layer's linear maps: single zeros save bytes, not time, since the dense kernel multiplies them.")
        _print(zeros, "megabytes", "disk_megabytes")
        print(no_semi_structured())


def _print(rows: list[SpeedRow], *more: str) -> None:
    columns = ["form", "sparsity", "batch", "latency_ms", "low_ms", "high_ms", "speedup", *more]
    if rows:
        print(pd.DataFrame(rows)[columns].to_string(index=False, float_format="%.2f"))


def _timed(options: argparse.Namespace) -> _Timed:
    """Dense, masked and squeezed by sparsity: from texts where there is a task, else by the weights alone."""
    if options.task or options.model in EMBEDDED:
        recipe, study = recipe_from(options, options.criterion), open_from(options)
        single = recipe.pattern is not None
        masks = (lambda sparsity: study.masks(recipe, sparsity)) if single else None
        return _Timed(study.model, lambda sparsity: forms_of(study, recipe, sparsity), single, masks)
    if options.criterion not in (None, "magnitude"):
        raise VPError(f"The criterion {options.criterion!r} needs texts: name a task (--task), or take magnitude.")
    one_of("precision", options.precision, PRECISIONS)
    single = bool(options.recipe or options.units) and recipe_from(options, options.criterion).pattern is not None
    model = load_any(options.model).model
    if single:
        say("no task: single weights of one layer go by magnitude, and only speed and size mean something")
        return _Timed(model, None, single)
    say("no task: rows go by magnitude, and only speed and size mean something")
    return _Timed(model, lambda sparsity: forms_without_data(model, sparsity))
