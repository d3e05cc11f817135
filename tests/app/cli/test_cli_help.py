"""What `vp --help` says is what the library knows, costs nothing to ask for, and has the library's defaults."""

import json
import re

import pytest

from app.cli.main import _parser, main
from app.cli.options import recipe_from, settle
from app.cli.trainings.identity_commands import _settings
from app.cli.trainings.lessons import schedule_from
from vp_core.asking.tasks import TASKS
from vp_core.ground import names
from vp_core.identity.settings import SnipSettings
from vp_core.recipes import RECIPES, Recipe
from vp_core.training.schedule import Schedule

ANSWERS = {
    "task": TASKS, "recipe": RECIPES, "units": names.UNITS, "scope": names.SCOPES, "replacement": names.REPLACEMENTS,
    "basis": names.BASES, "budget": names.BUDGETS, "types": names.TYPES, "criterion": names.CRITERIA,
    "precision": names.PRECISIONS, "estimator": names.ESTIMATORS,
}  # fmt: skip
HELP = """
import contextlib, io, sys
from app.cli.main import main
shown = io.StringIO()
with contextlib.suppress(SystemExit), contextlib.redirect_stdout(shown):
    main([*sys.argv[1:], "--help"])
assert "usage: vp" in shown.getvalue()
print(*sorted({name.partition(".")[0] for name in sys.modules} & {"torch", "numpy", "pandas", "transformers", "plotly"}))
"""


def shown(capsys, monkeypatch, *command):
    """The help of a command: option → what is said of it."""
    monkeypatch.setenv("COLUMNS", "2000")  # nothing is wrapped
    with pytest.raises(SystemExit):
        main([*command, "--help"])
    parts = re.split(r"\n *--", capsys.readouterr().out)
    return {part.split()[0]: part for part in parts[1:]}


@pytest.mark.parametrize("command", ["eval", "curve", "prune", "speed"])
def test_every_word_can_be_read_in_the_help(capsys, monkeypatch, command):
    help_ = shown(capsys, monkeypatch, command)
    if command == "curve":
        help_["criterion"] = help_["criteria"]
    for option, words in ANSWERS.items():
        if option == "precision" and command == "prune":
            continue
        for word in words:
            assert word in help_[option], (option, word)
    assert all(word in help_["units"] for word in names.WEIGHT_UNITS)
    assert {"block", "embeddings", "density"} <= help_.keys()
    assert all(word in help_["dtype"] for word in names.DTYPES) and all(word in help_["device"] for word in names.DEVICES)


def test_modes_and_formats(capsys, monkeypatch):
    assert all(mode in shown(capsys, monkeypatch, "snip")["mode"] for mode in names.MODES)
    assert all(word in shown(capsys, monkeypatch, "finetune")["precision"] for word in names.TRAINING_PRECISIONS)
    assert all(word in shown(capsys, monkeypatch, "prune")["format"] for word in names.FORMATS)


@pytest.mark.parametrize("command", [(), ("eval",), ("snip",), ("weights",)])
def test_help_imports_nothing_heavy(fresh_python, command):
    assert fresh_python(HELP, *command).strip() == ""


def test_defaults_are_those_of_the_library():
    parse = _parser().parse_args
    for command in (["eval", "demo"], ["prune", "demo", "--out", "x"], ["speed", "demo"]):
        options = parse(command)
        assert recipe_from(options) == Recipe() and options.calibration is None  # by the task
    assert schedule_from(parse(["finetune", "demo", "--out", "x"])) == Schedule()
    assert _settings(parse(["snip", "demo", "--out", "x"])) == SnipSettings()


def test_precision_is_what_weights_are_kept_in(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    for said, precision in ([], "float32"), (["--dtype", "bfloat16"], "bfloat16"), (["--precision", "int8"], "int8"):
        options = _parser().parse_args(["eval", "demo", "--device", "cpu", *said])
        settle(options)
        assert options.precision == precision


@pytest.mark.parametrize(("ratio", "said", "told"), [
    (6.1, ["--precision", "bfloat16"], True), (6.1, ["--dtype", "bfloat16"], True), (6.1, [], False),
    (0.5, ["--precision", "bfloat16"], False),
])  # fmt: skip
def test_slow_bfloat16_is_told_beforehand(monkeypatch, capsys, ratio, said, told):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.setattr("app.cli.options.bfloat16_time", lambda device: ratio)
    settle(_parser().parse_args(["eval", "demo", "--device", "cpu", *said]))
    error = capsys.readouterr().err
    assert ("bfloat16 is no faster here (cpu): its products take 6.1 × the time of float32" in error) == told
    assert error.count("\n") == told


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        (["eval", "demo", "--device", "cuda:9"], "'cuda:9' is not there"),
        (["eval", "demo", "--device", "tpu"], "Unknown device 'tpu'"),
        (["eval", "demo", "--dtype", "int8"], "Unknown dtype 'int8': choose one of float32, bfloat16, float16."),
        (["eval", "demo", "--device", "cpu", "--dtype", "float16"], "Weights in float16 are for accelerators"),
        (["finetune", "demo", "--out", "x", "--dtype", "bfloat16"], "Weights are trained in float32"),
    ],
)
def test_what_a_device_cannot_be(said, sentence, capsys):
    assert main(said) == 2
    error = capsys.readouterr().err
    assert sentence in error and len(error.splitlines()) == 1


def test_weights_kept_in_bfloat16(capsys):
    assert main(["eval", "demo", "--sentences", "40", "--dtype", "bfloat16", "--json"]) == 0
    output = capsys.readouterr()
    assert json.loads(output.out)["precision"] == "bfloat16" and "Weights are kept in bfloat16" in output.err


def test_a_sample_of_sentences(capsys, folders, data):
    command = ["eval", str(folders["bert"]), "--task", "sst2", "--data", str(data), "--json"]
    assert main([*command, "--sentences", "20"]) == 0
    output = capsys.readouterr()
    printed = json.loads(output.out)
    assert printed["n"] == 20 and "precision" in printed and "dtype" not in printed
    assert "random sample of 20 of 210" in output.err
    assert main([*command, "--sentences", "none"]) == 2
    assert "'none' is no whole number" in capsys.readouterr().err
