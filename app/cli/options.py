"""From the options of a command to what they mean: a study, a recipe, sparsities, counts."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

import torch

from app.cli.weight_options import base_for, check_one_share, sparsity_of_density, units_of, with_embeddings
from vp_core.asking.outputs import parse_labels
from vp_core.ground.chosen import of_weights
from vp_core.ground.errors import VPError, harmless, one_of
from vp_core.ground.names import CALIBRATION, DTYPES, PRECISIONS
from vp_core.ground.store import atomic, shelf_dir
from vp_core.model.precision import bfloat16_time, find_device
from vp_core.opening.study import open_study
from vp_core.ranking.plan import check_sparsity
from vp_core.recipes import Recipe, find_recipe
from vp_core.study import Study


def open_from(options: argparse.Namespace) -> Study:
    """The study that the options of the question name, which keeps what it measures in the user's cache folder; what it has to
    note goes to stderr. Raises VPError."""
    study = study_from(options).kept_in(shelf_dir())
    for note in study.notes:
        say(note)
    return study


_TRAININGS = ("train", "finetune", "snip")
_NO_FASTER = 0.9
"""The share of float32's time from which on bfloat16 is not worth its rounding."""


def settle(options: argparse.Namespace) -> None:
    """The precision, where none is named, is what the weights are kept in; trainings take place on the device that is named.

    Raises VPError for a device that is not there, and for a training of weights that are not float32.
    """
    device = find_device(options.device)
    if one_of("dtype", options.dtype, DTYPES) != DTYPES[0] and options.command in _TRAININGS:
        raise VPError("Weights are trained in float32: leave out --dtype, and choose the arithmetic with --precision.")
    if getattr(options, "precision", "") is None:
        options.precision = options.dtype
    if "bfloat16" in (getattr(options, "precision", ""), options.dtype) and (ratio := bfloat16_time(device)) > _NO_FASTER:
        say(
            f"note: bfloat16 is no faster here ({device.type}): its products take {ratio:.1f} × the time of float32, measured "
            "just now."
        )
    if device.type == "cpu":
        os.environ.setdefault("ACCELERATE_USE_CPU", "true")
    elif device.index:
        torch.cuda.set_device(device)


def study_from(options: argparse.Namespace) -> Study:
    """The study that the options of the question name; VPError."""
    if options.task == "own":
        return _own_study(options)
    sentences = getattr(options, "sentences", None)
    try:
        calibration = None if options.calibration is None else int(options.calibration)
    except ValueError:
        raise VPError(
            f"The number of calibration texts {options.calibration!r} is no whole number: use {CALIBRATION}."
        ) from None
    stride, most = getattr(options, "stride", None), getattr(options, "most_tokens", None)
    return open_study(
        options.model, options.task, options.data, text=listed(options.text), label=options.label,
        labels=parse_labels(options.labels), separator=options.separator, calibration=calibration,
        max_length=None if options.max_length is None else count("number of tokens", options.max_length),
        sentences=None if sentences is None else count("number of sentences", sentences),
        stride=None if stride is None else count("stride", stride),
        most_tokens=None if most is None else count("number of tokens", most),
        metric=options.metric, device=options.device, dtype=options.dtype, fresh_head=getattr(options, "fresh_head", False),
    )  # fmt: skip


def _own_study(options: argparse.Namespace) -> Study:
    """That of a metric of the user's own, which this command line names: nobody else may say what is imported."""
    from vp_core.opening.own import named_start

    if said := [f"--{name}" for name in ("text", "labels", "separator", "max_length", "calibration") if getattr(options, name)]:
        raise VPError(f"The task own does not take {', '.join(said).replace('_', '-')}: leave it out.")
    return named_start(options.metric, options.data).study(options.model, device=options.device, dtype=options.dtype)


def recipe_from(options: argparse.Namespace, criterion: str | None = None) -> Recipe:
    """The named recipe (the paper's, if none is named) with whatever the options say otherwise; VPError for what cannot be."""
    one_of(
        "precision", getattr(options, "precision", None) or options.dtype, tuple(dict.fromkeys((*PRECISIONS, options.dtype)))
    )
    units = units_of(options)
    said = {
        "criterion": criterion,
        "scope": options.scope,
        "replacement": options.replacement,
        "types": tuple(listed(options.types)) if options.types else None,
        "estimator": options.estimator,
        "units": units,
        "basis": options.basis,
        "budget": options.budget,
        "steps": count("steps", options.steps) if options.steps else None,
    }
    if units and not of_weights(units) and not options.budget and not options.recipe:
        said["budget"] = "parameters" if options.units != "rows" else "units"
    base = find_recipe(options.recipe) if options.recipe else base_for(units, criterion)
    made = replace(base, seed=options.seed, **{k: v for k, v in said.items() if v is not None})
    return with_embeddings(made) if options.embeddings else made


