"""The command `vp`: app, stats, curve, eval. Results on stdout, progress on stderr, exit code 2 for what the user can mend."""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vp_core.errors import VPError

_CRITERIA = ("variance", "random", "magnitude")

_MODEL_HELP = "'demo', a folder written by save_pretrained, or a Hub id"
_TASK_HELP = "a GLUE task (sst2, mrpc, …), 'demo', or a TSV/CSV/JSONL file (with --text and --label)"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except VPError as error:
        print(f"vp: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        kept = f" What is finished is kept in {options.out!r}: the same command goes on from there." if _sweeps(options) else ""
        print(f"vp: Interrupted.{kept}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of stdout has gone, as in `vp … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _sweeps(options: argparse.Namespace) -> bool:
    return options.command == "curve" and bool(options.out)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vp", description="See what the neurons of a Transformer do, and what can be taken out."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="app | stats | curve | eval")
    _app_command(_command(commands, "app", _app, "start the app in the browser", "vp app --port 8501"))
    stats = _command(
        commands, "stats", _stats, "collect mean and variance of every neuron",
        "vp stats demo --out statistics.safetensors",
    )  # fmt: skip
    _question(stats)
    stats.add_argument("--out", help="safetensors file to write (default: only a summary is printed)")
    one = _command(
        commands, "eval", _eval, "score a model, pruned or dense, without fine-tuning",
        "vp eval demo --criterion variance --sparsity 0.3 --json",
    )  # fmt: skip
    _question(one)
    _how(one)
    one.add_argument("--criterion", default="variance", help=f"{', '.join(_CRITERIA)} (default: variance)")
    one.add_argument("--sparsity", default="0", help="share of rows to remove, 0 to 1 (default: 0, the dense model)")
    many = _command(
        commands, "curve", _curve, "score against sparsity for several criteria",
        "vp curve demo --criteria variance,random --sparsities 0:0.9:0.3 --out curve.parquet --plot curve.html",
    )  # fmt: skip
    _question(many)
    _how(many)
    many.add_argument("--criteria", default=",".join(_CRITERIA), help=f"separated by commas (default: {','.join(_CRITERIA)})")
    many.add_argument("--sparsities", default="0:0.9:0.1", help="FROM:TO:STEP or a list 0,0.3,0.5 (default: 0:0.9:0.1)")
    many.add_argument("--out", help="parquet file; if it is there, its points are not computed again")
    many.add_argument("--plot", help="HTML file to write a chart to; it needs no network")
    return parser


def _command(commands: Any, name: str, run: Callable[..., None], about: str, example: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name, help=about, description=about[0].upper() + about[1:] + ".", epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.set_defaults(run=run)
    return parser


def _app_command(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--port", default=os.environ.get("PORT") or "8501", help="port on 127.0.0.1 (default: PORT or 8501)")


def _question(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help=_MODEL_HELP)
    parser.add_argument("--task", help=_TASK_HELP)
    parser.add_argument("--data", help="folder in GLUE's TSV layout (default: the Hub; the demo needs none)")
    parser.add_argument("--text", default="", help="text column, or two separated by a comma, of a file of your own")
    parser.add_argument("--label", default="label", help="label column of a file of your own (default: label)")
    parser.add_argument("--labels", default="", help="class names in the order of the model's outputs, by commas")
    parser.add_argument("--calibration", default="512", help="training texts to collect statistics on (default: 512)")
    parser.add_argument("--estimator", default="exact", help="exact, or ewmv (the paper's moving variance)")
    parser.add_argument("--json", action="store_true", help="print JSON on stdout")


def _how(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--scope", default="per type", help="'per type', 'per layer' or 'global' (default: per type)")
    parser.add_argument("--replacement", default="mean", help="mean or zero (default: mean)")
    parser.add_argument("--types", help="projection types to prune, by commas (default: all six)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the criterion random (default: 0)")
    parser.add_argument("--dtype", default="float32", help="float32 or bfloat16 (default: float32)")


def _open(options: argparse.Namespace):
    from vp_core.study import open_study  # torch and transformers take seconds to import: not for --help

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


def _recipe(options: argparse.Namespace, criterion: str):
    from vp_core.criteria import CRITERIA
    from vp_core.errors import one_of
    from vp_core.evaluate import DTYPES
    from vp_core.families import TYPES
    from vp_core.plan import SCOPES
    from vp_core.projections import check_types
    from vp_core.replacement import REPLACEMENTS
    from vp_core.statistics import ESTIMATORS
    from vp_core.study import Recipe

    one_of("dtype", options.dtype, tuple(DTYPES))
    return Recipe(
        criterion=one_of("criterion", criterion, tuple(CRITERIA)),
        scope=one_of("scope", options.scope, SCOPES),
        replacement=one_of("replacement", options.replacement, REPLACEMENTS),
        types=check_types(tuple(_list(options.types))) if options.types else TYPES,
        estimator=one_of("estimator", options.estimator, ESTIMATORS),
        seed=options.seed,
    )


def _app(options: argparse.Namespace) -> None:
    if not (options.port.isdecimal() and 0 < int(options.port) < 65536):
        raise VPError(f"The port {options.port!r} is no number from 1 to 65535: try PORT=8502.")
    main_script = Path(__file__).parent / "main.py"
    flags = {
        "server.address": "127.0.0.1",
        "server.port": options.port,
        "server.showEmailPrompt": "false",
        "server.fileWatcherType": "none",
        "browser.gatherUsageStats": "false",
        "client.toolbarMode": "minimal",
    }
    command = [sys.executable, "-m", "streamlit", "run", str(main_script), *(f"--{k}={v}" for k, v in flags.items())]
    finished = subprocess.run(command, check=False)
    if finished.returncode not in (0, -2, 130):
        raise VPError(f"The app ended with code {finished.returncode}: is port {options.port} in use? Try PORT=8502.")


def _stats(options: argparse.Namespace) -> None:
    from analysis.variance import layer_table

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
    from vp_core.plan import check_sparsity
    from vp_core.sweep import point

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
    from analysis.curves import draw
    from vp_core.sweep import CurveStore, curve, sweep

    criteria, sparsities = _list(options.criteria), parse_sparsities(options.sparsities)
    recipes = [_recipe(options, c) for c in criteria]
    if not recipes:
        raise VPError(f"No criterion is given: choose one or more of {', '.join(_CRITERIA)}.")
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


def parse_sparsities(text: str) -> list[float]:
    """FROM:TO:STEP (TO included) or a list.

    >>> parse_sparsities("0:0.9:0.3"), parse_sparsities("0.5,0")
    ([0.0, 0.3, 0.6, 0.9], [0.5, 0.0])
    """
    from vp_core.plan import check_sparsity

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


if __name__ == "__main__":
    sys.exit(main())
