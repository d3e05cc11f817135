"""What labels of a file mean to a model, all the way through `open_study`.

Most files are self-labelled: their labels are the dense model's own answers, so that a score other than 1.0 is wrong.
"""

import csv
import json
import re
from functools import cache

import numpy as np
import pytest
import tiny
from scipy.stats import spearmanr
from sklearn.metrics import accuracy_score, f1_score

from vp_core.asking.examples import open_examples
from vp_core.asking.metrics import wilson
from vp_core.asking.outputs import parse_labels
from vp_core.curves import point, score_of
from vp_core.ground.errors import VPError
from vp_core.opening.classes import make_study
from vp_core.opening.study import open_study
from vp_core.recipes import Recipe
from vp_core.running.lessons import lessons_of

TEXTS = tiny.sentences(80, 4)


@cache
def made(outputs):
    """(model, tokeniser, logits (texts, outputs) of a plain loop)."""
    model, tok = tiny.make("bert", tuple("abcdefghijklmnop"[:outputs]))
    return model, tok, tiny.answers(model, tok, TEXTS).numpy()


@pytest.fixture
def study_of(tmp_path):
    """A study of a model with outputs of these names on texts with these labels, in a file with this ending."""

    def ask(names, values, ending="jsonl", label="label", kind=None, **how):
        model, tok, _ = made(len(names))
        tiny.name_labels(model, *names).config.problem_type = kind
        path, columns = tmp_path / f"own.{ending}", parse_labels(label)
        rows = [
            {"text": text, **dict(zip(columns, value if len(columns) > 1 else (value,), strict=True))}
            for text, value in zip(TEXTS, values, strict=False)
        ]
        with path.open("w", encoding="utf-8", newline="") as file:
            if ending == "jsonl":
                file.writelines(json.dumps(row) + "\n" for row in rows)
            else:
                writer = csv.DictWriter(file, rows[0])
                writer.writeheader()
                writer.writerows(rows)
        return open_study(str(tiny.save(tmp_path / "m", model, tok)), str(path), text=("text",), label=label, **how)

    return ask


def told(study):
    """What was noted, but for the number of rows, which is always said."""
    counted, *others = study.notes
    assert counted == f"Read {len(TEXTS)} rows of {study.source!r}."
    return tuple(others)


def dense(study):
    return study.score(Recipe(), 0).value


def said(outputs):
    """The class that each text's answer is."""
    return made(outputs)[2].argmax(axis=1).tolist()


def several(outputs=3):
    """0 and 1 of each text and label (texts, labels), as the model says."""
    return (made(outputs)[2] > 0).astype(int)


MULTI = "multi_label_classification"
FORMS = {
    "vectors": ("jsonl", "label", lambda row: row.tolist()),
    "booleans": ("jsonl", "label", lambda row: [bool(bit) for bit in row]),
    "names": ("jsonl", "label", lambda row: [n for n, bit in zip("xyz", row, strict=True) if bit][::-1]),
    "JSON in a cell": ("csv", "label", lambda row: json.dumps([n for n, bit in zip("xyz", row, strict=True) if bit])),
    "bars": ("csv", "label", lambda row: "|".join(n for n, bit in zip("XYZ", row, strict=True) if bit) or "[]"),
    "columns": ("csv", "Z,x,y", lambda row: (row[2], float(row[0]), bool(row[1]))),
}


@pytest.mark.parametrize("form", FORMS)
def test_several_labels_in_every_form(study_of, form):
    ending, label, write = FORMS[form]
    study = study_of(("x", "y", "z"), [write(row) for row in several()], ending, label, MULTI)
    assert study.question.labels.tolist() == several().tolist()
    found = study.score(Recipe(), 0)
    assert (found.metric, found.value, found.others) == ("subset_accuracy", 1.0, {"micro_f1": 1.0, "macro_f1": 1.0})


