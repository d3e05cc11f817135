"""What the benchmarks that write a page have in common: the checkpoints they ask, and how numbers and page are kept."""

import json
import os
from functools import cache
from pathlib import Path

from vp_core.ground.store import atomic
from vp_core.opening.study import open_study
from vp_core.study import Study


def shared() -> Path:
    """The folder of models and data sets that `VP_SHARED` names."""
    return Path(os.environ.get("VP_SHARED", "../shared"))


@cache
def minilm(task: str) -> Study:
    """The MiniLM checkpoint of a task, on the task; that of questions is the one that `VP_QUESTIONS` names (`vp finetune --task
    squad --fresh-head` makes one), in windows
    of 256 tokens, scored on 1,000 questions."""
    if task == "squad":
        return open_study(os.environ["VP_QUESTIONS"], task, shared() / "data" / "squad", max_length=256, sentences=1000)
    return open_study(str(shared() / "models" / f"minilm-{task}"), task, shared() / "data")


def write(found: dict, numbers: Path, page: Path, text: str) -> None:
    """Keep the numbers as JSON and the page made of them, each whole or as it was."""
    for path, content in ((numbers, json.dumps(found, indent=1) + "\n"), (page, text)):
        with atomic(path) as temporary:
            temporary.write_text(content)
