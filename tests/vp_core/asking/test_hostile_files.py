"""Files that are made to hang, to fill the memory, or to be read as something else: one sentence, at once."""

import gzip
import os
import threading
import time
import tracemalloc

import pytest

from vp_core.asking.examples import read_file
from vp_core.asking.reading import files, records
from vp_core.ground.errors import VPError


@pytest.fixture(autouse=True)
def quick():
    """In bounded time, whatever the machine is at."""
    start = time.process_time()
    yield
    assert time.process_time() - start < 10


def refused(path, match, text="text"):
    with pytest.raises(VPError, match=match) as caught:
        read_file(path, (text,), "y")
    assert len(str(caught.value)) < 2500 and "\n" not in str(caught.value) and "\0" not in str(caught.value)


def put(folder, name, content):
    (folder / name).write_bytes(content)
    return folder / name


CONTENT = {
    "NUL in a TSV": ("a.tsv", b"text\ty\na\0b\t1\nc\t0\n", "Line 2.*NUL"),
    "NUL in a CSV": ("a.csv", b"text,y\na\0b,1\nc,0\n", "Line 2.*NUL"),
    "NUL in JSONL": ("a.jsonl", b'{"text": "a\0b", "y": 1}\n', "Line 1.*NUL"),
    "latin-1": ("a.csv", "text,y\ncafé,1\nx,0\n".encode("latin-1"), "not UTF-8"),
    "latin-1 far in": ("a.csv", b"text,y\n" + b"x,0\n" * 50_000 + b"caf\xe9,1\n", "not UTF-8"),
    "UTF-16": ("a.csv", "text,y\na,1\nb,0\n".encode("utf-16"), "UTF-16"),
    "UTF-32": ("a.tsv", "text\ty\na\t1\n".encode("utf-32"), "UTF-32"),
    "gzip by another name": ("a.csv", gzip.compress(b"text,y\na,1\nb,0\n"), "packed by gzip"),
    "zip by another name": ("a.csv", b"PK\x03\x04" + bytes(40), "packed by zip"),
    "no gzip": ("a.csv.gz", b"text,y\na,1\nb,0\n", "cannot be read"),
    "half a gzip": ("a.csv.gz", gzip.compress(b"text,y\n" + os.urandom(999).hex().encode())[:400], "cannot be read"),
    "no parquet": ("a.parquet", b"PAR1 text,y\na,1\n", "cannot be read"),
    "a parquet that lies": ("a.parquet", b"PAR1" + b"\xff" * 99 + b"\xff\xff\xff\x7fPAR1", "cannot be read"),
    "columns": ("a.tsv", b"\t".join(b"%d" % i for i in range(200_000)) + b"\n1\t2\n", "columns"),
    "columns of a CSV": ("a.csv", b",".join(b"%d" % i for i in range(200_000)) + b"\n1,2\n", "columns"),
    "columns of JSON": ("a.jsonl", b"{" + b",".join(b'"%d": 1' % i for i in range(50_000)) + b"}\n", "19,970|49,970 more"),
    "nested JSON": ("a.json", b"[" * 1_000_000, "nested too deeply"),
    "nested objects": ("a.jsonl", b'{"text":' * 100_000 + b"\n", "nested too deeply"),
}


@pytest.mark.parametrize("case", CONTENT)
def test_content(tmp_path, case):
    name, content, message = CONTENT[case]
    refused(put(tmp_path, name, content), message)


def test_what_is_no_regular_file(tmp_path):
    """Nothing waits for a writer, and nothing reads a device that never ends."""
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "zero.csv").symlink_to("/dev/zero")
    (tmp_path / "loop.csv").symlink_to(tmp_path / "loop.csv")
    (tmp_path / "folder.parquet").mkdir()
    for name, message in (("pipe", "pipe"), ("zero", "device"), ("loop", "cannot be read")):
        refused(tmp_path / f"{name}.csv", message)
    refused(tmp_path / "folder.parquet", "a folder")
    refused(tmp_path / "a.csv\0.csv", "cannot be read")


def test_a_file_that_is_too_large_is_not_opened(tmp_path):
    with (tmp_path / "a.csv").open("wb") as file:
        file.truncate(files.MOST_BYTES + 1)  # a hole: it takes no room
    for name in ("a.csv", "a.json", "a.jsonl", "a.parquet", "a.csv.gz"):
        (tmp_path / "a.csv").rename(tmp_path / name) if name != "a.csv" else None
        refused(tmp_path / name, "take a part")
        (tmp_path / name).rename(tmp_path / "a.csv") if name != "a.csv" else None


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.json"])
def test_an_endless_line_is_not_read_to_its_end(tmp_path, monkeypatch, name):
    monkeypatch.setattr(files, "MOST_CHARACTERS", 2**16)
    monkeypatch.setattr(records, "MOST_JSON", 2**16)
    with (tmp_path / name).open("wb") as file:
        file.write(b"x" * 2**17)
        file.truncate(2**29)
    tracemalloc.start()
    refused(tmp_path / name, "Line 1 .*65,536 characters")
    assert tracemalloc.get_traced_memory()[1] < 2**22
    tracemalloc.stop()


def test_too_many_lines(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MOST_LINES", 100)
    refused(put(tmp_path, "a.tsv", b"text\ty\n" + b"\n" * 101), "more than 100 lines")


def test_a_gzip_that_unpacks_to_a_thousand_times_its_size(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "CROWDED", 2**20)
    bomb = gzip.compress(b"text,y\n" + b"some text,1\n" * 2**18)  # 3 MB from a few kB
    assert len(bomb) < 2**14
    refused(put(tmp_path, "a.csv.gz", bomb), "unpacks to more than")
    monkeypatch.setattr(files, "MOST_BYTES", 2**16)
    refused(put(tmp_path, "b.csv.gz", gzip.compress(b"text,y\n" + b"a,1\n" * 2**15)), "unpacks to more than")


def test_a_json_value_that_is_too_large(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "MOST_JSON", 1000)
    refused(put(tmp_path, "a.json", b"[\n" + b'{"text": "a", "y": 1},\n' * 100 + b"]"), "one JSON value")


def test_a_parquet_that_unpacks_to_more_than_may_be(tmp_path, monkeypatch):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    table = pa.table({"text": ["x" * 2**12] * 5000, "y": [0, 1] * 2500, "other": ["z" * 100 + str(i) for i in range(5000)]})
    parquet.write_table(table, tmp_path / "a.parquet")  # one value in a dictionary: 20 MB from a few kB
    assert (tmp_path / "a.parquet").stat().st_size < 2**18
    monkeypatch.setattr(files, "MOST_BYTES", 2**20)
    refused(tmp_path / "a.parquet", "unpacks to more than")
    parquet.write_table(table, tmp_path / "b.parquet", use_dictionary=False, compression="zstd")
    refused(tmp_path / "b.parquet", r"unpacks to \d")
    with pytest.raises(VPError, match="none of a, b"):
        monkeypatch.setattr(files, "MOST_BYTES", 2**24)
        read_file(tmp_path / "b.parquet", ("other",), "other", ("a", "b"))  # the large column is not asked for, nor read


def test_the_limit_of_csv_holds_for_one_at_a_time(tmp_path):
    """Threads that read at once: none sees the limit that another has put back."""
    path = put(tmp_path, "a.csv", b"text,y\n" + b"".join(b"%s,%d\n" % (b"w" * 200_000, i % 2) for i in range(4)))
    found = []
    threads = [threading.Thread(target=lambda: found.append(len(read_file(path, ("text",), "y")))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [4] * 4
