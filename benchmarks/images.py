"""Image classification against a plain batched loop: the same images, processor, model and cores, within one run.

With the images read and processed (the first time), and with pixel values at hand (every score after it). The plain loop runs
with one thread and with all cores, and its better time counts.
"""

import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import ViTConfig, ViTForImageClassification
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from benchmarks.measure import alternating, line
from vp_core.asking.evaluate import score
from vp_core.asking.kinds.images import ImageClassification
from vp_core.ground.parallel import WORKERS
from vp_core.opening.study import open_study
from vp_core.study import Study

BATCH = 32
"""Images that the plain loop gives the model at once."""


def run() -> None:
    """The demo's scans (8 × 8), and photographs' size: ViT-S/16 with random weights on JPEGs of 320 × 240 pixels of noise."""
    of_study(open_study("demo-images"), "digits")
    with tempfile.TemporaryDirectory() as place:
        of_study(_small_vit(Path(place), 32), "ViT-S/16", repeats=3)


def of_study(study: Study, name: str, repeats: int = 5) -> None:
    """Both ratios of one study."""
    question = study.question
    assert isinstance(question, ImageClassification)
    data, own, order = question.data, study.loaded.processor, np.array(question.order)
    said: dict[str, float] = {}

    def ask(what: str, batches: list[torch.Tensor]) -> None:
        answers = [study.model(pixel_values=one).logits.argmax(dim=1).numpy() for one in batches]
        said[what] = float((order[np.concatenate(answers)] == question.labels).mean())

    def processed(start: int) -> torch.Tensor:
        pictures = [data.stored.picture(i) for i in range(start, min(start + BATCH, len(data)))]
        return own(pictures, return_tensors="pt")["pixel_values"]

    at_hand = [processed(start) for start in range(0, len(data), BATCH)]

    def plain(threads: int, fresh: bool) -> None:
        torch.set_num_threads(threads)
        with torch.inference_mode():
            ask("plain", [processed(start) for start in range(0, len(data), BATCH)] if fresh else at_hand)
        torch.set_num_threads(1)

    def ours(fresh: bool) -> None:
        if fresh:
            data._kept.clear()
        said["ours"] = score(study.model, question).value

    runs = {"ours, read": lambda: ours(True), "ours, at hand": lambda: ours(False)}
    for threads in sorted({1, WORKERS}):  # small models are faster with one
        runs |= {
            f"plain, read {threads}": lambda threads=threads: plain(threads, True),
            f"plain, at hand {threads}": lambda threads=threads: plain(threads, False),
        }
    seconds = alternating(runs, repeats)
    for how in ("read", "at hand"):
        theirs = min(seconds[f"plain, {how} {threads}"] for threads in {1, WORKERS})
        line(f"{name}, {len(data)} images, {how}: plain loop / ours", theirs / seconds[f"ours, {how}"], "x", ">= 1")
    print(f"  accuracy: {said}")


def _small_vit(place: Path, n: int) -> Study:
    torch.manual_seed(0)
    names = [f"c{i}" for i in range(10)]
    config = ViTConfig(
        hidden_size=384, num_attention_heads=6, intermediate_size=1536, id2label=dict(enumerate(names)),
        label2id={name: i for i, name in enumerate(names)},
    )  # fmt: skip
    ViTForImageClassification(config).save_pretrained(place / "model")
    ViTImageProcessorPil().save_pretrained(place / "model")
    draw = np.random.default_rng(0)
    for i in range(n):
        folder = place / "data" / names[i % 10]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (240, 320, 3), dtype=np.uint8)).save(folder / f"{i}.jpg")
    return open_study(str(place / "model"), "images", place / "data")
