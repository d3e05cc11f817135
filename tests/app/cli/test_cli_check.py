"""`vp check`: a row a capability, what is odd is told, what cannot be loaded is told in its row and ends with 2."""

import json
import shutil

import pytest
from breaking import configure

from app.cli.main import main


def asked(capsys, *arguments):
    code = main(["check", *map(str, arguments)])
    shown = capsys.readouterr()
    return code, shown.out, shown.err


def test_a_model_with_its_task(capsys, folders, data):
    code, out, err = asked(capsys, folders["albert"], "--task", "sst2", "--data", data)
    rows = {line.split()[0]: line.split(maxsplit=2)[1:] for line in out.splitlines()}
    assert code == 0 and err == ""
    assert list(rows) == [
        "load", "statistics", "rows", "units", "weights", "best", "squeeze", "save", "transformers", "ONNX", "int8", "training",
        "task",
    ]  # fmt: skip
    assert rows["load"] == ["yes", "albert, 1 layer."]
    assert rows["best"][0] == "no" and "runs the same layer several times" in rows["best"][1]
    assert rows["task"] == ["yes", "sst2: classes negative, positive, accuracy on 210 texts."]


def test_outputs_that_no_task_asks_for_have_a_row(capsys, folders, tmp_path):
    folder = configure(shutil.copytree(folders["bert"], tmp_path / "model"), problem_type="regression")
    code, out, _ = asked(capsys, folder)
    assert code == 0 and "predicts 2 values at once" in out.splitlines()[1] and out.splitlines()[1].startswith("outputs")


def test_as_json(capsys, folders):
    code, out, _ = asked(capsys, folders["bert"], "--json")
    rows = json.loads(out)
    assert code == 0 and all(set(row) == {"name", "can", "why"} and row["can"] for row in rows)


@pytest.mark.parametrize("json_", [False, True])
def test_what_does_not_fit_is_told_in_its_row(capsys, folders, data, tmp_path, json_):
    more = ["--json"] if json_ else []
    code, out, err = asked(capsys, tmp_path, *more)
    assert code == 2 and "no config.json" in out and "no config.json" in err
    code, out, err = asked(capsys, folders["bert"], "--task", "stsb", "--data", data, *more)
    assert code == 2 and err.startswith("vp: ") and err[4:].strip() in out.replace("\\u2019", "’")
    if json_:
        assert [row["can"] for row in json.loads(out)][-1] is False