def test_scores_of_several_labels_are_scikit_learns(study_of):
    truth = several()
    truth[::3, 1] ^= 1
    truth[::5, 2] ^= 1
    study = study_of(("x", "y", "z"), truth.tolist(), kind=MULTI)
    first, found = study.running_scores(Recipe(), 0)
    assert first.n == 64 and not first.others and found.n == 80
    assert found.value == accuracy_score(truth, several())
    assert (found.low, found.high) == wilson(round(80 * found.value), 80)
    assert found.others["micro_f1"] == pytest.approx(f1_score(truth, several(), average="micro"))
    assert found.others["macro_f1"] == pytest.approx(f1_score(truth, several(), average="macro"))
    assert found.right.tolist() == (truth == several()).all(axis=1).tolist()
    kept = score_of(point(study, Recipe(), 0, found, "float32"))
    assert (kept, kept.right.tolist()) == (found, found.right.tolist())
    probabilities, _ = study.predict(study.model, [(text,) for text in TEXTS[:9]])
    np.testing.assert_allclose(probabilities, 1 / (1 + np.exp(-made(3)[2][:9])), atol=1e-5)
    pruned = study.score(Recipe("fisher"), 0.5)  # effects on the outputs need no other loss
    logits = tiny.answers(study.pruned(Recipe("fisher"), 0.5), study.loaded.tokenizer, TEXTS).numpy()
    assert pruned.value == accuracy_score(truth, logits > 0)


def test_columns_name_labels_that_are_only_numbered_and_labels_name_them_in_another_order(study_of):
    x, y, z = several().T
    numbered, rows = ("LABEL_0", "LABEL_1", "LABEL_2"), list(zip(z, y, x, strict=True))
    study = study_of(numbered, rows, "csv", "z,y,x", MULTI)
    assert dense(study) == accuracy_score(np.stack([z, y, x], axis=1), several()) < 1
    assert any("z, y, x, in this order" in note for note in told(study))
    other = make_study(study.loaded, (alone := open_examples(study.source, "dev", None, ("text",), "z,y,x")), alone)
    assert dense(other) == dense(study) and other.notes[-1] == study.notes[-1]  # also where they were read without the model
    study = study_of(numbered, rows, "csv", "z,y,x", MULTI, labels=("x", "y", "z"))
    assert (dense(study), told(study)) == (1.0, ())


@pytest.mark.parametrize("write", [int, bool, lambda bit: [int(bit)], lambda bit: ["toxic"] * bit])
def test_a_single_label_is_a_case_of_several(study_of, write):
    truth = several(1)
    found = study_of(("toxic",), [write(bit) for bit in truth[:, 0]], kind=MULTI).score(Recipe(), 0)
    assert (found.value, found.others) == (1.0, {"micro_f1": 1.0, "macro_f1": 1.0})
    truth[::3] ^= 1
    found = study_of(("toxic",), [write(bit) for bit in truth[:, 0]], kind=MULTI).score(Recipe(), 0)
    assert found.others["micro_f1"] == pytest.approx(f1_score(truth[:, 0], several(1)[:, 0]))


REFUSED_LABELS = {
    "numbers of classes": ([[0, 2], [1], [], [0, 1, 2]], r"Row 1 .*\[0, 2\].*one 0 or 1 for each of 3 outputs"),
    "not 0 or 1": ([[0, 1, 2], [1, 0, 0]], r"Row 1 .*0 or 1"),
    "single classes": (["x", "y", "z"], r"row 1 .*single label 'x'.*lists"),
    "a number": ([1, 0, 1], "single label '1'"),
    "names and numbers": ([["x", 1], ["y"]], "mix names and numbers"),
    "digits as names": ([["1", "0", "1"], ["0", "0", "1"]], "'1' in row 1 .*none of x, y, z"),
    "one name twice": ([["x", "x"], ["y"]], "twice"),
    "an unknown name": ([["x"], ["y", "w"]], "'w' in row 2 .*none of x, y, z"),
    "nothing": ([["x"], None], "row 2 is missing"),
    "all the same": ([["x"], ["x"]], "All 2 labels"),
}


@pytest.mark.parametrize("case", REFUSED_LABELS)
def test_several_labels_that_are_refused(study_of, case):
    values, message = REFUSED_LABELS[case]
    with pytest.raises(VPError, match=message) as caught:
        study_of(("x", "y", "z"), values, kind=MULTI)
    assert "\n" not in str(caught.value)


def test_an_empty_cell_says_how_no_label_is_written(study_of):
    """Not to leave such rows out, which would score the model on texts with labels only."""
    ending, _, write = FORMS["bars"]
    cells = [write(row) for row in several()]
    assert "[]" in cells  # which `test_several_labels_in_every_form` reads as no label
    with pytest.raises(VPError, match=r"missing \(empty, null or nan\): write \[\] where a text has none of the labels\.$"):
        study_of(("x", "y", "z"), [cell if cell != "[]" else "" for cell in cells], ending, kind=MULTI)
    with pytest.raises(VPError, match=r"in row 3 is missing .*leave such rows out"):
        study_of(("x", "y", "z"), [("1", "", "0") if i == 2 else ("1", "0", "1") for i in range(80)], "csv", "x,y,z", MULTI)


