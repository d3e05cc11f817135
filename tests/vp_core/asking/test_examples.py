"""Reading files: what is read, and the one sentence for what cannot be."""

import json

import numpy as np
import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st

from vp_core.asking.examples import Examples, open_examples, read_examples, read_file
from vp_core.asking.tasks import TASKS
from vp_core.ground.errors import VPError


def put(folder, name, text, encoding="utf-8"):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))
    return path


def sst2(folder, text, **kind):
    put(folder, "sst2/dev.tsv", text, **kind)
    return read_examples(TASKS["sst2"], "dev", folder)


def test_bom_quotes_crlf_and_other_odd_characters(tmp_path):
    text = 'sentence\tlabel\r\n"it is "good"\t1\r\nso, "so\t0\r\nline\u2028sep \u00e9\x0b\t1\r\n\r\n'
    found = sst2(tmp_path, "\ufeff" + text)
    assert found.texts == [('"it is "good"',), ('so, "so',), ("line\u2028sep \u00e9\x0b",)]
    assert found.labels.tolist() == [1, 0, 1]


def test_columns_are_found_by_name_and_labels_by_name_or_number(tmp_path):
    found = sst2(tmp_path, "id\tlabel\tsentence\n7\tpositive\tfine\n8\t0\tawful\n9\tnegative\tdull\n")
    assert (found.texts, found.labels.tolist()) == ([("fine",), ("awful",), ("dull",)], [1, 0, 0])


def test_glues_own_layouts(tmp_path):
    mrpc = '\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\n1\t3\t4\tHe "said\t"He said\n0\t5\t6\tA\tB\n'
    put(tmp_path, "mrpc/dev.tsv", mrpc)
    found = read_examples(TASKS["mrpc"], "dev", tmp_path)
    assert found.texts == [('He "said', '"He said'), ("A", "B")] and found.labels.tolist() == [1, 0]
    put(tmp_path, "cola/dev.tsv", "gj04\t1\t\tThey fell.\ngj04\t0\t*\tThem fell.\n")
    found = read_examples(TASKS["cola"], "dev", tmp_path)
    assert (found.texts, found.labels.tolist()) == ([("They fell.",), ("Them fell.",)], [1, 0])
    put(tmp_path, "mnli/dev_matched.tsv", "sentence1\tsentence2\tgold_label\na\tb\tneutral\nc\td\tcontradiction\n")
    found = read_examples(TASKS["mnli"], "dev", tmp_path)
    assert found.labels.tolist() == [1, 2] and "has the label entailment" in found.notes[0]
    put(tmp_path, "stsb/dev.tsv", "sentence1\tsentence2\tscore\na\tb\t2.5\nc\td\t5\n")
    assert read_examples(TASKS["stsb"], "dev", tmp_path / "stsb").labels.tolist() == [2.5, 5.0]  # the task's own folder


