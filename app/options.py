"""From the options of a command to what they mean: a study, a recipe, sparsities, counts."""

import argparse
import sys
from dataclasses import replace

from vp_core.errors import VPError, one_of
from vp_core.plan import check_sparsity
from vp_core.precision import PRECISIONS
from vp_core.recipes import Recipe, find_recipe
from vp_core.study import Study, open_study


def open_from(options: argparse.Namespace) -> Study:
    try:
        calibration = int(options.calibration)
    except ValueError:
        raise VPError(f"The number of calibration texts {options.calibration!r} is no whole number: use 512.") from None
    study = open_study(
        options.model, options.task, options.data, text=listed(options.text), label=options.label,
        labels=listed(options.labels), calibration=calibration,
    )  # fmt: skip
    study.listeners.append(say)
    for note in study.notes:
        say(note)
    return study


def recipe_from(options: argparse.Namespace, criterion: str | None = None) -> Recipe:
    """The named recipe (the paper's, if none is named) with whatever the options say otherwise."""
    one_of("dtype", getattr(options, "dtype", "float32"), PRECISIONS)
    said = {
        "criterion": criterion,
        "scope": options.scope,
        "replacement": options.replacement,
        "types": tuple(listed(options.types)) if options.types else None,
        "estimator": options.estimator,
        "units": tuple(listed(options.units)) if options.units else None,
        "basis": options.basis,
        "budget": options.budget,
        "steps": count("steps", options.steps) if options.steps else None,
    }
    if options.units and not options.budget and not options.recipe:
        said["budget"] = "parameters" if options.units != "rows" else "units"
    base = find_recipe(options.recipe or "paper")
    return replace(base, seed=options.seed, **{k: v for k, v in said.items() if v is not None}).checked()


def count(name: str, text: str) -> int:
    if not (text.isdecimal() and int(text) > 0):
        raise VPError(f"The {name} {text!r} is no whole number above 0: use 8.")
    return int(text)


def parse_sparsities(text: str) -> list[float]:
    """FROM:TO:STEP (TO included) or a list.

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
    return [part.strip() for part in text.split(",") if part.strip()]


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