def test_a_column_with_a_comma_in_its_name(study_of):
    assert dense(study_of(("x", "y"), [("x", "y")[i] for i in said(2)], "csv", '"kind, or mood"')) == 1.0


def test_columns_that_are_refused(study_of):
    with pytest.raises(VPError, match=r"label columns of .* are x, y, the model's labels x, y, z"):
        study_of(("x", "y", "z"), several()[:, :2].tolist(), "csv", "x,y", MULTI)
    with pytest.raises(VPError, match=r"column 'y' .* has '2' in row 1"):
        study_of(("x", "y", "z"), [(1, 2, 0), (0, 0, 0)], "csv", "x,y,z", MULTI)


def test_a_model_of_one_answer_refuses_several_labels(study_of):
    with pytest.raises(VPError, match=r"list of labels in row 1.*single answer.*problem_type"):
        study_of(("x", "y", "z"), several().tolist())
    with pytest.raises(VPError, match=r"has 3 label columns"):
        study_of(("x", "y", "z"), several().tolist(), "csv", "x,y,z")
    with pytest.raises(VPError, match=r"predicts 3 values at once"):
        study_of(("x", "y", "z"), several().tolist(), kind="regression")


def test_a_named_task_refuses_a_model_of_another_kind(tmp_path):
    tiny.write_tsv(tmp_path / "sst2" / "dev.tsv", ("sentence", "label"), zip(TEXTS, [0, 1] * 40, strict=True))
    tiny.write_tsv(tmp_path / "sst2" / "train.tsv", ("sentence", "label"), zip(TEXTS, [0, 1] * 40, strict=True))
    tiny.write_tsv(tmp_path / "stsb" / "dev.tsv", ("sentence1", "sentence2", "score"), [("a", "b", 1), ("c", "d", 2)] * 9)
    tiny.write_tsv(tmp_path / "stsb" / "train.tsv", ("sentence1", "sentence2", "score"), [("a", "b", 1), ("c", "d", 2)] * 9)
    model, tok, _ = made(2)
    tiny.name_labels(model, "positive", "negative").config.problem_type = MULTI
    folder = str(tiny.save(tmp_path / "m", model, tok))
    with pytest.raises(VPError, match=r"sst2 asks for one of its labels.*any number of its 2"):
        open_study(folder, "sst2", tmp_path)
    with pytest.raises(VPError, match=r"stsb is a regression, but the model has 2 classes"):
        open_study(folder, "stsb", tmp_path)
    model.config.problem_type = None
    turned = open_study(str(tiny.save(tmp_path / "n", model, tok)), "sst2", tmp_path, labels=("negative", "1"))
    assert turned.question.order == (0, 1)
    assert turned.notes == ("The model calls its outputs positive, negative; by --labels they are negative, positive.",)
    assert open_study(str(tmp_path / "n"), "sst2", tmp_path).question.order == (1, 0)
    for labels in (("good", "bad"), ("negative",), ("negative", "negative"), ("positive", "1")):
        with pytest.raises(VPError, match=r"--labels negative,positive"):
            open_study(str(tmp_path / "n"), "sst2", tmp_path, labels=labels)


SCRIPTS = [("正面", "负面"), ("нет", "да"), ("👎", "👍"), ("-", "+"), ("की", "कि"), ("STRASSE", "weg"), ("C", "C++")]


@pytest.mark.parametrize("names", SCRIPTS)
def test_names_of_every_script_are_matched(study_of, names):
    written = {"STRASSE": "Straße"}
    study = study_of(names, [written.get(names[i], names[i]) for i in said(2)])
    assert (dense(study), told(study)) == (1.0, ())


def test_two_names_are_never_taken_for_one(study_of):
    names = ["1-2", "12"]
    with pytest.raises(VPError, match=r"none of the model's classes .*\(--labels 12,1-2, or otherwise\)"):
        study_of(("3 4", "1/2"), [names[i] for i in said(2)])
    with pytest.raises(VPError, match=r"same class in two ways \(Good, good\)"):
        study_of(("good", "bad"), [("good", "Good", "bad")[i] for i in said(3)])


