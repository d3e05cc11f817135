# ruff: noqa: E501 (a sentence of the page is a line)
"""The lines of `benchmarks.while_training`, and the page that its numbers make."""

from dataclasses import dataclass

SHARES = (0.5, 0.75, 0.9)
ALPHA = 0.1
"""Weight of the task's own loss beside the teacher's."""


@dataclass(frozen=True)
class About:
    """A task: its name on the page, its passes, texts of a pass (None: all) and learning rate."""

    title: str
    epochs: int
    examples: int | None
    lr: float


TASKS = {
    "sst2": About("SST-2, accuracy", 1, 8_000, 1e-4),
    "mrpc": About("MRPC, accuracy", 4, None, 1e-4),
    "stsb": About("STS-B, Spearman", 3, None, 1e-4),
    "squad": About("SQuAD (a part of it), F1 and exact match", 1, 2_000, 1e-4),
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
    for share, lr in ((0.9, 1e-4), (0.75, 1e-4), (0.5, 5e-5))
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
QUESTIONS = tuple(
    Line(method, 0.5, teacher, recipe)
    for teacher in (True, False)
    for method, recipe in (
        ("none", "best"), ("hybrid", ""), ("struct", ""), ("block", ""), ("hybrid filled", ""), ("variance", ""), ("movement", ""),
    )
)  # fmt: skip
"""What is measured of SQuAD: block pruning's table 2 in our size, at one share."""


def lines_of(task: str) -> tuple[Line, ...]:
    """The lines of a task."""
    return QUESTIONS if task == "squad" else LINES


NAMES = {
    "none": "best, then trained on", "variance": "variance (rows)", "random": "random rows", "magnitude": "magnitude (weights)",
    "deletion": "information deletion (weights)", "movement": "movement (weights)", "block": "Block", "hybrid": "Hybrid",
    "hybrid filled": "Hybrid Filled", "struct": "Struct",
}  # fmt: skip
DENSE = {"sst2": 0.8911, "mrpc": 0.8113, "stsb": 0.8613}
"""Scores of the dense checkpoints, as their metrics.json has them."""


def page(found: dict) -> str:
    """docs/training_results.md."""
    parts = [HEAD]
    for task, about in TASKS.items():
        mine = {line: found[f"{task} {line.name}"] for line in lines_of(task) if f"{task} {line.name}" in found}
        if not mine:
            continue
        parts.append(f"## {about.title}\n\nDense: {_dense(task, found):.4f}. {_how(task)}\n")
        parts.append("| method | asked | teacher | score | 95 % interval | of dense | encoder gone | faster | minutes |")
        parts.append("|---|--:|---|--:|---|--:|--:|--:|--:|")
        parts += [_row(_dense(task, found), line, row) for line, row in mine.items()]
        parts.append("")
    parts.append(TAIL)
    return "\n".join(parts)


def _how(task: str) -> str:
    about = TASKS[task]
    texts = "all texts" if about.examples is None else f"{about.examples:,} texts"
    passes = "one pass" if about.epochs == 1 else f"{about.epochs} passes"
    return f"Methods that prune while they train: {passes} of {texts}, rate {about.lr:g}."


def _dense(task: str, found: dict) -> float:
    """The score of the dense model; of questions it is measured with the lines."""
    return DENSE[task] if task in DENSE else found["squad dense"]["value"]


def _row(dense: float, line: Line, row: dict) -> str:
    before = f" ({row['before']:.4f} before)" if "before" in row else ""
    before += f", {row['exact_match']:.4f}" if "exact_match" in row else ""
    speed = f"{row['speed']:.2f} x" if "speed" in row else "–"
    return (
        f"| {NAMES[line.method]} | {line.share:.0%} | {'yes' if line.teacher else 'no'} | {row['value']:.4f}{before} | "
        f"{row['low']:.4f} to {row['high']:.4f} | {row['value'] / dense:.1%} | {row['gone']:.1%} | {speed} | "
        f"{row['seconds'] / 60:.1f} |"
    )


HEAD = """# What is kept when a model trains on

Made by `VP_SHARED=../shared python -m benchmarks.while_training`, which goes on where it was stopped; the numbers are in [training_results.json](training_results.json), the methods in [training.md](training.md).

MiniLM checkpoints (6 layers, hidden size 384, 10.6 M linear parameters in the encoder), full development sets, one seed (0), batches of 32.
*Asked* is the share of the method's own units (rows, weights, or for learned scores and `best` the encoder's linear parameters); *encoder gone* is the share of these parameters that exact squeezing finds gone.
The teacher is the dense checkpoint itself, with a weight of 0.1 for the labels and a temperature of 2.
*Faster* is the time of a forward pass on 8 texts of 64 tokens, dense over pruned, rounds in turn; single zeros and blocks inside matrices save no time.
*Best* begins from what the recipe `best` leaves without any training.
Minutes are of one thread of an EPYC with AVX-512, products in bfloat16; the first runs, and those of SQuAD, had other work beside them.
SQuAD: MiniLM trained here on the questions of 38 articles of its development set, windows of 256 tokens, scored on 1,000 questions; exact match stands behind F1, all lines are one pass of 2,000 windows.
250 steps are little for learned scores, whose paper trains for 20 passes of a larger set: these lines say that the methods work, not which is best.
One run a line: differences below the width of the intervals are none.
"""
TAIL = """A line that is missing has not been measured.
"""