def sparsity_from(options: argparse.Namespace, recipe: Recipe, default: str) -> float:
    """The share to remove, or 1 minus the density; of N:M its own, unless one is named. VPError for both, or no share."""
    check_one_share(options, options.sparsity)
    if options.density is not None:
        return sparsity_of_density(options.density)
    if options.sparsity is None and recipe.pattern and recipe.pattern.sparsity is not None:
        return recipe.pattern.sparsity
    return check_sparsity(default if options.sparsity is None else options.sparsity)


def sparsities_from(options: argparse.Namespace, default: str) -> list[float]:
    """Several of them, as `parse_sparsities` reads them, or 1 minus each density of a list; VPError for both."""
    check_one_share(options, options.sparsities)
    if options.density is None:
        return parse_sparsities(default if options.sparsities is None else options.sparsities)
    found = [sparsity_of_density(part) for part in listed(options.density)]
    if not found:
        raise VPError("No density is given: write a share, or several by commas, such as 0.9,0.7.")
    return list(dict.fromkeys(found))


def count(name: str, text: str) -> int:
    """A whole number above 0; VPError otherwise."""
    if not (text.isdecimal() and int(text) > 0):
        raise VPError(f"The {name} {text!r} is no whole number above 0: use 8.")
    return int(text)


def parse_sparsities(text: str) -> list[float]:
    """Sparsities from FROM:TO:STEP (TO included) or a list; VPError for none, or any outside 0..1.

    >>> parse_sparsities("0:0.9:0.3"), parse_sparsities("0.5,0")
    ([0.0, 0.3, 0.6, 0.9], [0.5, 0.0])
    """
    if ":" not in text:
        values = [check_sparsity(part) for part in listed(text)]
    else:
        try:
            start, stop, step = (float(part) for part in text.split(":"))
        except ValueError:
            start, stop, step = 0.0, 0.0, 0.0
        if not step > 0 or stop < start:
            raise VPError(f"The sparsities {text!r} are not understood: write FROM:TO:STEP, such as 0:0.9:0.1, or a list.")
        values = [check_sparsity(round(start + i * step, 9)) for i in range(int((stop - start) / step + 1e-9) + 1)]
    if not values:
        raise VPError("No sparsity is given: write FROM:TO:STEP, such as 0:0.9:0.1, or a list.")
    return list(dict.fromkeys(values))


def listed(text: str) -> list[str]:
    """The parts of a list with commas, empty ones left out."""
    return [part.strip() for part in text.split(",") if part.strip()]


def number(name: str, text: str) -> float:
    """Any finite number, VPError otherwise; what it may be is for whoever takes it to say."""
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not abs(value) < float("inf"):
        raise VPError(f"The {name} {text!r} is no number: write one such as 0.01.")
    return value


def whole(name: str, text: str) -> int:
    """A whole number from 0 on; VPError otherwise."""
    if not text.isdecimal():
        raise VPError(f"The {name} {text!r} is no whole number from 0 on.")
    return int(text)


def check_new_file(path: str | None) -> None:
    """VPError if a file cannot be put there: told before anything is computed."""
    if path and Path(path).is_dir():
        raise VPError(f"{path!r} is a folder: name a file to write to.")
    if path and not Path(path).parent.is_dir():
        raise VPError(f"The folder {str(Path(path).parent)!r} is not there: make it first, or choose another place.")


def write_chart(figure: Any, path: str) -> None:
    """Write a page that shows a chart without network; VPError if the file cannot be written."""
    with atomic(path) as temporary:
        config = {"showSendToCloud": False, "displaylogo": False}
        figure.write_html(temporary, include_plotlyjs=True, config=config)
    say(f"chart written to {path}")


def write_charts(figures: Sequence[Any], path: str, title: str) -> None:
    """Write a page with several charts, one below the other, as `write_chart` does with one."""
    config = {"showSendToCloud": False, "displaylogo": False}
    parts = [
        figure.to_html(full_html=False, include_plotlyjs=number == 0, config=config) for number, figure in enumerate(figures)
    ]
    head = f'<!DOCTYPE html>\n<html>\n<head><meta charset="utf-8"><title>{escape(title)}</title></head>\n<body>\n'
    with atomic(path) as temporary:
        Path(temporary).write_text(head + "\n".join(parts) + "\n</body>\n</html>\n", encoding="utf-8")
    say(f"charts written to {path}")


def print_json(value: Any) -> None:
    """Print a result to stdout, once however many processes there are."""
    if main_process():
        print(json.dumps(value, indent=1))


def main_process() -> bool:
    """Whether this is the only process, or the one of several (`accelerate launch`) that speaks and writes."""
    return os.environ.get("RANK", "0") == "0"


def say(text: str) -> None:
    """Print a sentence to stderr, once however many processes there are."""
    if main_process():
        over = "\r\x1b[K" if sys.stderr.isatty() else ""  # the line of a stage that goes on (`app.cli.progress`)
        print(f"{over}{harmless(text)}", file=sys.stderr, flush=True)
