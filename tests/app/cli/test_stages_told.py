"""What the command line says of stages: one line that is written over on a terminal, few lines in a log."""

import pytest

from app.cli import progress
from app.cli.progress import Stages
from vp_core.ground.work import say, work


def told(capsys):
    with work(hear=Stages().hear):
        say("measuring covariances (2 MB)")
        for batch in (1, 2, 3):
            say("measuring covariances: batch", batch, 3)
        say("scoring")
    return capsys.readouterr()


def test_a_log_has_a_line_a_stage(capsys):
    output = told(capsys)
    assert output.err.splitlines() == ["measuring covariances (2 MB)", "scoring"] and output.out == ""


def test_a_long_stage_is_told_again(capsys, monkeypatch):
    monkeypatch.setattr(progress, "OFTEN", 0.0)
    assert [line for line in told(capsys).err.splitlines() if "batch" in line] == [
        f"measuring covariances: batch {batch} of 3" for batch in (1, 2, 3)
    ]


def test_a_terminal_has_a_bar_and_the_seconds_at_the_end(capsys, monkeypatch):
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: True, raising=False)
    first, over, scoring, end = told(capsys).err.split("\n")
    assert first.endswith("measuring covariances (2 MB)") and scoring.endswith("scoring") and end == ""
    assert "\rmeasuring covariances: batch 1 of 3 [######              ]\x1b[K" in over
    assert "batch 3 of 3 [####################]" in over
    assert over.rpartition("\x1b[K")[2].startswith("measuring covariances: 0.")


@pytest.mark.parametrize("terminal", [True, False])
def test_one_process_of_several_speaks(capsys, monkeypatch, terminal):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: terminal, raising=False)
    assert told(capsys).err == ""
