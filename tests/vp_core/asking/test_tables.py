"""Tables of every format: what is read is what was written, and what could be read in two ways is refused or told."""

import csv
import gzip
import json

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vp_core.asking.examples import open_examples, read_examples, read_file
from vp_core.asking.tasks import TASKS
from vp_core.ground.errors import VPError

TEXTS = ('say "no"', '"quoted whole"', "a\ttab", "two\nlines", "a, b; c", 'ends in "', '"begins', "", "fine", "é 负面")
"""What a table may hold, all of it in one."""
TABLE = pd.DataFrame({"text": TEXTS, "y": [i % 2 for i in range(len(TEXTS))]})


def put(folder, name, text):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
    return path


def texts(path, **options):
    return [text for (text,) in read_file(path, ("text",), "y", **options).texts]


def refused(path, match, text=("text",), label="y", **options):
    with pytest.raises(VPError, match=match) as caught:
        read_file(path, text, label, **options)
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)


QUOTING = {"minimal": csv.QUOTE_MINIMAL, "all": csv.QUOTE_ALL, "strings": csv.QUOTE_NONNUMERIC}


@pytest.mark.parametrize("quoting", QUOTING)
@pytest.mark.parametrize(
    ("name", "separator"), [("a.csv", ","), ("a.tsv", "\t"), ("a.csv", ";"), ("a.tsv.gz", "\t"), ("a.csv", "tab")]
)
def test_what_pandas_writes_is_read(tmp_path, quoting, name, separator):
    TABLE.to_csv(tmp_path / name, sep="\t" if separator == "tab" else separator, index=False, quoting=QUOTING[quoting])
    assert texts(tmp_path / name, separator="" if separator in ",\t" else separator) == list(TEXTS)


def test_json_and_parquet_of_pandas_are_read(tmp_path):
    TABLE.to_json(tmp_path / "a.json", orient="records")
    TABLE.to_json(tmp_path / "b.json", orient="records", indent=2)
    TABLE.to_json(tmp_path / "c.json", orient="records", lines=True)
    TABLE.to_json(tmp_path / "d.json", orient="table")
    TABLE.to_json(tmp_path / "e.jsonl.gz", orient="records", lines=True)
    TABLE.to_parquet(tmp_path / "f.parquet")
    for path in sorted(tmp_path.iterdir()):
        found = read_file(path, ("text",), "y")
        assert [text for (text,) in found.texts] == list(TEXTS), path.name
        assert found.labels.tolist() == TABLE.y.tolist() and found.task.name == path.name[0]
        assert found.notes == (f"Read 10 rows of {str(path)!r}.",)
    TABLE.to_json(tmp_path / "g.json")
    refused(tmp_path / "g.json", "no rows: write an array")


def test_quotes_of_a_tsv_that_are_its_own_are_taken_off_and_told(tmp_path):
    whole = put(tmp_path, "a.tsv", 'text\ty\n"it is good"\t1\n"it is bad"\t0\n')
    found = read_file(whole, ("text",), "y")
    assert found.texts == [("it is good",), ("it is bad",)] and "taken off" in found.notes[1]
    doubled = put(tmp_path, "b.tsv", 'text\ty\n"say ""no"""\t1\nbad\t0\n')
    assert texts(doubled) == ['say "no"', "bad"]
    broken = put(tmp_path, "c.tsv", 'text\ty\n"two\nlines"\t1\nbad\t0\n')
    assert texts(broken) == ["two\nlines", "bad"]


def test_quotes_of_a_tsv_that_are_text_stay(tmp_path):
    """As in GLUE: a quote that opens need not close, and some cells stand in quotes by chance, which is told."""
    bare = 'text\ty\n" he said so .\t1\n"quoted"\t0\n5" long\t1\n'
    found = read_file(put(tmp_path, "a.tsv", bare), ("text",), "y")
    assert found.texts == [('" he said so .',), ('"quoted"',), ('5" long',)] and len(found.notes) == 1
    chance = 'text\ty\n"quoted"\t1\nplain\t0\nplain too\t1\n'
    found = read_file(put(tmp_path, "b.tsv", chance), ("text",), "y")
    assert found.texts[0] == ('"quoted"',) and "(1) were read as part of the text" in found.notes[1]
    refused(put(tmp_path, "c.tsv", 'text\ty\n"one"\t1\n"two\t0\n"three"\t1\n'), "stand in quotes, but not all.*line 3")


