"""A disk that is full, as the system reports it: one sentence, and what was written before stays whole."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from vp_core.ground.errors import VPError
from vp_core.ground.store import atomic, load_tensors, write_failure
from vp_core.squeezing.folder import load_pruned
from vp_core.training.run_folder import LOG, WEIGHTS, read_log

BEGIN = """
import resource, signal, sys
from pathlib import Path
import torch
from vp_core.ground.errors import VPError

def limit(size):
    # a write beyond this many bytes of any file fails as on a full disk, here with EFBIG
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))

def attempt(write):
    try:
        write()
    except VPError as error:
        print(error)
    else:
        sys.exit("nothing was said")
"""

WRITES = {
    "tensors": (
        "from vp_core.ground.store import save_tensors\n"
        "save = lambda n: save_tensors(here / 'a', {'x': torch.full((n,), 1.0)}, 'tensors', {})\n"
        "save(10); limit(20_000); attempt(lambda: save(100_000))",
        "a",
    ),
    "text": (
        "from vp_core.ground.store import atomic\n"
        "def save(n):\n"
        "    with atomic(here / 'a') as temporary: temporary.write_text('x' * n)\n"
        "save(10); limit(20_000); attempt(lambda: save(100_000))",
        "a",
    ),
    "chart": (
        "import plotly.graph_objects as go\n"
        "from app.cli.options import write_chart\n"
        "(here / 'a').write_text('a chart of before'); limit(20_000)\n"
        "attempt(lambda: write_chart(go.Figure(), str(here / 'a')))",
        "a",
    ),
}


def bytes_of(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def run(python, code, *arguments):
    process = python(BEGIN + code, *arguments)
    said, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    return said.splitlines()


@pytest.mark.parametrize("what", WRITES)
def test_a_file_that_does_not_fit(python, tmp_path, what):
    code, name = WRITES[what]
    (sentence,) = run(python, f"here = Path(sys.argv[1])\n{code}", tmp_path)
    assert sentence == f"{str(tmp_path / name)!r} could not be written (File too large); what was there is as before."
    assert [path.name for path in tmp_path.iterdir()] == [name]  # nothing half-written is left
    assert 0 < (tmp_path / name).stat().st_size < 20_000
    if what == "tensors":
        assert load_tensors(tmp_path / name, "tensors")[0]["x"].tolist() == [1.0] * 10


@pytest.mark.parametrize("size", [2_000, 40_000])  # the configuration, then the weights or the tokenizer do not fit
@pytest.mark.parametrize("form", ["pruned", "transformers"])
def test_a_model_that_does_not_fit(python, tmp_path, folders, form, size):
    code = f"""
from vp_core.loading.load import load_model
from vp_core.squeezing.blocks_off import masked_without, without
from vp_core.squeezing.dense_form import export_transformers
from vp_core.squeezing.folder import save_pruned
here, loaded = Path(sys.argv[1]), load_model(sys.argv[2])
limit({size})
small = without(loaded.model, []) if "{form}" == "pruned" else masked_without(loaded.model, [])
attempt(lambda: {"save_pruned" if form == "pruned" else "export_transformers"}(small, here / "m", loaded.tokenizer))
"""
    (sentence,) = run(python, code, tmp_path, folders["bert"])
    assert sentence == f"{str(tmp_path / 'm')!r} could not be written (File too large); what was there is as before."
    assert list(tmp_path.iterdir()) == []


def test_a_run_keeps_what_it_had(python, tmp_path, folders, data):
    """Two iterations fit; in the third the checkpoint does not; with room again the run goes on to where it would have been."""
    code = """
import torch
torch.set_num_threads(1)  # sums in one order, whatever else the machine does
from vp_core.training.schedule import Schedule
from vp_core.identity.settings import SnipSettings
from vp_core.identity.snip import Material, run_snip
from vp_core.opening.study import open_study
from vp_core.running.lessons import lessons_of
study = open_study(sys.argv[2], "sst2", sys.argv[3])
lessons = lessons_of(study, "sst2", sys.argv[3])
material = Material(study.model, lessons, study.calibration, study.question, "m", study.loaded.tokenizer)
schedule = Schedule(examples=16, batch=8, precision="float32")
def go(folder, iterations):
    for row in run_snip(material, SnipSettings("joint", iterations, at_least=2, schedule=schedule), folder):
        print(row["iteration"], row["value"])
here = Path(sys.argv[1])
"""
    begun = run(python, code + "go(here / 'run', 1)", tmp_path, folders["bert"], data)
    before = bytes_of(tmp_path)
    failed = run(python, code + "limit(40_000); attempt(lambda: go(here / 'run', 3))", tmp_path, folders["bert"], data)
    assert failed[:-1] == begun and failed[-1] == (
        f"{str(tmp_path / 'run' / WEIGHTS)!r} could not be written (File too large); what was there is as before."
    )
    assert bytes_of(tmp_path) == before
    assert len(read_log(tmp_path / "run")["rows"]) == 2 and load_pruned(tmp_path / "run" / "model").squeezed
    resumed = run(python, code + "go(here / 'run', 2)", tmp_path, folders["bert"], data)
    unbroken = run(python, code + "go(here / 'other', 2)", tmp_path, folders["bert"], data)
    assert resumed == unbroken and len(resumed) == 3
    mine, other = (load_file(tmp_path / name / WEIGHTS) for name in ("run", "other"))  # the order of a header is chance
    assert mine.keys() == other.keys() and all(torch.equal(mine[key], other[key]) for key in mine)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 KiB of its own, where one may be mounted."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = sys.platform == "linux" and os.geteuid() == 0
    if mounted:
        command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
        mounted = subprocess.run(command, check=False, capture_output=True).returncode == 0
    if not mounted:
        pytest.skip("mounting a file system needs rights that this user has not")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_disk_that_is_full(python, small_disk):
    code = """
from vp_core.ground.store import save_tensors
here = Path(sys.argv[1])
save = lambda n: save_tensors(here / "a", {"x": torch.full((n,), 1.0)}, "tensors", {})
save(100)
attempt(lambda: save(100_000))
"""
    (sentence,) = run(python, code, small_disk)
    assert "could not be written (No space left on device); what was there is as before." in sentence
    assert [path.name for path in small_disk.iterdir()] == ["a"]
    assert load_tensors(small_disk / "a", "tensors")[0]["x"].tolist() == [1.0] * 100


def test_a_full_device_is_told_by_its_own_words():
    with pytest.raises(OSError) as raised, Path("/dev/full").open("w") as file:  # closing writes what is left over
        file.write("x")
    assert write_failure(raised.value) == "No space left on device"


def test_other_mistakes_stay_what_they_are(tmp_path):
    with pytest.raises(ZeroDivisionError), atomic(tmp_path / LOG):
        raise ZeroDivisionError
    with pytest.raises(VPError, match=r"^mine$"), atomic(tmp_path / LOG):
        raise VPError("mine")
    assert list(tmp_path.iterdir()) == []
