"""Files of one's own on the command line: how cells are parted, how long texts may be, and what is said of what was read."""

import numpy as np
import pytest
import tiny
from commands import SHORT, printed

from app.cli.main import main
from vp_core.asking.batches import encode
from vp_core.opening.study import open_study
from vp_core.recipes import Recipe


@pytest.fixture(scope="module")
def reviews(folders, tmp_path_factory):
    """(model, file, options): texts whose labels are the model's own answers to their first eight tokens."""
    model, tok = tiny.make("bert")
    texts = [text.replace(" ", ", ", 1) for text in tiny.sentences(60, 3)]
    cut = encode(tok, [(text,) for text in texts], 8)
    answers = tiny.answers(model, tok, tok.batch_decode([ids[1:-1] for ids in cut.ids])).argmax(dim=1).tolist()
    tiny.save(folder := tmp_path_factory.mktemp("m") / "own", model, tok)
    path = folder.parent / "reviews.csv"
    path.write_text("words;answer\n" + "".join(f"{t};{a}\n" for t, a in zip(texts, answers, strict=True)), encoding="utf-8")
    return str(folder), str(path), ["--text", "words", "--label", "answer", "--separator", ";", "--max-length", "8"]


def test_every_option_of_a_file_reaches_the_score(capsys, reviews):
    model, path, options = reviews
    assert main(["eval", model, "--task", path, *options, "--json"]) == 0
    out, err = capsys.readouterr()
    assert '"value": 1.0' in out and '"n": 60' in out
    assert f"Read 60 rows of {path!r}." in err and "longer than 8 tokens" in err
    longer = printed(capsys, "eval", model, "--task", path, *options[:-2])
    study = open_study(model, path, text=["words"], label="answer", separator=";", max_length=8)
    assert study.question.data.max_length == 8 and max(map(len, study.calibration.ids)) == 8
    assert longer["value"] < 1.0 == study.score(Recipe(), 0).value
    whole = open_study(model, path, text=["words"], label="answer", separator=";")
    assert whole.data_id != study.data_id and whole.calibration_id != study.calibration_id


def test_training_takes_the_same_options(capsys, reviews, tmp_path, monkeypatch):
    model, path, options = reviews
    lessons = []
    make = "app.cli.trainings.identity_commands.fine_tune"
    from vp_core.running.finetune import fine_tune

    def told(study, taught, *rest, **others):
        lessons.append(taught)
        return fine_tune(study, taught, *rest, **others)

    monkeypatch.setattr(make, told)
    found = printed(capsys, "finetune", model, "--task", path, *options, *SHORT, "--out", tmp_path / "tuned")
    assert found["rows"] == 60 and lessons[0].data.max_length == 8 == max(map(len, lessons[0].data.ids))
    assert np.isfinite(found["loss"])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (["--max-length", "3"], "from 4 to"),
        (["--max-length", "1000000"], "from 4 to"),
        (["--max-length", "x"], "The number of tokens 'x'"),
        (["--separator", ";;"], "The separator ';;'"),
        (["--separator", ","], "name its separator (--separator ';')"),
    ],
)
@pytest.mark.parametrize("command", ["eval", "stats"])
def test_what_cannot_be_is_one_sentence(capsys, reviews, command, change, says):
    model, path, options = reviews
    assert main([command, model, "--task", path, *options, *change]) == 2
    (sentence,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("vp: ")]
    assert says in sentence and sentence.endswith(".")


def test_a_task_by_another_of_its_names(capsys, folders, data):
    model = str(folders["bert"])
    one = printed(capsys, "eval", model, "--task", "sst2", "--data", data)
    other = printed(capsys, "eval", model, "--task", "glue/SST-2", "--data", data, "--max-length", "40")
    assert {k: v for k, v in one.items() if k != "seconds"} == {k: v for k, v in other.items() if k != "seconds"}
