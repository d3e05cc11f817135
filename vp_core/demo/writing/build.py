"""Rebuilds the small language model: `python -m vp_core.demo.writing.build [--out DIR]`. Needs nothing but this package."""

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import save
from transformers import LlamaForCausalLM, set_seed

from vp_core.demo.load import MODEL_FILE, TEXT, TEXT_FILES, TIED, load_demo_text
from vp_core.demo.making.build import folder_bytes, versions, write_atomically
from vp_core.demo.quantise import pack
from vp_core.demo.writing.stories import Story, whole, write_stories
from vp_core.demo.writing.tokens import encode, train_tokenizer
from vp_core.demo.writing.train import WINDOW, TrainSettings, known, make_model, perplexity, train

LIMIT = 8_000_000  # bytes for the whole folder
SEEDS = {"training": 1, "train": 2, "test": 3}
SIZES = {"train": 150_000, "test": 60_000}


def shipped(split: str, training: list[Story], size: int | None = None) -> list[Story]:
    """The stories that come with the package: none that the model was trained on."""
    seen = {story.text for story in training}
    return [story for story in write_stories(split, SEEDS[split], size or SIZES[split]) if story.text not in seen]


def store(model: LlamaForCausalLM, folder: Path) -> None:
    """Writes configuration and weights: eight-bit safetensors, the tied head once."""
    model.config.save_pretrained(folder)
    state = {name: tensor for name, tensor in model.state_dict().items() if name != TIED[0]}
    about = {"layout": "int8 rows with .scale, version 1"}  # one entry: safetensors writes several in a random order
    write_atomically(folder / MODEL_FILE, save(pack(state), metadata=about))


def measure(
    folder: Path, model: LlamaForCausalLM, training: list[Story], test: list[Story], settings: TrainSettings
) -> dict[str, object]:
    """What metrics.json keeps: perplexity on test.txt as trained and as stored, and the facts that the stored model says."""
    stored, tokenizer = load_demo_text(folder)
    tokens = encode(tokenizer, whole(test))
    facts = known(stored, tokenizer, test)
    return {
        "perplexity_float32": perplexity(model, tokens),
        "perplexity_int8": perplexity(stored, tokens),
        "perplexity_int8_first_8_windows": perplexity(stored, tokens, windows=8),
        "perplexity_int8_of_train_txt": perplexity(
            stored, encode(tokenizer, (folder / TEXT_FILES["train"]).read_text("utf-8"))
        ),
        "window": WINDOW,
        "tokens": len(tokens),
        "facts": {kind: f"{right} of {total}" for kind, (right, total) in facts.items()},
        "facts_share": sum(right for right, _ in facts.values()) / max(sum(total for _, total in facts.values()), 1),
        "parameters": sum(parameter.numel() for parameter in stored.parameters()),
        "stories": {"training": len(training), "test.txt": len(test)},
        "story_seeds": SEEDS,
        "settings": asdict(settings),
        "versions": versions(),
    }


def build(folder: Path, settings: TrainSettings, sizes: dict[str, int] = SIZES) -> dict[str, object]:
    """Stories, tokenizer, training, storage, measurement; gives the figures that metrics.json keeps."""
    started = time.perf_counter()
    torch.set_num_threads(settings.threads)
    torch.use_deterministic_algorithms(True)
    set_seed(settings.seed)
    folder.mkdir(parents=True, exist_ok=True)
    training = write_stories("train", SEEDS["training"], settings.text_bytes)
    texts = {split: shipped(split, training, sizes[split]) for split in TEXT_FILES}
    for split, name in TEXT_FILES.items():
        write_atomically(folder / name, whole(texts[split]).encode())
    tokenizer = train_tokenizer(whole(training), settings.vocabulary, folder)
    model = make_model(tokenizer, settings)
    train(model, tokenizer, training, settings)
    store(model, folder)
    metrics = measure(folder, model, training, texts["test"], settings)
    write_atomically(folder / "metrics.json", (json.dumps(metrics, indent=2) + "\n").encode())
    size = folder_bytes(folder)
    print(
        f"perplexity on test.txt: {metrics['perplexity_float32']:.4f} float32, {metrics['perplexity_int8']:.4f} int8; "
        f"{metrics['facts_share']:.1%} of the facts\n{size:,} bytes of {LIMIT:,}, {time.perf_counter() - started:.0f} s"
    )
    if size > LIMIT:
        raise SystemExit(f"{folder} is over its limit by {size - LIMIT:,} bytes")
    return metrics


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Rebuild the small language model and its stories.")
    parser.add_argument("--out", type=Path, default=TEXT, help="folder to write to (default: the package's own)")
    build(parser.parse_args().out, TrainSettings())


if __name__ == "__main__":
    main()
