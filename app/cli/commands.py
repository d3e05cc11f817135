"""What the commands of `vp` do; their options are in `app.cli.main`.

What only some of them need (tables, charts, trainings) is imported where they do: it takes seconds, and `vp eval` needs none.
"""

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from app.cli.options import (
    check_new_file,
    count,
    listed,
    open_from,
    print_json,
    recipe_from,
    say,
    sparsities_from,
    sparsity_from,
    study_from,
    write_chart,
)
from app.cli.weight_options import criteria_to_compare
from vp_core.curves import CurveStore, curve, point, sweep
from vp_core.ground.errors import VPError, harmless, one_of
from vp_core.ground.names import CRITERIA, ESTIMATORS, FORMATS
from vp_core.loading.load import EMBEDDED, load_model
from vp_core.recipes import Recipe
from vp_core.speed import Forms, compare, forms_of, forms_without_data
from vp_core.squeezing.cost import flops_per_token, parameters
from vp_core.squeezing.dense_form import export_transformers
from vp_core.squeezing.folder import check_new_folder, new_folder, save_pruned
from vp_core.squeezing.onnx import export_onnx, require_onnx
from vp_core.squeezing.squeeze import squeeze
from vp_core.study import Study


def _check(options: argparse.Namespace) -> None:
    """A row a capability; what cannot be loaded, or does not fit its task, is told in its row and ends the command."""
    from vp_core.check import Capability, check_model, check_task

    rows, problem = list[Capability](), None
    try:
        rows += check_model(load_model(options.model))
        if options.task:
            rows.append(check_task(study_from(options)))
    except VPError as error:
        problem = error
        rows.append(Capability("task" if rows else "load", False, str(error)))
    if options.json:
        print_json([row.as_json() for row in rows])
    else:
        width = max(len(row.name) for row in rows)
        for row in rows:
            print(f"{row.name:<{width}}  {'yes' if row.can else 'no':<3}  {harmless(row.why)}".rstrip())
    if problem:
        raise problem


def _stats(options: argparse.Namespace) -> None:
    from analysis.variance import layer_table

    recipe_estimator = one_of("estimator", options.estimator or "exact", ESTIMATORS)
    study = open_from(options)
    say(f"collecting statistics over {len(study.calibration):,} texts …")
    statistics = study.statistics(recipe_estimator)
    if options.out:
        statistics.save(options.out)
        say(f"written to {options.out}")
    table = layer_table(statistics)
    if options.json:
        about = {"tokens": statistics.tokens, "estimator": statistics.estimator, "model": study.loaded.name}
        print_json({**about, "out": options.out, "projections": table.to_dict("records")})
    else:
        print(table.to_string(index=False, float_format="%.4g"))


def _eval(options: argparse.Namespace) -> None:
    recipe = recipe_from(options, options.criterion)
    sparsity = sparsity_from(options, recipe, "0")
    study = open_from(options)
    score = None
    for score in study.running_scores(recipe, sparsity, options.precision):
        say(f"{score.metric} {score.value:.4f} ({score.low:.4f} to {score.high:.4f}) n = {score.n:,} of {score.total:,}")
    assert score is not None
    for warning in study.warnings(recipe) if sparsity else ():
        say(warning)
    row = _readable(point(study, recipe, sparsity, score, options.precision))
    if options.json:
        print_json(row)
    else:
        print(f"{row['metric']} {row['value']:.4f}  95 % interval {row['low']:.4f} to {row['high']:.4f}  n = {row['n']:,}")


def _curve(options: argparse.Namespace) -> None:
    sparsities, recipes = sparsities_from(options, "0:0.9:0.1"), _recipes(options)
    check_new_file(options.plot)
    store = CurveStore(options.out)  # before the model: a broken file should be told at once
    study = open_from(options)
    rows, line = [], "recipe" if options.recipes else "criterion"
    sweeps = _sweeps(study, recipes, sparsities)
    total = sum(len(some) * len(points) for some, points in sweeps)
    for row in (r for some, points in sweeps for r in sweep(study, some, points, None, store, options.precision)):
        rows.append(row)
        say(f"{len(rows)}/{total}  {row[line]} {row['sparsity']:g}: {row['value']:.4f}")
    made = curve(rows)
    if options.plot:
        from analysis.curves import draw

        metric = study.question.task.metric
        write_chart(draw(made.table, metric, by=line).figure, options.plot)
    if options.json:
        print_json([_readable(row) for row in made.table.to_dict("records")])
    else:
        print(made.table.pivot(index="sparsity", columns=line, values="value").to_string(float_format="%.4f"))


def _sweeps(study: Study, recipes: list[Recipe], sparsities: list[float]) -> list[tuple[list[Recipe], list[float]]]:
    """Which recipes are asked at which sparsities: N:M, which has one only, at that one (and at 0, if it is among them)."""
    single = [recipe for recipe in recipes if recipe.pattern and recipe.pattern.of]
    others = [recipe for recipe in recipes if recipe not in single]
    for recipe in single:
        say(f"{recipe.units[0]} has one sparsity only, {study.most_saved(recipe):g}")
    return [(others, sparsities)] * bool(others) + [([one], study.reachable(one, sparsities)) for one in single]


