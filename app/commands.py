"""What the commands of `vp` do; their options are in `app.cli`."""

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.curves import draw
from analysis.variance import layer_table
from vp_core.cost import flops_per_token, parameters
from vp_core.criteria import CRITERIA
from vp_core.errors import VPError, one_of
from vp_core.families import TYPES
from vp_core.models import load_model
from vp_core.onnx import export_onnx, require_onnx
from vp_core.plan import SCOPES, check_sparsity
from vp_core.precision import PRECISIONS
from vp_core.projections import check_types
from vp_core.pruned import check_new_folder, export_transformers, new_folder, save_pruned
from vp_core.replacement import REPLACEMENTS
from vp_core.speed import Forms, compare, forms_of, forms_without_data
from vp_core.squeeze import squeeze
from vp_core.statistics import ESTIMATORS
from vp_core.study import Recipe, Study, open_study
from vp_core.sweep import CurveStore, curve, point, sweep

FORMATS = ("pruned", "transformers", "onnx")


def _open(options: argparse.Namespace) -> Study:
    try:
        calibration = int(options.calibration)
    except ValueError:
        raise VPError(f"The number of calibration texts {options.calibration!r} is no whole number: use 512.") from None
    study = open_study(
        options.model, options.task, options.data, text=_list(options.text), label=options.label,
        labels=_list(options.labels), calibration=calibration,
    )  # fmt: skip
    for note in study.notes:
        _say(note)
    return study


def _recipe(options: argparse.Namespace, criterion: str) -> Recipe:
    one_of("dtype", getattr(options, "dtype", "float32"), PRECISIONS)
    return Recipe(
        criterion=one_of("criterion", criterion, tuple(CRITERIA)),
        scope=one_of("scope", options.scope, SCOPES),
        replacement=one_of("replacement", options.replacement, REPLACEMENTS),
        types=check_types(tuple(_list(options.types))) if options.types else TYPES,
        estimator=one_of("estimator", options.estimator, ESTIMATORS),
        seed=options.seed,
    )


def _stats(options: argparse.Namespace) -> None:
    recipe_estimator = options.estimator
    study = _open(options)
    _say(f"collecting statistics over {len(study.calibration):,} texts …")
    statistics = study.statistics(recipe_estimator)
    if options.out:
        statistics.save(options.out)
        _say(f"written to {options.out}")
    table = layer_table(statistics)
    if options.json:
        about = {"tokens": statistics.tokens, "estimator": statistics.estimator, "model": study.loaded.name}
        _print_json({**about, "out": options.out, "projections": table.to_dict("records")})
    else:
        print(table.to_string(index=False, float_format="%.4g"))


def _eval(options: argparse.Namespace) -> None:
    sparsity = check_sparsity(options.sparsity)
    recipe = _recipe(options, options.criterion)
    study = _open(options)
    score = None
    for score in study.running_scores(recipe, sparsity, options.dtype):
        _say(f"{score.metric} {score.value:.4f} ({score.low:.4f} to {score.high:.4f}) n = {score.n:,} of {score.total:,}")
    assert score is not None
    row = _readable(point(study, recipe, sparsity, score, options.dtype))
    if options.json:
        _print_json(row)
    else:
        print(f"{row['metric']} {row['value']:.4f}  95 % interval {row['low']:.4f} to {row['high']:.4f}  n = {row['n']:,}")


def _curve(options: argparse.Namespace) -> None:
    criteria, sparsities = _list(options.criteria), parse_sparsities(options.sparsities)
    recipes = [_recipe(options, c) for c in criteria]
    if not recipes:
        raise VPError(f"No criterion is given: choose one or more of {', '.join(CRITERIA)}.")
    store = CurveStore(options.out)  # before the model: a broken file should be told at once
    study = _open(options)
    rows = []
    for row in sweep(study, criteria, sparsities, recipes[0], store, options.dtype):
        rows.append(row)
        _say(f"{len(rows)}/{len(criteria) * len(sparsities)}  {row['criterion']} {row['sparsity']:g}: {row['value']:.4f}")
    made = curve(rows)
    if options.plot:
        metric = study.question.task.metric
        config = {"showSendToCloud": False, "displaylogo": False}
        draw(made.table, metric).figure.write_html(options.plot, include_plotlyjs=True, config=config)
        _say(f"chart written to {options.plot}")
    if options.json:
        _print_json([_readable(row) for row in made.table.to_dict("records")])
    else:
        print(made.table.pivot(index="sparsity", columns="criterion", values="value").to_string(float_format="%.4f"))


