"""`accelerate launch -m app.cli`: two processes share the batches out, say what one would say, and one of them speaks."""

import json
import os
import subprocess
import sys

import pytest
from two_processes import ROOT

from vp_core.measuring.statistics import Statistics

pytestmark = pytest.mark.slow


def launched(processes, *command):
    """stdout and stderr of the command on so many processes of the processor."""
    start = [sys.executable, "-m", "app.cli"]
    if processes > 1:
        start = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", str(processes),
                 "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no",
                 "--num_cpu_threads_per_process", "1", "--main_process_port", "0", "-m", "app.cli"]  # fmt: skip
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*start, *command], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600, check=False
    )


def test_statistics_are_merged_and_written_once(tmp_path):
    files = [tmp_path / f"{n}.safetensors" for n in (1, 2)]
    command = ("stats", "demo", "--calibration", "64", "--json", "--out")
    one, two = (launched(n, *command, str(file)) for n, file in zip((1, 2), files, strict=True))
    assert one.returncode == two.returncode == 0, two.stderr[-2000:]
    assert two.stderr.count("written to") == 1 and json.loads(two.stdout)["tokens"] == json.loads(one.stdout)["tokens"]
    first, second = (Statistics.load(file) for file in files)
    for name, moments in first.moments.items():
        found = second.moments[name]
        assert found.count == moments.count
        assert ((found.mean - moments.mean).abs() <= 1e-10 * moments.mean.abs().max()).all()
        assert ((found.m2 - moments.m2).abs() <= 1e-10 * moments.m2.abs().max()).all()


@pytest.mark.parametrize("model", [("demo", "--sentences", "200"), ("demo-text", "--most-tokens", "4000")])
def test_scores_are_put_together(model):
    command = ("eval", *model, "--sparsity", "0.3", "--calibration", "16", "--json")
    one, two = (json.loads(launched(n, *command).stdout) for n in (1, 2))
    assert one.pop("seconds") > 0 and two.pop("seconds") > 0
    assert {k: v for k, v in two.items() if isinstance(v, str)} == {k: v for k, v in one.items() if isinstance(v, str)}
    assert {k: v for k, v in two.items() if not isinstance(v, str)} == pytest.approx(
        {k: v for k, v in one.items() if not isinstance(v, str)}, rel=1e-10
    )


def test_what_is_wrong_is_said_once():
    done = launched(2, "eval", "demo", "--sparsity", "2")
    assert done.returncode != 0 and done.stderr.count("is not a number between 0 and 1") == 1