def _recipes(options: argparse.Namespace) -> list[Recipe]:
    """One recipe for each line of a chart: named ones, or one with several criteria."""
    if options.recipes:
        found = []
        for name in listed(options.recipes):
            options.recipe = name
            found.append(recipe_from(options))
        return found
    recipes = [recipe_from(options, criterion) for criterion in listed(criteria_to_compare(options))]
    if not recipes:
        raise VPError(f"No criterion is given: choose one or more of {', '.join(CRITERIA)}.")
    return recipes


def _prune(options: argparse.Namespace) -> None:
    format_ = one_of("format", options.format, FORMATS)
    recipe = recipe_from(options, options.criterion)
    sparsity = sparsity_from(options, recipe, "0.5")
    if format_ == "onnx":
        require_onnx()
    check_new_folder(Path(options.out))  # before the model: a bad place should be told at once
    study = open_from(options)
    say(f"pruning: {recipe.describe()}, {sparsity:.0%} of the {recipe.budget} …")
    tokenizer, folder = study.loaded.tokenizer, Path(options.out)
    dense, model = study.model, study.pruned(recipe, sparsity)
    if format_ == "transformers":
        export_transformers(model, folder, tokenizer)
    else:
        model = squeeze(model, study.plan(recipe, sparsity))
        for note in model.squeezed.notes:
            say(note)
        if format_ == "pruned":
            save_pruned(model, folder, tokenizer, study.about(recipe, sparsity))
        else:
            with new_folder(folder) as place:
                export_onnx(model, place / "model.onnx", tokenizer)
                tokenizer.save_pretrained(place)
    length = min(128, study.loaded.max_length)
    row: dict[str, Any] = {
        "out": str(folder), "format": format_, "sparsity": sparsity, "criterion": recipe.criterion,
        "parameters": parameters(model), "parameters_dense": parameters(dense),
        "flops_per_token": flops_per_token(model, length), "flops_per_token_dense": flops_per_token(dense, length),
        "flops_at_length": length, "bytes": sum(f.stat().st_size for f in folder.iterdir()),
    }  # fmt: skip
    if options.json:
        print_json(row)
    else:
        print(
            f"{folder}: {row['parameters'] / 1e6:.2f} of {row['parameters_dense'] / 1e6:.2f} M parameters, "
            f"{row['flops_per_token'] / 1e6:.1f} of {row['flops_per_token_dense'] / 1e6:.1f} MFLOPs a token, "
            f"{row['bytes'] / 1e6:.1f} MB on disk"
        )


def _speed(options: argparse.Namespace) -> None:
    pattern = recipe_from(options).pattern
    own = pattern.sparsity if pattern else None
    sparsities = sparsities_from(options, "0.3,0.5,0.7" if own is None else str(own))
    batches = [count("batch", part) for part in listed(options.batch)]
    length, repeats = count("length", options.length), count("repeats", options.repeats)
    forms = _forms(options)
    rows = []
    for batch in batches:
        for sparsity in sparsities:
            *_, last = compare(forms(sparsity), sparsity, batch, length, options.precision, repeats)
            # The dense model is timed in every comparison; the first one stands for it.
            rows += last if sparsity == sparsities[0] else last[1:]
            say(f"batch {batch}, sparsity {sparsity:g}: squeezed {last[-1]['speedup']:.2f} times as fast as dense")
    if options.json:
        print_json(rows)
    else:
        import pandas as pd

        columns = ("form", "sparsity", "batch", "latency_ms", "low_ms", "high_ms", "speedup", "flop_limit", "megabytes")
        print(pd.DataFrame(rows)[list(columns)].to_string(index=False, float_format="%.2f"))


def _forms(options: argparse.Namespace) -> Callable[[float], Forms]:
    """Dense, masked and squeezed by sparsity: from texts where there is a task, else by the weights alone."""
    if options.task or options.model in EMBEDDED:
        recipe, study = recipe_from(options, options.criterion), open_from(options)
        return lambda sparsity: forms_of(study, recipe, sparsity)
    if options.criterion not in (None, "magnitude"):
        raise VPError(f"The criterion {options.criterion!r} needs texts: name a task (--task), or take magnitude.")
    if recipe_from(options).pattern:
        raise VPError("Without a task only rows are timed: name a task (--task) for single weights.")
    model = load_model(options.model).model
    say("no task: rows go by magnitude, and only speed and size mean something")
    return lambda sparsity: forms_without_data(model, sparsity)


def _readable(row: dict[str, Any]) -> dict[str, Any]:
    """A point without its inner columns."""
    others = json.loads(row["others"]) | {"params_removed": row["parameters_removed"] / row["parameters"]}
    return {k: v for k, v in row.items() if k not in ("key", "right", "others")} | others


def _weights(options: argparse.Namespace) -> None:
    """`vp weights`."""
    from app.cli.weight_commands import weights

    weights(options)


def _identity(options: argparse.Namespace) -> None:
    """`vp norms`, `vp finetune` and `vp snip`."""
    from app.cli.identity_commands import IDENTITY_COMMANDS

    IDENTITY_COMMANDS[options.command](options)


COMMANDS: Mapping[str, Callable[[argparse.Namespace], None]] = {
    "check": _check, "stats": _stats, "eval": _eval, "curve": _curve, "prune": _prune, "speed": _speed,
    "norms": _identity, "finetune": _identity, "snip": _identity, "weights": _weights,
}  # fmt: skip
