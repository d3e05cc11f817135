"""The lines of `benchmarks.while_training`, and the page that its numbers make."""

from dataclasses import dataclass

SHARES = (0.5, 0.75, 0.9)
ALPHA = 0.1
"""Weight of the task's own loss beside the teacher's."""
LEARNED = ("block", "hybrid", "hybrid filled", "struct")


@dataclass(frozen=True)
class About:
    """A task: its name on the page, its passes, texts of a pass (None: all) and learning rate."""

    title: str
    epochs: int
    examples: int | None
    lr: float


TASKS = {
    "sst2": About("SST-2, accuracy", 1, 20_000, 1e-4),
    "mrpc": About("MRPC, accuracy", 4, None, 1e-4),
    "stsb": About("STS-B, Spearman", 3, None, 1e-4),
}


@dataclass(frozen=True)
class Line:
    """A method at a share; `recipe` is what the model was pruned by before the training, `lr` a rate of its own."""

    method: str
    share: float
    teacher: bool
    recipe: str = ""
    lr: float | None = None

    @property
    def name(self) -> str:
        """As it stands in the JSON file."""
        return f"{self.recipe or self.method} {self.share:g}{' teacher' if self.teacher else ''}"


BEST = tuple(
    Line("none", share, teacher, "best", lr)
    for share, lr in ((0.9, 2e-4), (0.75, 1e-4), (0.5, 5e-5))
    for teacher in (True, False)
)
OTHERS = tuple(
    Line(method, share, teacher)
    for teacher in (True, False)
    for share in SHARES
    for method in ("hybrid", "struct", "block", "hybrid filled", "variance", "magnitude", "movement", "random", "deletion")
    if teacher or method in ("hybrid", "variance", "magnitude")
)
LINES = (*BEST, *OTHERS)


def page(found: dict) -> str:
    """docs/training_results.md."""
    parts = ["# What is kept when a model trains on", ""]
    return "\n".join(parts) + "\n"