UNCLOSED = {
    "to the end": ('text,y\n"open,1\nfine,0\nbad,1\n', "line 2.*never closed"),
    "to a quote inside": ('text,y\nfine,1\n"open,1\nbad,0\na "word" here,1\n', "line 3"),
    "over whole rows": ('text,y\nfine,1\nbad,0\n"open,1\nfine,0\nof 5",1\ngood,0\n', "line 4.*look like rows"),
    "over one break": ('text,y\nfine,1\nbad,0\n"open,1\nof 5",1\n', "line 4.*look like rows"),
    "label first": ('y,text\n1,fine\n0,bad\n1,"open\n0,of 5"\n', "line 4.*look like rows"),
    "values": ('text,y\nfine,1.5\nbad,0\n"open,2.25\nof 5",1\n', "line 4.*look like rows"),
}


@pytest.mark.parametrize("case", UNCLOSED)
def test_a_quote_that_is_not_closed_swallows_no_rows(tmp_path, case):
    text, message = UNCLOSED[case]
    refused(put(tmp_path, "a.csv", text), message)


def test_texts_of_several_lines_are_no_rows(tmp_path):
    path = put(tmp_path, "a.csv", 'text,y\n"He said no,\ntwice, and left,\nyes",bad\nfine,good\n"a\nb",bad\n')
    assert texts(path) == ["He said no,\ntwice, and left,\nyes", "fine", "a\nb"]
    path = put(tmp_path, "b.csv", 'y,text\nbad,"one\ntwo, three"\ngood,fine\nbad,dull\n')
    assert texts(path) == ["one\ntwo, three", "fine", "dull"]


UNEVEN = {
    "more cells": ("text,y\nfine,1\na, b,0\n", r"Row 2.*line 3.*3 cells and the header 2"),
    "fewer cells": ("text,y,z\nfine,1,\nbad,0\n", r"Row 2.*2 cells and the header 3"),
    "twice": ("text,text,y\na,b,1\nc,d,0\n", r"'text' occurs 2 times"),
    "label twice": ("y,text,y\n1,b,1\n0,d,0\n", r"'y' occurs 2 times"),
    "semicolons": ("text;y\nfine;1\nbad;0\n", r"single column, 'text;y'.*--separator ';'"),
    "tabs": ("text\ty\nfine\t1\nbad\t0\n", r"single column.*--separator tab"),
    "no column": ("texts,y\nfine,1\nbad,0\n", r"no column 'text'.*texts, y"),
}


@pytest.mark.parametrize("case", UNEVEN)
def test_tables_that_are_not_even(tmp_path, case):
    text, message = UNEVEN[case]
    refused(put(tmp_path, "a.csv", text), message)
    if case not in ("semicolons", "tabs"):
        refused(put(tmp_path, "a.tsv", text.replace(", ", "\t").replace(",", "\t")), message.replace("line 3", "line"))


def test_a_column_that_nobody_asked_for_may_occur_twice(tmp_path):
    assert texts(put(tmp_path, "a.csv", "z,z,text,y\n1,2,a,1\n3,4,b,0\n")) == ["a", "b"]
    assert texts(put(tmp_path, "a.jsonl", '{"z": 1, "z": 2, "text": "a", "y": 1}\n{"text": "b", "y": 0}\n')) == ["a", "b"]


def test_separators(tmp_path):
    path = put(tmp_path, "a.csv", "text;y\na, b;1\nc;0\n")
    assert texts(path, separator=";") == texts(path, separator="semicolon") == ["a, b", "c"]
    for separator in ("ab", "", '"', "x", "\n"):
        refused(path, "separator", separator=separator)
    refused(put(tmp_path, "a.jsonl", '{"text": "a", "y": 1}\n'), "no separator", separator=";")


