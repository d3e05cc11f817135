"""What is asked for when a study is opened, in one value, and which of its options go with a kind of task."""

from collections.abc import Sequence, Sized
from dataclasses import dataclass, fields
from pathlib import Path

from vp_core.asking.batches import check_length
from vp_core.asking.tasks import Task
from vp_core.ground.errors import VPError
from vp_core.ground.names import AUTO, DTYPES
from vp_core.loading.load import LoadedModel, load_model

OPTIONS = (
    "data", "text", "label", "labels", "separator", "max_length", "sentences", "stride", "most_tokens", "metric", "fresh_head",
)  # fmt: skip
"""Options that not every kind of task takes."""


@dataclass(frozen=True)
class Asked:
    """The arguments of `vp_core.opening.study.open_study`, the task found: `name` is the task's, or a file's path, of which
    what it asks is not known before the model is."""

    model: str
    name: str
    task: Task | None = None
    data: str | Path | None = None
    text: Sequence[str] = ()
    label: str = "label"
    labels: Sequence[str] = ()
    separator: str = ""
    max_length: int | None = None
    calibration: int | None = None
    sentences: int | None = None
    stride: int | None = None
    most_tokens: int | None = None
    metric: str = ""
    device: str = AUTO
    dtype: str = DTYPES[0]
    fresh_head: bool = False

    @property
    def kind(self) -> str:
        """What is asked, one of `vp_core.ground.names.ASKED`."""
        return "classes" if self.task is None else self.task.kind

    def check(self, *takes: str) -> None:
        """VPError for options that were given and that the task does not take."""
        usual = {one.name: one.default for one in fields(self)}
        said = [one for one in OPTIONS if one not in takes and getattr(self, one) != usual[one]]
        if said:
            options = ", ".join(f"--{one.replace('_', '-')}" for one in said)
            raise VPError(f"The task {self.name} does not take {options}: leave {'it' if len(said) == 1 else 'them'} out.")

    def load(self, outputs: Sequence[str] = ()) -> LoadedModel:
        """The model, loaded for what is asked, the `outputs` of a fresh head called so.

        VPError for one that is made for something else, and for texts cut to a length that it cannot have.
        """
        loaded = load_model(
            self.model, self.kind, device=self.device, dtype=self.dtype, fresh_head=self.fresh_head, outputs=outputs
        )
        if self.max_length is not None:
            check_length(self.max_length, loaded.max_length, loaded.name)
        return loaded


def of_sample(few: Sized, whole: Sized, called: str) -> str:
    """The note on a study that scores a few of its examples, by what these are called."""
    return f"Scored on a random sample of {len(few):,} of {len(whole):,} {called}."
