"""What `vp --help` says is what the library knows, costs nothing to ask for, and has the library's defaults."""

import json
import re

import pytest

from app.cli.main import _parser, main
from app.cli.options import recipe_from
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
    assert "dtype" not in help_


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


def test_the_name_of_precision_in_0_4_is_understood():
    parse = _parser().parse_args
    assert parse(["eval", "demo", "--dtype", "int8"]).precision == "int8"
    assert parse(["eval", "demo"]).precision == "float32"


def test_a_sample_of_sentences(capsys, folders, data):
    command = ["eval", str(folders["bert"]), "--task", "sst2", "--data", str(data), "--json"]
    assert main([*command, "--sentences", "20"]) == 0
    output = capsys.readouterr()
    printed = json.loads(output.out)
    assert printed["n"] == 20 and "precision" in printed and "dtype" not in printed
    assert "random sample of 20 of 210" in output.err
    assert main([*command, "--sentences", "none"]) == 2
    assert "'none' is no whole number" in capsys.readouterr().err