def test_given_labels_win_over_names_and_guesses(study_of):
    study = study_of(("negative", "positive"), [("bad", "good")[i] for i in said(2)], labels=("bad", "good"))
    assert (dense(study), told(study)) == (
        1.0, ("The model calls its outputs negative, positive; by --labels they are bad, good.",)
    )  # fmt: skip
    turned = study_of(("negative", "positive"), [("positive", "negative")[i] for i in said(2)], labels=("positive", "negative"))
    assert dense(turned) == 1.0 and len(told(turned)) == 1
    codes = study_of(("LABEL_0", "LABEL_1"), [("01", "02")[i] for i in said(2)], "csv", labels=("01", "02"))
    assert (dense(codes), told(codes)) == (1.0, ())
    numbers = study_of(("LABEL_0", "LABEL_1"), said(2), labels=("bad", "good"))
    assert (dense(numbers), numbers.question.task.labels) == (1.0, ("bad", "good"))
    with pytest.raises(VPError, match=r"'0' in row .* none of bad, good"):
        study_of(("LABEL_0", "LABEL_1"), ["bad", *[("0", "good")[i] for i in said(2)][1:]], labels=("bad", "good"))


def test_a_hard_set_is_scored_as_said_and_the_guess_names_the_options_that_work(study_of):
    names, wrong = ("LABEL_0", "LABEL_1"), [1 - s if i % 20 < 13 else s for i, s in enumerate(said(2))]
    right = np.mean(np.array(wrong) == said(2))
    assert 0.3 < right < 0.4
    with pytest.raises(VPError, match=r"fit the order 1, 0 better") as caught:
        study_of(names, wrong)
    options = [parse_labels(word) for word in re.findall(r"--labels ([^\s)]+)", str(caught.value))]
    assert options == [("1", "0"), ("0", "1")]
    assert dense(study_of(names, wrong, labels=options[0])) == 1 - right
    assert dense(study_of(names, wrong, labels=options[1])) == right


def test_an_option_that_begins_with_a_sign_is_written_as_one_word(study_of):
    with pytest.raises(VPError, match=r"\(--labels 1,-1 or --labels=-1,1\)"):
        study_of(("LABEL_0", "LABEL_1"), [(1, -1)[i] for i in said(2)])


def test_given_labels_that_do_not_fit(study_of):
    values = [("x", "y", "z")[i] for i in said(3)]
    with pytest.raises(VPError, match=r"names 2 classes .* has 3 .a, b, c.: name one for each"):
        study_of(("a", "b", "c"), values, labels=("x", "y"))
    with pytest.raises(VPError, match=r"names a class twice"):
        study_of(("a", "b", "c"), values, labels=("x", "y", "x"))
    with pytest.raises(VPError, match=r"'z' in row .* none of x, y, w"):
        study_of(("a", "b", "c"), values, labels=("x", "y", "w"))
    values[:4] = ["x", "X", "y", "z"]
    for names, labels in ((("a", "b", "c"), ("x", "y", "z")), (("x", "y", "z"), ())):
        with pytest.raises(VPError, match=r"same class in two ways \(X, x\): write each in one"):
            study_of(names, values, labels=labels)
    never = study_of(("a", "b", "c"), [("x", "y", "x")[i] for i in said(3)], labels=("x", "y", "never seen"))
    assert never.question.task.labels == ("x", "y", "never seen")
    assert any("has the label never seen" in note for note in never.notes)


def test_numbers_of_some_given_labels_are_not_guessed(study_of):
    """1 and 2 of three: the second and third from 0, the first and second from 1."""
    truth = [1 + i % 2 for i in said(3)]
    with pytest.raises(VPError, match=r"counted from 0 or from 1: .*\(--labels 0,1,2 or --labels 1,2,3\)"):
        study_of(NUMBERED[:3], truth, labels=("bad", "fair", "good"))
    for labels, first in ((("0", "1", "2"), 0), (("1", "2", "3"), 1)):
        assert dense(study_of(NUMBERED[:3], truth, labels=labels)) == np.mean(np.array(truth) - first == said(3))
    from_0 = [i % 2 for i in said(3)]
    assert dense(study_of(NUMBERED[:3], from_0, labels=("bad", "fair", "good"))) == np.mean(np.array(from_0) == said(3))


NUMBERED = tuple(f"LABEL_{i}" for i in range(12))


@pytest.mark.parametrize(
    ("outputs", "write"),
    [
        (3, lambda i: i - 1), (3, lambda i: str(i - 1)), (12, float), (12, lambda i: f"{i}.0"), (12, NUMBERED.__getitem__),
        (3, lambda i: i + 1), (2, bool),
    ],
)  # fmt: skip
def test_numbers_stand_in_number_order(study_of, outputs, write):
    truth = [*range(outputs), *said(outputs)[outputs:]]  # each class occurs
    study = study_of(NUMBERED[:outputs], [write(i) for i in truth])
    assert dense(study) == np.mean(np.array(truth) == said(outputs))