def _prune(options: argparse.Namespace) -> None:
    format_ = one_of("format", options.format, FORMATS)
    sparsity, recipe = check_sparsity(options.sparsity), _recipe(options, options.criterion)
    if format_ == "onnx":
        require_onnx()
    check_new_folder(Path(options.out))  # before the model: a bad place should be told at once
    study = _open(options)
    _say(f"pruning {sparsity:.0%} of the rows …")
    tokenizer, folder = study.loaded.tokenizer, Path(options.out)
    dense, model = study.model, study.pruned(recipe, sparsity)
    if format_ == "transformers":
        export_transformers(model, folder, tokenizer)
    else:
        model = squeeze(model, study.plan(recipe, sparsity))
        for note in model.squeezed.notes:
            _say(note)
        if format_ == "pruned":
            save_pruned(model, folder, tokenizer, about_of(study, recipe, sparsity))
        else:
            with new_folder(folder) as place:
                export_onnx(model, place / "model.onnx")
                tokenizer.save_pretrained(place)
    length = min(128, study.loaded.max_length)
    row: dict[str, Any] = {
        "out": str(folder), "format": format_, "sparsity": sparsity, "criterion": recipe.criterion,
        "parameters": parameters(model), "parameters_dense": parameters(dense),
        "flops_per_token": flops_per_token(model, length), "flops_per_token_dense": flops_per_token(dense, length),
        "flops_at_length": length, "bytes": sum(f.stat().st_size for f in folder.iterdir()),
    }  # fmt: skip
    if options.json:
        _print_json(row)
    else:
        print(
            f"{folder}: {row['parameters'] / 1e6:.2f} of {row['parameters_dense'] / 1e6:.2f} M parameters, "
            f"{row['flops_per_token'] / 1e6:.1f} of {row['flops_per_token_dense'] / 1e6:.1f} MFLOPs a token, "
            f"{row['bytes'] / 1e6:.1f} MB on disk"
        )


def _speed(options: argparse.Namespace) -> None:
    sparsities = parse_sparsities(options.sparsities)
    batches = [_count("batch", part) for part in _list(options.batch)]
    length, repeats = _count("length", options.length), _count("repeats", options.repeats)
    forms = _forms(options)
    rows = []
    for batch in batches:
        for sparsity in sparsities:
            *_, last = compare(forms(sparsity), sparsity, batch, length, options.dtype, repeats)
            # The dense model is timed in every comparison; the first one stands for it.
            rows += last if sparsity == sparsities[0] else last[1:]
            _say(f"batch {batch}, sparsity {sparsity:g}: squeezed {last[-1]['speedup']:.2f} times as fast as dense")
    if options.json:
        _print_json(rows)
    else:
        columns = ("form", "sparsity", "batch", "latency_ms", "low_ms", "high_ms", "speedup", "flop_limit", "megabytes")
        print(pd.DataFrame(rows)[list(columns)].to_string(index=False, float_format="%.2f"))


def _forms(options: argparse.Namespace) -> Callable[[float], Forms]:
    """Dense, masked and squeezed by sparsity: from texts where there is a task, else by the weights alone."""
    if options.task or options.model == "demo":
        recipe, study = _recipe(options, options.criterion or "variance"), _open(options)
        return lambda sparsity: forms_of(study, recipe, sparsity)
    if options.criterion not in (None, "magnitude"):
        raise VPError(f"The criterion {options.criterion!r} needs texts: name a task (--task), or take magnitude.")
    one_of("dtype", options.dtype, PRECISIONS)
    model = load_model(options.model).model
    _say("no task: rows go by magnitude, and only speed and size mean something")
    return lambda sparsity: forms_without_data(model, sparsity)


def _count(name: str, text: str) -> int:
    if not (text.isdecimal() and int(text) > 0):
        raise VPError(f"The {name} {text!r} is no whole number above 0: use 8.")
    return int(text)


def about_of(study: Study, recipe: Recipe, sparsity: float) -> dict[str, Any]:
    """What a pruned folder says about where it comes from."""
    task = study.question.task.name
    return {"model": study.loaded.name, "fingerprint": study.loaded.fingerprint, "task": task, "sparsity": sparsity} | {
        key: value if isinstance(value, str | int) else ",".join(value) for key, value in recipe.__dict__.items()
    }


def parse_sparsities(text: str) -> list[float]:
    """FROM:TO:STEP (TO included) or a list.

    >>> parse_sparsities("0:0.9:0.3"), parse_sparsities("0.5,0")
    ([0.0, 0.3, 0.6, 0.9], [0.5, 0.0])
    """
    if ":" not in text:
        values = [check_sparsity(part) for part in _list(text)]
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


def _readable(row: dict[str, Any]) -> dict[str, Any]:
    """A point without its inner columns."""
    others = json.loads(row["others"])
    return {k: v for k, v in row.items() if k not in ("key", "right", "others")} | others


def _list(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=1))


COMMANDS: Mapping[str, Callable[[argparse.Namespace], None]] = {
    "stats": _stats, "eval": _eval, "curve": _curve, "prune": _prune, "speed": _speed,
}  # fmt: skip
