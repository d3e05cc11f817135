"""The command `vp`: its options. What the commands do is in `app.cli.commands`.

Results on stdout, progress on stderr, exit code 2 for what the user can mend. Nothing heavy is imported before a command runs:
what can be chosen stands in `vp_core.ground.names`, `vp_core.recipes` and `vp_core.asking.tasks`, which cost nothing.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from app.cli import weight_options
from app.cli.trainings import identity_options, train_options
from vp_core.asking.tasks import TASKS
from vp_core.ground.errors import VPError
from vp_core.ground.names import (
    AUTO,
    BASES,
    BUDGETS,
    CALIBRATION,
    CALIBRATION_WINDOWS,
    CRITERIA,
    DEVICES,
    DTYPES,
    ESTIMATORS,
    FORMATS,
    MOST_STEPS,
    PAPER_CRITERIA,
    PRECISIONS,
    REPEATS,
    REPLACEMENTS,
    SCOPES,
    TYPES,
    UNITS,
)
from vp_core.ground.work import work
from vp_core.recipes import RECIPES, Recipe

_PAPER = Recipe()
_SHARE = "share to remove, 0 to 1: of rows by the paper's recipe, of single weights, else of the encoder's linear parameters"
_FORMATS = dict(zip(FORMATS, ("squeezed: load_pruned, vp eval", "same shapes: from_pretrained", "squeezed"), strict=True))
_CRITERION = f"{', '.join(CRITERIA)} (default: the recipe's, the paper's is {_PAPER.criterion})"
_COMMANDS = "app | check | stats | curve | eval | prune | speed | train | norms | finetune | snip | weights"

_MODEL_HELP = "'demo', 'demo-text', a folder written by save_pretrained, a GGUF file, or a Hub id"
_TASK_HELP = f"{', '.join(TASKS)}, or a TSV, CSV, JSON, JSONL or Parquet file (with --text and --label)"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    options = _parser().parse_args(_joined(sys.argv[1:] if arguments is None else arguments))
    try:
        if options.command == "app":
            _app(options)
        else:
            from app.cli import commands  # torch and transformers take seconds to import: not for --help
            from app.cli.options import settle
            from app.cli.progress import Stages

            settle(options)
            with work(hear=Stages().hear):
                commands.COMMANDS[options.command](options)
    except VPError as error:
        _complain(str(error))
        return 2
    except KeyboardInterrupt:
        _complain(f"Interrupted.{_kept(options)}")
        return 2
    except BrokenPipeError:  # the reader of stdout has gone, as in `vp … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _joined(arguments: Sequence[str]) -> list[str]:
    """`--labels -1,0,1` as one word, since argparse takes what begins with a hyphen for an option."""
    found: list[str] = []
    for word in arguments:
        if found and found[-1] == "--labels" and word.startswith("-") and not word.startswith("--"):
            found[-1] += f"={word}"
        else:
            found.append(word)
    return found


def _complain(sentence: str) -> None:
    """Once, however many processes `accelerate launch` has started: what is wrong is wrong for all of them."""
    if os.environ.get("RANK", "0") == "0":
        over = "\r\x1b[K" if sys.stderr.isatty() else ""  # the line of a stage that went on (`app.cli.progress`)
        print(f"{over}vp: {sentence}", file=sys.stderr)


def _kept(options: argparse.Namespace) -> str:
    """A sentence if what an interrupted command has finished is on disk, and found there by the same command."""
    if options.command not in ("snip", "train") and not (options.command == "curve" and options.out):
        return ""
    how = " with --resume" if options.command == "train" else ""
    return f" What is finished is kept in {options.out!r}: the same command{how} goes on from there."


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vp", description="See what the neurons of a Transformer do, and what can be taken out."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar=_COMMANDS)
    _app_command(_command(commands, "app", "start the app in the browser", "vp app --port 8501"))
    check = _command(
        commands, "check", "say what can be done with a model and, if not, why; with a task, whether the two fit",
        "vp check my-model --task sst2 --data glue",
    )  # fmt: skip
    _question(check)
    stats = _command(
        commands, "stats", "collect mean and variance of every neuron",
        "vp stats demo --out statistics.safetensors",
    )  # fmt: skip
    _question(stats)
    stats.add_argument("--out", help="safetensors file to write (default: only a summary is printed)")
    one = _command(
        commands, "eval", "score a model, pruned or dense, without fine-tuning",
        "vp eval demo --criterion variance --sparsity 0.3 --json",
    )  # fmt: skip
    _question(one, asks=True)
    _how(one)
    one.add_argument("--criterion", help=_CRITERION)
    one.add_argument("--sparsity", help=f"{_SHARE} (default: 0, the dense model; of N:M its own)")
    many = _command(
        commands, "curve", "score against sparsity for several criteria",
        "vp curve demo --criteria variance,random --sparsities 0:0.9:0.3 --out curve.parquet --plot curve.html",
    )  # fmt: skip
    _question(many, asks=True)
    _how(many)
    many.add_argument("--recipes", help="named recipes to compare, by commas, instead of criteria")
    compared = f"{','.join(PAPER_CRITERIA)}; of single weights {','.join(weight_options.CRITERIA_OF_WEIGHTS)}"
    many.add_argument("--criteria", help=f"by commas, of {', '.join(CRITERIA)} (default: {compared})")
    many.add_argument("--sparsities", help="FROM:TO:STEP or a list 0,0.3,0.5 (default: 0:0.9:0.1)")
    many.add_argument("--out", help="parquet file; if it is there, its points are not computed again")
    many.add_argument("--plot", help="HTML file to write a chart to; it needs no network")
    _prune_and_speed(commands)
    looked_at = _command(commands, *weight_options.ABOUT)
    _question(looked_at, asks=True)
    _how(looked_at, precision=False)
    weight_options.add_command(looked_at)
    trained = _command(commands, *train_options.ABOUT)
    _question(trained, asks=True)
    train_options.add_command(trained)
    for name, about, example, add_options in identity_options.COMMANDS:
        made = _command(commands, name, about, example)
        _question(made, asks=True)
        add_options(made)
    return parser


def _prune_and_speed(commands: Any) -> None:
    prune = _command(
        commands, "prune", "write a smaller model: pruned, squeezed, ready to load",
        "vp prune demo --sparsity 0.5 --out smaller && vp eval smaller",
    )  # fmt: skip
    _question(prune)
    _how(prune, precision=False)
    prune.add_argument("--criterion", help=_CRITERION)
    prune.add_argument("--sparsity", help=f"{_SHARE} (default: 0.5)")
    prune.add_argument("--out", required=True, help="folder to write, a new one")
    prune.add_argument(
        "--format", default=FORMATS[0],
        help=", ".join(f"{name} ({about})" for name, about in _FORMATS.items()) + f" (default: {FORMATS[0]})",
    )  # fmt: skip
    speed = _command(
        commands, "speed", "time a model on this machine: dense, masked, squeezed",
        "vp speed demo --sparsities 0.3,0.5 --batch 1,2,4 --length 128 --json",
    )  # fmt: skip
    _question(speed)
    _how(speed)
    speed.add_argument("--criterion", help=f"{', '.join(CRITERIA)} (default: the recipe's with a task, magnitude without)")
    speed.add_argument("--sparsities", help="FROM:TO:STEP or a list (default: 0.3,0.5,0.7)")
    speed.add_argument("--batch", default="1,8", help="texts, or images, in a batch, by commas (default: 1,8)")
    speed.add_argument("--length", default="128", help="tokens in a text (default: 128; images have their own)")
    speed.add_argument(
        "--repeats", default=str(REPEATS), help=f"timed rounds of each batch size and sparsity (default: {REPEATS})"
    )


def _command(commands: Any, name: str, about: str, example: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name, help=about, description=about[0].upper() + about[1:] + ".", epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    return parser


def _app_command(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--own", metavar="M:F,M:B", help="a metric of your own, module:function,module:batches, offered as the task own"
    )
    parser.add_argument("--port", default=os.environ.get("PORT") or "8501", help="port on 127.0.0.1 (default: PORT or 8501)")


def _question(parser: argparse.ArgumentParser, asks: bool = False) -> None:
    """The model and its texts; `asks`: whether the command scores it on the evaluation sentences."""
    parser.add_argument("model", metavar="MODEL", help=_MODEL_HELP)
    parser.add_argument("--task", help=_TASK_HELP)
    parser.add_argument(
        "--data",
        help="folder (GLUE's TSV layout, images, tagged words) or file (a text, SQuAD) (default: the Hub)",
    )
    parser.add_argument("--text", default="", help="text column, or two separated by a comma, of your own file; a.b: b in a")
    parser.add_argument(
        "--label",
        default="label",
        help="label column of a file of your own (default: label); of several labels a text, columns of 0 and 1 by commas; of "
        "pairs of texts, what is to be written",
    )
    parser.add_argument(
        "--metric",
        default="",
        help="the task's metric that heads its scores, such as f1 (default: its first); of own module:function",
    )
    parser.add_argument("--separator", default="", help="what parts the cells of a file of your own, such as ; or tab")
    parser.add_argument("--max-length", metavar="N", help="cut texts to N tokens, or into windows of N (default: by the task)")
    parser.add_argument("--labels", default="", help="what the model's outputs mean, in their order, by commas")
    parser.add_argument(
        "--calibration",
        help=f"training examples to measure neurons on (default: {CALIBRATION}, of a long text {CALIBRATION_WINDOWS} windows)",
    )
    if asks:
        parser.add_argument("--sentences", metavar="N", help="score on a random sample of at most N examples (default: all)")
    parser.add_argument("--stride", metavar="N", help="tokens between two windows of a text (default: by the task)")
    parser.add_argument("--most-tokens", metavar="N", help="score a long text on a random sample of windows, N tokens")
    parser.add_argument(
        "--estimator", help=f"{' or '.join(ESTIMATORS)}, the paper's moving variance (default: {_PAPER.estimator})"
    )
    parser.add_argument("--device", default=AUTO, help=f"{', '.join(DEVICES)} or cuda:N (default: {AUTO}, an accelerator)")
    parser.add_argument("--dtype", default=DTYPES[0], help=f"how weights are kept: {', '.join(DTYPES)} (default: {DTYPES[0]})")
    parser.add_argument("--json", action="store_true", help="print JSON on stdout")


def _how(parser: argparse.ArgumentParser, precision: bool = True) -> None:
    """How to prune. What is not said is the recipe's: no default here but in the help."""

    def choose(name: str, what: str, choices: Iterable[str], default: str) -> None:
        parser.add_argument(f"--{name}", help=f"{what}: {', '.join(choices)} (default: {default})")

    choose("recipe", "a named recipe, from which the options below differ", RECIPES, "paper")
    what = f"what is removed together, one or several by commas ({weight_options.UNITS_HELP})"
    choose("units", what, UNITS, ",".join(_PAPER.units))
    weight_options.add_units(parser)
    choose("scope", "who competes with whom", SCOPES, _PAPER.scope)
    choose("replacement", "what takes the place of what goes", REPLACEMENTS, _PAPER.replacement)
    choose("basis", "coordinates of heads, as they are or turned so that few matter", BASES, _PAPER.basis)
    choose("budget", "what the sparsity is a share of", BUDGETS, f"{_PAPER.budget} for rows, parameters for other units")
    choose("types", "projection types whose rows are pruned, by commas", TYPES, "all six")
    steps = f"prune in so many steps, at most {MOST_STEPS}, measuring again after each (default: {_PAPER.steps})"
    parser.add_argument("--steps", help=steps)
    parser.add_argument("--seed", type=int, default=_PAPER.seed, help=f"seed of random and coreset (default: {_PAPER.seed})")
    if precision:
        parser.add_argument("--precision", help=f"arithmetic: {', '.join(PRECISIONS)} (default: as the weights are kept)")


def _app(options: argparse.Namespace) -> None:
    if not (options.port.isdecimal() and 0 < int(options.port) < 65536):
        raise VPError(f"The port {options.port!r} is no number from 1 to 65535: try PORT=8502.")
    main_script = Path(__file__).parents[1] / "web" / "main.py"
    flags = {
        "server.address": "127.0.0.1",
        "server.port": options.port,
        "server.showEmailPrompt": "false",
        "server.fileWatcherType": "none",
        "browser.gatherUsageStats": "false",
        "client.toolbarMode": "minimal",
    }
    command = [sys.executable, "-m", "streamlit", "run", str(main_script), *(f"--{k}={v}" for k, v in flags.items())]
    os.environ.pop("VP_OWN", None)
    if options.own:  # read by `vp_core.opening.own.own_from_start` in the process that is started here, and set nowhere else
        os.environ["VP_OWN"] = options.own
    finished = subprocess.run(command, check=False)
    if finished.returncode not in (0, -2, 130):
        raise VPError(f"The app ended with code {finished.returncode}: is port {options.port} in use? Try PORT=8502.")