BAD = {
    "empty file": ("", "no rows"),
    "header only": ("sentence\tlabel\n", "no rows"),
    "one class": ("sentence\tlabel\na\t1\nb\t1\n", "All 2 labels"),
    "missing label column": ("sentence\tgrade\na\t1\nb\t0\n", "no column 'label'.*sentence, grade"),
    "missing text column": ("text\tlabel\na\t1\nb\t0\n", "no column 'sentence'.*text, label"),
    "short row": ("sentence\tlabel\na\t1\nb\nc\t0\n", "no column 'label' in row 2"),
    "label with a strange name": ("sentence\tlabel\na\t1\nb\tmeh\n", "'meh' in row 2.*negative, positive"),
    "label out of range": ("sentence\tlabel\na\t1\nb\t2\n", "'2' in row 2.*0 to 1"),
    "hidden test labels": ("sentence\tlabel\na\t-1\nb\t-1\n", "'-1' in row 1"),
    "superscript digit": ("sentence\tlabel\na\t1\nb\t\u00b2\n", "row 2"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files(tmp_path, case):
    text, message = BAD[case]
    with pytest.raises(VPError, match=message) as caught:
        sst2(tmp_path, text)
    assert "\n" not in str(caught.value)


def test_not_utf8(tmp_path):
    with pytest.raises(VPError, match="not UTF-8"):
        sst2(tmp_path, "sentence\tlabel\ncaf\u00e9\t1\nx\t0\n", encoding="latin-1")


@pytest.mark.parametrize(
    ("value", "told"), [("high", "regression"), ("inf", "regression"), ("nan", "missing"), ("", "missing")]
)
def test_regression_labels_that_are_no_numbers(tmp_path, value, told):
    put(tmp_path, "stsb/dev.tsv", f"sentence1\tsentence2\tscore\na\tb\t2.5\nc\td\t{value}\n")
    with pytest.raises(VPError, match=rf"row 2.*{told}"):
        read_examples(TASKS["stsb"], "dev", tmp_path)


def test_folder_without_files(tmp_path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(VPError, match=r"no dev.tsv for sst2.*sst2/dev.tsv"):
            read_examples(TASKS["sst2"], "dev", folder)
    with pytest.raises(VPError, match=r"dev_matched.tsv"):
        read_examples(TASKS["mnli"], "dev", tmp_path)


def test_csv_with_quotes_commas_and_line_breaks(tmp_path):
    path = put(tmp_path, "a.csv", '\ufefftext,stars\r\n"He said ""no"", twice\nand left",bad\r\nfine,good\r\n')
    found = read_file(path, ("text",), "stars")
    assert found.texts == [('He said "no", twice\nand left',), ("fine",)]
    assert found.task.labels == ("bad", "good") and found.labels.tolist() == [0, 1]
    assert read_file(path, ("text",), "stars", ("good", "bad")).labels.tolist() == [1, 0]


def test_jsonl(tmp_path):
    rows = [{"a": "x\ty", "b": 'q"', "y": 1}, {"a": "é", "b": "r", "y": 0}]
    path = put(tmp_path, "a.jsonl", "".join(json.dumps(r) + "\n" for r in rows))
    found = read_file(path, ("a", "b"), "y")
    assert (found.texts, found.labels.tolist()) == ([("x\ty", 'q"'), ("é", "r")], [1, 0])
    for broken in ('{"a": "x", "y": 1}\n{"a": \n', '["a", "y"]\n["b", "z"]\n', '{"a": "x", "y": null}\n{"a": "x", "y": 1}\n'):
        with pytest.raises(VPError):
            read_file(put(tmp_path, "b.jsonl", broken), ("a",), "y")


def test_fractions_make_a_regression(tmp_path):
    path = put(tmp_path, "a.tsv", "t\ty\na\t0.5\nb\t1\nc\t-2e-1\n")
    found = read_file(path, ("t",), "y")
    assert found.task.regression and found.task.metric == "spearman" and found.labels.tolist() == [0.5, 1.0, -0.2]


def test_numbered_classes_keep_their_numbers(tmp_path):
    """Twelve classes 0 to 11: 10 comes after 9, not after 1."""
    rows = [(f"text {i}", i) for i in range(12)]
    found = read_file(tiny.write_tsv(tmp_path / "a.tsv", ("t", "y"), rows), ("t",), "y")
    assert found.labels.tolist() == list(range(12))
    assert found.task.labels == tuple(str(i) for i in range(12))


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(VPError, match="no file"):
        read_file(tmp_path / "none.tsv", ("t",), "y")
    with pytest.raises(VPError, match=r"\.tsv, \.csv, \.json"):
        read_file(put(tmp_path, "a.xlsx", "t\ty\n"), ("t",), "y")
    (tmp_path / "folder.tsv").mkdir()
    with pytest.raises(VPError, match="cannot be read"):
        read_file(tmp_path / "folder.tsv", ("t",), "y")
    with pytest.raises(VPError, match="Which columns"):
        open_examples(str(tmp_path / "a.tsv"), "dev")
    with pytest.raises(VPError, match="Unknown task"):
        open_examples("sst3", "dev", tmp_path)


def test_the_hub_is_not_asked_when_offline():
    with pytest.raises(VPError, match="give a folder") as caught:
        read_examples(TASKS["rte"], "dev")
    assert "\n" not in str(caught.value)


def test_sample_like_takes_each_once_and_matches_lengths(tmp_path):
    words = ["w " * (1 + i % 40) for i in range(400)]
    rows = "".join(f"{text.strip()} n{i}\t{i % 2}\n" for i, text in enumerate(words))
    found = sst2(tmp_path, "sentence\tlabel\n" + rows)
    long = sst2(tmp_path / "long", "sentence\tlabel\n" + "".join(f"{'w ' * (25 + i % 10)}x{i}\t{i % 2}\n" for i in range(60)))
    part = found.sample_like(long, 40)
    assert len(part) == 40 == len(set(part.texts))
    assert [found.labels[found.texts.index(t)] for t in part.texts] == part.labels.tolist()
    assert part.texts == found.sample_like(long, 40).texts != found.sample_like(long, 40, seed=1).texts
    assert abs(part.lengths().mean() - long.lengths().mean()) < 1.5
    assert part.lengths().mean() > found.lengths().mean() + 5
    assert found.sample_like(long, 400) is found
    assert len(found.sample_like(long, 399)) == 399  # more than there are of that length: the rest comes from elsewhere


@given(st.lists(st.integers(1, 30), min_size=1, max_size=40), st.lists(st.integers(1, 30), min_size=1, max_size=40), st.data())
def test_sample_like_never_takes_one_twice(have, want, data):
    task = TASKS["sst2"]
    there = Examples(task, [(f"{'w ' * n}{i}",) for i, n in enumerate(have)], np.arange(len(have)), "there")
    other = Examples(task, [("w " * n,) for n in want], np.arange(len(want)), "other")
    n = data.draw(st.integers(1, len(have)))
    assert len(set(there.sample_like(other, n).texts)) == n


def test_a_sample_takes_each_once_with_its_label_in_the_old_order(tmp_path):
    whole = sst2(tmp_path, "sentence\tlabel\n" + "".join(f"text {i}\t{i % 2}\n" for i in range(100)))
    part = whole.sample(30)
    places = [whole.texts.index(text) for text in part.texts]
    assert len(part) == 30 and places == sorted(set(places)) and places != list(range(30))
    assert part.labels.tolist() == whole.labels[places].tolist() and part.task == whole.task
    assert part.texts == whole.sample(30).texts != whole.sample(30, seed=1).texts
    assert whole.sample(100) is whole.sample(101) is whole


@pytest.mark.parametrize("n", [-1, 0, 1, 5])
def test_a_sample_has_different_labels(tmp_path, n):
    rare = sst2(tmp_path, "sentence\tlabel\n" + "".join(f"text {i}\t{int(i == 0)}\n" for i in range(1000)))
    with pytest.raises(VPError, match="two different labels: ask for more"):
        rare.sample(n)