def test_names_that_are_numbers_are_names(study_of):
    assert dense(study_of(("1", "0", "-1"), [1 - i for i in said(3)])) == 1.0
    assert dense(study_of(("1", "0"), [1.0 - i for i in said(2)])) == 1.0


def test_a_class_that_the_file_lacks_is_told(study_of):
    truth = [i if i < 2 else place % 2 for place, i in enumerate(said(3))]
    for names, write in ((("no", "yes", "maybe"), ("no", "Yes").__getitem__), (NUMBERED[:3], int)):
        study = study_of(names, [write(i) for i in truth])
        assert dense(study) == np.mean(np.array(truth) == said(3)) < 1
        (note,) = told(study)
        assert ("maybe" if names[0] == "no" else "label 2") in note and len(study.question.task.labels) == 3
    with pytest.raises(VPError, match=r"'meh' in row .* none of the model's classes .no, yes, maybe."):
        study_of(("no", "yes", "maybe"), [("no", "yes", "meh")[i] for i in said(3)])
    with pytest.raises(VPError, match=r"labels 1, 2, but the model has 3.*\(--labels 0,1,2 or --labels 1,2,3\)"):
        study_of(NUMBERED[:3], [1 + min(i, 1) for i in said(3)])  # 0 to 2 without 0, or 1 to 3 without 3?
    with pytest.raises(VPError, match=r"2 labels bad, good, but the model has 3"):
        study_of(NUMBERED[:3], [("bad", "good")[min(i, 1)] for i in said(3)])


def test_a_single_output_makes_a_regression_of_whole_numbers(study_of):
    stars = np.digitize(made(1)[2][:, 0], np.quantile(made(1)[2][:, 0], [0.2, 0.4, 0.6, 0.8])) + 1
    stars[::4] = 3
    for write in (int, float):
        study = study_of(("LABEL_0",), [write(star) for star in stars])
        assert study.question.task.regression and "single output" in told(study)[0]
        assert dense(study) == pytest.approx(spearmanr(stars, made(1)[2][:, 0]).statistic, abs=1e-6)
    assert told(study_of(("LABEL_0",), (stars / 2).tolist())) == ()
    for values, message in (
        (["good", 1], "'good' in row 1 .*single output"), ([True, False], "'true' in row 1"), ([1, "inf"], "'inf' in row 2"),
    ):  # fmt: skip
        with pytest.raises(VPError, match=message):
            study_of(("LABEL_0",), values)
    for labels in (("x",), ("1", "2", "3")):
        with pytest.raises(VPError, match=r"--labels names classes: leave it out"):
            study_of(("LABEL_0",), stars.tolist(), labels=labels)
    with pytest.raises(VPError, match=r"fractions.* 2 classes"):
        study_of(("no", "yes"), (stars / 2).tolist())


@pytest.mark.parametrize("value", ["", "nan", "NaN", "null", None, float("nan")])
def test_a_missing_label_is_no_class_and_no_value(study_of, value):
    for names, ending in ((NUMBERED[:2], "jsonl"), (("LABEL_0",), "csv")):
        with pytest.raises(VPError, match=r"The label of .* in row 3 is missing"):
            study_of(names, [0, 1, value, 1], ending)
    with pytest.raises(VPError, match=r"2 labels of .* in rows 2, 4 are missing"):
        study_of(NUMBERED[:2], [0, value, 1, value])


def test_a_class_may_be_called_nan(study_of):
    assert dense(study_of(("nan", "roti"), [("nan", "roti")[i] for i in said(2)])) == 1.0


def test_training_texts_that_were_numbered_otherwise_teach_the_same(study_of, tmp_path):
    """A study of examples that were read without the model (classes sorted by name) and lessons that were read with it."""
    names = [("positive", "negative")[i] for i in said(2)]
    study = study_of(("positive", "negative"), names)
    alone = open_examples(study.source, "dev", text=("text",))
    other = make_study(study.loaded, alone, alone)
    assert (study.question.order, other.question.order) == ((0, 1), (1, 0)) and dense(study) == dense(other) == 1.0
    for one in (study, other):
        assert lessons_of(one, study.source, text=("text",)).targets.tolist() == said(2)
