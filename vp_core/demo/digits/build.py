"""Rebuilds the small image classifier: `python -m vp_core.demo.digits.build [--out DIR]`. Needs nothing but this package."""

import argparse
import json
import time
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors.torch import save
from transformers import ViTForImageClassification, set_seed
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from vp_core.demo.digits.scans import as_parquet, deal
from vp_core.demo.digits.train import TrainSettings, accuracy, make_model, train
from vp_core.demo.load import IMAGE_FILES, IMAGES, MODEL_FILE, load_demo_images
from vp_core.demo.making.build import folder_bytes, versions, write_atomically
from vp_core.demo.quantise import pack

LIMIT = 2_000_000  # bytes for the whole folder
DEAL_SEED = 1


def store(model: ViTForImageClassification, folder: Path) -> None:
    """Writes configuration, image processor and weights, eight-bit safetensors."""
    model.config.save_pretrained(folder)
    size = model.config.image_size
    ViTImageProcessorPil(
        size={"height": size, "width": size}, image_mean=[0.5] * 3, image_std=[0.5] * 3
    ).save_pretrained(folder)  # fmt: skip
    about = {"layout": "int8 rows with .scale, version 1"}  # one entry: safetensors writes several in a random order
    write_atomically(folder / MODEL_FILE, save(pack(model.state_dict()), metadata=about))


def build(folder: Path, settings: TrainSettings) -> dict[str, object]:
    """Scans, training, storage, measurement; gives the figures that metrics.json keeps."""
    started = time.perf_counter()
    torch.set_num_threads(settings.threads)
    torch.use_deterministic_algorithms(True)
    set_seed(settings.seed)
    folder.mkdir(parents=True, exist_ok=True)
    parts = deal(DEAL_SEED, settings.train)
    for split, name in IMAGE_FILES.items():
        write_atomically(folder / name, as_parquet(*parts[split]))
    model = make_model(settings)
    train(model, *parts["train"], settings)
    store(model, folder)
    stored, _ = load_demo_images(folder)
    metrics: dict[str, object] = {
        "accuracy_float32": accuracy(model, *parts["test"]),
        "accuracy_int8": accuracy(stored, *parts["test"]),
        "accuracy_int8_of_train": accuracy(stored, *parts["train"]),
        "images": {split: len(labels) for split, (_, labels) in parts.items()},
        "parameters": sum(parameter.numel() for parameter in stored.parameters()),
        "deal_seed": DEAL_SEED,
        "settings": asdict(settings),
        "versions": versions() | {name: version(name) for name in ("scikit-learn", "pillow", "pyarrow")},
    }
    write_atomically(folder / "metrics.json", (json.dumps(metrics, indent=2) + "\n").encode())
    size = folder_bytes(folder)
    print(
        f"accuracy on test: {metrics['accuracy_float32']:.4f} float32, {metrics['accuracy_int8']:.4f} int8\n"
        f"{size:,} bytes of {LIMIT:,}, {time.perf_counter() - started:.0f} s"
    )
    if size > LIMIT:
        raise SystemExit(f"{folder} is over its limit by {size - LIMIT:,} bytes")
    return metrics


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Rebuild the small image classifier and its scans.")
    parser.add_argument("--out", type=Path, default=IMAGES, help="folder to write to (default: the package's own)")
    build(parser.parse_args().out, TrainSettings())


if __name__ == "__main__":
    main()
