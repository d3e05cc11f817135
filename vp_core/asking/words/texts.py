"""Where the text of a task comes from: a file of one's own, a folder with two of them, WikiText-2, the demo's."""

from dataclasses import dataclass
from pathlib import Path

from vp_core.asking.tasks import Task
from vp_core.asking.words.windows import read_text
from vp_core.ground.errors import VPError
from vp_core.ground.hub import require_hub
from vp_core.ground.store import DEMO_DIR

_TRAIN, _TEST = "train.txt", "test.txt"


@dataclass(frozen=True)
class Texts:
    """A text that is scored, and one that statistics are taken on; `source` names the first."""

    scored: str
    measured: str
    source: str
    notes: tuple[str, ...] = ()


def open_texts(task: Task, data: str | Path | None) -> Texts:
    """The texts of a task that asks for tokens.

    `data` is a file of plain text in UTF-8, which serves for both, or a folder with train.txt and test.txt, or the folder
    that holds WikiText-2's under its name. Raises VPError where there is none, and for a file that is no text.
    """
    if task.name == "demo-text":
        data = DEMO_DIR / "text"
    if data is None:
        if task.folders:
            return _from_hub(task)
        raise VPError("Which text? Give a file of plain text, or a folder with train.txt and test.txt (--data).")
    place = Path(data)
    if not place.is_dir():
        text = read_text(place)
        return Texts(text, text, str(place), ("Statistics are taken on the text that is scored.",))
    folder = next((found for name in task.folders if (found := place / name).is_dir()), place)
    if not (folder / _TEST).is_file() or not (folder / _TRAIN).is_file():
        raise VPError(f"There is no {_TRAIN} and {_TEST} in {str(folder)!r}: give a folder with both, or a single text file.")
    return Texts(read_text(folder / _TEST), read_text(folder / _TRAIN), str(folder / _TEST))


def _from_hub(task: Task) -> Texts:
    """WikiText-2 as it was published: raw, its lines one after another."""
    require_hub(f"The text of {task.name}")
    import datasets

    try:
        parts = {
            split: "".join(row["text"] for row in datasets.load_dataset("Salesforce/wikitext", task.folders[1], split=split))
            for split in ("train", "test")
        }
    except Exception as error:  # datasets raises many kinds; each means: no data
        raise VPError(
            f"The text of {task.name} could not be had from the Hub ({type(error).__name__}): give a folder with {_TRAIN} and "
            f"{_TEST} (--data DIR), or check the network."
        ) from error
    return Texts(parts["test"], parts["train"], f"Hub: Salesforce/wikitext {task.folders[1]} test")