def test_a_path_reaches_into_objects_and_a_column_of_that_name_comes_first(tmp_path):
    rows = [{"text": {"en": "a", "de": "ä"}, "y": 1}, {"text": {"en": "b"}, "y": 0}]
    lines = put(tmp_path, "a.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    pd.DataFrame(rows).to_parquet(tmp_path / "a.parquet")
    for path in (lines, tmp_path / "a.parquet"):
        assert read_file(path, ("text.en",), "y").texts == [("a",), ("b",)]
        refused(path, r"row 1.*is an object: name what is in it \(text\.en")
        refused(path, "no column 'text.fr'", ("text.fr",))
    refused(lines, "no column 'text.de' in row 2", ("text.de",))
    literal = put(tmp_path, "b.jsonl", "".join(json.dumps(row | {"text.en": "own"}) + "\n" for row in rows))
    assert read_file(literal, ("text.en",), "y").texts == [("own",), ("own",)]


ODD = {
    "list": ('{"text": ["a", "b"], "y": 1}\n{"text": "c", "y": 0}\n', "row 1.*is a list"),
    "null": ('{"text": "a", "y": 1}\n{"text": null, "y": 0}\n', "'text' in row 2.*no value"),
    "nan": ('{"text": "a", "y": 1}\n{"text": NaN, "y": 0}\n', "'text' in row 2.*no value"),
    "key twice": ('{"text": "a", "y": 1}\n{"text": "b", "text": "c", "y": 0}\n', "'text' occurs twice"),
    "inner key twice": ('{"text": {"en": "b", "en": "c"}, "y": 0}\n', "'en' occurs twice"),
    "half a character": ('{"text": "\\ud800", "y": 1}\n{"text": "b", "y": 0}\n', "row 1.*half a character"),
    "a list of rows": ('["a", 1]\n', "Line 1.*no object"),
    "nested": ("[" * 100_000 + "]" * 100_000 + "\n", "nested too deeply"),
    "a long number": ('{"text": ' + "1" * 5000 + ', "y": 1}\n', "cannot be read"),
}


@pytest.mark.parametrize("case", ODD)
@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_json_that_is_no_text(tmp_path, case, name):
    text, message = ODD[case]
    if (case, name) != ("a list of rows", "a.json"):
        refused(put(tmp_path, name, text), message, ("text.en",) if "inner" in case else ("text",))


def test_numbers_and_truth_values_are_text_as_json_spells_them(tmp_path):
    values = [1, 2.5, True, False, -3]
    rows = "".join(json.dumps({"text": value, "y": i % 2}) + "\n" for i, value in enumerate(values))
    assert texts(put(tmp_path, "a.jsonl", rows)) == ["1", "2.5", "true", "false", "-3"]


def test_a_cell_may_be_longer_than_csv_takes(tmp_path):
    long = "word " * 40_000
    before = csv.field_size_limit()
    assert texts(put(tmp_path, "a.csv", f'text,y\n"{long}",1\nb,0\n')) == [long, "b"]
    assert texts(put(tmp_path, "a.tsv", f'text\ty\n"{long}\tx"\t1\nb\t0\n')) == [long + "\tx", "b"]
    assert csv.field_size_limit() == before


def test_parquet_with_a_column_twice_or_without_it(tmp_path):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    columns = [pa.array(["a", "b"]), pa.array(["c", "d"]), pa.array([0, 1])]
    parquet.write_table(pa.Table.from_arrays(columns, names=["text", "text", "y"]), tmp_path / "a.parquet")
    refused(tmp_path / "a.parquet", "'text' occurs twice")
    refused(tmp_path / "a.parquet", "no column 'words': its columns are text, text, y", ("words",))
    parquet.write_table(pa.Table.from_arrays(columns[1:], names=["text.en", "y"]), tmp_path / "b.parquet")
    assert read_file(tmp_path / "b.parquet", ("text.en",), "y").texts == [("c",), ("d",)]
    parquet.write_table(pa.table({"text": ["a", None], "y": [0, 1]}), tmp_path / "c.parquet")
    refused(tmp_path / "c.parquet", "'text' in row 2.*no value")


GLUE = {
    "SST-2/dev.tsv": ("sst2", "sentence\tlabel\na\t1\nb\t0\n", [1, 0]),
    "CoLA/dev.tsv": ("cola", "gj04\t1\t\ta\ngj04\t0\t*\tb\n", [1, 0]),
    "STS-B/dev.tsv": ("stsb", "index\tsentence1\tsentence2\tscore\n0\ta\tb\t2.5\n1\tc\td\t5.000\n", [2.5, 5.0]),
    "MRPC/dev.tsv": ("mrpc", "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\n1\t3\t4\ta\tb\n0\t5\t6\tc\td\n", [1, 0]),
    "QNLI/dev.tsv": ("qnli", "index\tquestion\tsentence\tlabel\n0\ta\tb\tentailment\n1\tc\td\tnot_entailment\n", [0, 1]),
    "RTE/dev.tsv": ("rte", "index\tsentence1\tsentence2\tlabel\n0\ta\tb\tnot_entailment\n1\tc\td\tentailment\n", [1, 0]),
    "WNLI/dev.tsv": ("wnli", "index\tsentence1\tsentence2\tlabel\n0\ta\tb\t1\n1\tc\td\t0\n", [1, 0]),
    "MNLI/dev_matched.tsv": ("mnli", "i\tsentence1\tsentence2\tgold_label\n0\ta\tb\tneutral\n1\tc\td\tentailment\n", [1, 0]),
    "MNLI/dev_mismatched.tsv": ("mnli-mm", "sentence1\tsentence2\tgold_label\na\tb\tcontradiction\nc\td\tneutral\n", [2, 1]),
}  # fmt: skip


@pytest.mark.parametrize("place", GLUE)
def test_glues_own_folders(tmp_path, place):
    task, text, labels = GLUE[place]
    path = put(tmp_path, place, text)
    for folder in (tmp_path, path.parent):
        found = open_examples(place.partition("/")[0] if task != "mnli-mm" else "mnli_mismatched", "dev", folder)
        assert found.task is TASKS[task] and found.labels.tolist() == labels
        assert len(found.notes) == (task[:4] == "mnli")  # one of its three classes is missing here


def test_the_folder_of_another_task_is_refused(tmp_path):
    put(tmp_path, "RTE/dev.tsv", GLUE["RTE/dev.tsv"][1])
    with pytest.raises(VPError, match="folder of rte, not of wnli"):
        open_examples("wnli", "dev", tmp_path / "RTE")


def test_rows_of_qqp_that_lack_columns_are_left_out_and_told(tmp_path):
    head = "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n"
    put(tmp_path, "QQP/train.tsv", head + '0\t1\t2\t"a\tb\t1\n7\t"tail\t0\n1\t3\t4\tc"\td\t0\n2\t5\t6\te\tf\n')
    found = read_examples(TASKS["qqp"], "train", tmp_path)
    assert found.texts == [('"a', "b"), ('c"', "d")] and found.labels.tolist() == [1, 0]
    assert len(found.notes) == 1 and found.notes[0].startswith("2 of 4 rows")


def test_rows_of_a_task_that_are_too_long_are_told(tmp_path):
    put(tmp_path, "sst2/dev.tsv", "sentence\tlabel\na\t1\nb\t0\tmore\n")
    found = read_examples(TASKS["sst2"], "dev", tmp_path)
    assert found.labels.tolist() == [1, 0] and "(1) have more cells" in found.notes[0]


def test_a_packed_file_is_read_as_it_is_without(tmp_path):
    (tmp_path / "a.tsv.gz").write_bytes(gzip.compress(b"\xef\xbb\xbftext\ty\r\na\t1\r\nb\t0\r\n"))
    assert texts(tmp_path / "a.tsv.gz") == ["a", "b"]


CELLS = st.lists(st.text(alphabet='"" \t\n\r,;ab1é', max_size=12), min_size=2, max_size=8)
"""Texts of what makes tables hard to read."""


def read_back(path, cells):
    """Whether a file is read as it was meant: if not, it must have been refused, or told with a second note."""
    try:
        found = read_file(path, ("text",), "y")
    except VPError:
        return False
    exact = [text for (text,) in found.texts] == cells
    assert exact or len(found.notes) > 1, (path.read_text(encoding="utf-8"), found.texts)
    return exact


@given(CELLS, st.sampled_from(list(QUOTING.values())), st.sampled_from([("a.csv", ","), ("a.tsv", "\t")]), st.booleans())
def test_any_table_is_read_back_refused_or_told(tmp_path_factory, cells, quoting, kind, ends):
    path = tmp_path_factory.getbasetemp() / f"any-{kind[0]}"
    cells = cells if ends else [cell.replace("\r", "\n") for cell in cells]  # csv quotes no \r where lines end in \n alone
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=kind[1], quoting=quoting, lineterminator="\r\n" if ends else "\n")
        writer.writerows([("text", "y"), *((cell, i % 2) for i, cell in enumerate(cells))])
    exact = read_back(path, cells)
    assert exact or quoting != csv.QUOTE_ALL or any("\n" in cell or "\r" in cell for cell in cells)


@given(st.lists(st.text(alphabet='"" ,ab1é', max_size=12), min_size=2, max_size=8))
def test_any_tsv_without_quoting_is_read_back_refused_or_told(tmp_path_factory, cells):
    path = tmp_path_factory.getbasetemp() / "plain.tsv"
    path.write_text("text\ty\n" + "".join(f"{cell}\t{i % 2}\n" for i, cell in enumerate(cells)), encoding="utf-8")
    read_back(path, cells)


@given(st.binary(max_size=60) | st.text(alphabet='{}[]"\\:,textyu0d8 \n\t', max_size=60).map(str.encode))
def test_any_bytes_are_read_or_refused(tmp_path_factory, content):
    for name in ("a.csv", "a.tsv", "a.json", "a.jsonl", "a.csv.gz", "a.parquet"):
        path = tmp_path_factory.getbasetemp() / f"bytes-{name}"
        path.write_bytes(content)
        with pytest.raises(VPError) as caught:
            read_file(path, ("text",), "y")
        assert str(caught.value).isprintable()
