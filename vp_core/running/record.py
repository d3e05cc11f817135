"""Scalars of a training for TensorBoard, on request."""

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vp_core.ground.errors import VPError
from vp_core.training.callbacks import Callback, Pruner, Run, State


def require_tensorboard() -> None:
    """VPError if the extra `tensorboard` is not installed."""
    if importlib.util.find_spec("tensorboard") is None:
        raise VPError("Scalars need tensorboard: install the extra, pip install -r requirements-tensorboard.txt.")


class Record(Callback):
    """Writes `loss` and `learning rate` every `every` steps, and the `share gone` of a `pruner`, to a folder of event files.

    `row` adds what a run's rows (`vp_core.running.run.run_training`) say besides: its share gone, its scores. A training that
    goes on has its record go on; what came after the state it goes on from is dropped. It only looks on: with it or without
    it a training is the same, and a stopped one goes on either way. The main process writes. Raises VPError if tensorboard is
    not installed.
    """

    passive = True

    def __init__(self, folder: str | Path, pruner: Pruner | None = None, every: int = 10) -> None:
        require_tensorboard()
        self.folder, self.pruner, self.every = Path(folder), pruner, every
        self._writer: Any = None
        self._early: list[Mapping[str, Any]] = []
        self._step, self._cuts = 0, 0

    def begin(self, run: Run) -> None:
        """Open the event file, where the training begins or goes on."""
        self._step, self._cuts = run.step, len(self.pruner.cuts()) if self.pruner else 0
        if run.accelerator.is_main_process:
            self._open(run.step)
        for row in [] if run.step else self._early:
            self.row(row)
        self._early = []

    def _open(self, step: int) -> None:
        from torch.utils.tensorboard.writer import SummaryWriter

        try:
            self._writer = SummaryWriter(str(self.folder), purge_step=step + 1 if step else None)
        except OSError as error:
            raise VPError(
                f"The folder {str(self.folder)!r} cannot be written to ({error.strerror}): choose another."
            ) from error

    def after_step(self, run: Run) -> None:
        """Loss and rate now and then, a cut at once."""
        self._step = run.step
        if run.step % self.every == 0 or run.step in (1, run.steps):
            self._write({"loss": run.loss, "learning rate": run.optimiser.param_groups[0]["lr"]}, run.step)
        cuts = self.pruner.cuts() if self.pruner else []
        if len(cuts) > self._cuts:
            self._cuts = len(cuts)
            self._write({"share gone": cuts[-1]["sparsity"]}, cuts[-1]["step"])

    def row(self, row: Mapping[str, Any]) -> None:
        """The share gone and the score of a run's row, if it has them; those of steps before it went on are there already."""
        if self._writer is None:
            self._early.append(row)
            return
        found = {"share gone": row["sparsity"]} if "sparsity" in row and not self.pruner else {}
        if "value" in row:
            found[f"score/{row['metric']}"] = row["value"]
        if found and row["step"] >= self._step:
            self._write(found, row["step"])

    def _write(self, values: Mapping[str, float], step: int) -> None:
        if self._writer is None:
            return
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def end(self, run: Run) -> None:
        """Everything is on disk."""
        if self._writer is not None:
            self._writer.flush()

    def close(self) -> None:
        """Close the event file; `row` writes nothing any more."""
        if self._writer is not None:
            self._writer.close()
        self._writer = None

    def state(self) -> State:
        """Nothing: it is no part of the training."""
        return {}, {}
