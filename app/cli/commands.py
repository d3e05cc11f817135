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
    listed,
    main_process,
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
from vp_core.ground.parallel import shared_out
from vp_core.ground.store import check_new_folder, new_folder
from vp_core.loading.load import load_any
from vp_core.recipes import Recipe
from vp_core.squeezing.cost import flops_per_token, parameters
from vp_core.squeezing.dense_form import export_transformers
from vp_core.squeezing.folder import save_pruned
from vp_core.squeezing.onnx import export_onnx, require_onnx
from vp_core.study import Study
from vp_core.weights.compressed import bytes_dense


def _check(options: argparse.Namespace) -> None:
    """A row a capability; what cannot be loaded, or does not fit its task, is told in its row and ends the command."""
    from vp_core.check import Capability, check_model, check_task

    rows, problem = list[Capability](), None
    try:
        rows += check_model(load_any(options.model, device=options.device, dtype=options.dtype))
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
    say(f"collecting statistics over {len(study.calibration):,} {study.measured_on} …")
    statistics = study.statistics(recipe_estimator)
    if options.out and main_process():
        statistics.save(options.out)
        say(f"written to {options.out}")
    table = layer_table(statistics)
    if not main_process():
        return
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
    row = _readable(point(study, recipe, sparsity, score, options.precision), study)
    if options.json:
        print_json(row)
    elif main_process():
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
        print_json([_readable(row, study) for row in made.table.to_dict("records")])
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
        options.device = "cpu"  # where it is traced, and compared with what was traced
    check_new_folder(Path(options.out))  # before the model: a bad place should be told at once
    study = open_from(options)
    say(f"pruning: {recipe.describe()}, {sparsity:.0%} of the {recipe.budget} …")
    reader, folder = study.loaded.reader, Path(options.out)
    dense = study.model
    if format_ == "transformers":
        model = study.pruned(recipe, sparsity)
        export_transformers(model, folder, reader)
    else:
        model = study.squeezed(recipe, sparsity)
        for note in model.squeezed.notes:
            say(note)
        if format_ == "pruned":
            save_pruned(model, folder, reader, study.about(recipe, sparsity))
        else:
            with new_folder(folder) as place:
                export_onnx(model, place / "model.onnx", reader)
                if reader is not None:
                    reader.save_pretrained(place)
    length = min(128, study.loaded.max_length)
    row: dict[str, Any] = {
        "out": str(folder), "format": format_, "sparsity": sparsity, "criterion": recipe.criterion,
        "parameters": parameters(model), "parameters_dense": parameters(dense),
        "flops_per_token": flops_per_token(model, length), "flops_per_token_dense": flops_per_token(dense, length),
        "flops_at_length": length, "bytes": sum(f.stat().st_size for f in folder.iterdir()),
    }  # fmt: skip
    if recipe.pattern:
        cost = study.cost(recipe, sparsity)
        row |= {"bytes_dense": bytes_dense(dense), "weights": cost.parameters_left, "weights_dense": cost.parameters}
    if options.json:
        print_json(row)
    else:
        print(
            f"{folder}: {row['parameters'] / 1e6:.2f} of {row['parameters_dense'] / 1e6:.2f} M parameters, "
            f"{row['flops_per_token'] / 1e6:.1f} of {row['flops_per_token_dense'] / 1e6:.1f} MFLOPs a token, "
            f"{row['bytes'] / 1e6:.1f} MB on disk{_zeros(row) if recipe.pattern else ''}"
        )


def _zeros(row: Mapping[str, Any]) -> str:
    """What single zeros save, and what not."""
    time = f"time is saved by what has left the matrices only, {1 - row['flops_per_token'] / row['flops_per_token_dense']:.0%}"
    if row["flops_per_token"] == row["flops_per_token_dense"]:
        time = "time is not saved, since kernels multiply zeros as any other number"
    if row["format"] == "transformers":
        time += ", nor space: this format writes them too"
    return f" of {row['bytes_dense'] / 1e6:.1f} ({row['weights'] / row['weights_dense']:.1%} of the weights are left; {time})"


def _readable(row: dict[str, Any], study: Study) -> dict[str, Any]:
    """A point without its inner columns."""
    tokens = {"tokens": int(row["n"])} if study.question.task.tokens else {}
    others = tokens | json.loads(row["others"]) | {"params_removed": row["parameters_removed"] / row["parameters"]}
    return {k: v for k, v in row.items() if k not in ("key", "right", "others")} | others


def _speed(options: argparse.Namespace) -> None:
    """`vp speed`."""
    from app.cli.speed_command import speed

    speed(options)


def _weights(options: argparse.Namespace) -> None:
    """`vp weights`."""
    from app.cli.weight_commands import weights

    weights(options)


def _identity(options: argparse.Namespace) -> None:
    """`vp norms`, `vp finetune` and `vp snip`."""
    from app.cli.trainings.identity_commands import IDENTITY_COMMANDS

    IDENTITY_COMMANDS[options.command](options)


def _train(options: argparse.Namespace) -> None:
    """`vp train`."""
    from app.cli.trainings.train_command import train

    train(options)


def _by_all(command: Callable[[argparse.Namespace], None]) -> Callable[[argparse.Namespace], None]:
    """The command, whose batches the processes share out that `accelerate launch -m app.cli` has started."""

    def run(options: argparse.Namespace) -> None:
        with shared_out():
            command(options)

    return run


COMMANDS: Mapping[str, Callable[[argparse.Namespace], None]] = {
    "check": _check, "stats": _by_all(_stats), "eval": _by_all(_eval), "curve": _curve, "prune": _prune, "speed": _speed,
    "norms": _identity, "finetune": _identity, "snip": _identity, "weights": _weights,
    "train": _train,
}  # fmt: skip
