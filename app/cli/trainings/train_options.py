"""The options of `vp train`; what it does is in `app.cli.trainings.train_command`."""

import argparse

from vp_core.ground.names import ALPHA, AUTO, BATCH, LEARNING_RATE, METHODS, TEMPERATURE, TRAINING_PRECISIONS

ABOUT = (
    "train", "train a model and prune it meanwhile, with or without a teacher; what is stopped goes on",
    "vp train demo --method variance --until 0.5 --out run && vp eval run --json",
)  # fmt: skip
"""(name, what it does, an example)."""


def add_command(parser: argparse.ArgumentParser) -> None:
    """All options besides the question."""
    methods = "; ".join(f"{name}: {about}" for name, about in METHODS.items())
    parser.add_argument("--method", default="variance", help=f"{methods} (default: variance)")
    parser.add_argument(
        "--until", default="0.5",
        help="share to be gone at the end: of rows, of single weights, by learned scores of the encoder's linear parameters "
        "(default: 0.5)",
    )  # fmt: skip
    parser.add_argument("--first", help="step of the first cut; 500 in Variance Pruning (default: spread over the first half)")
    parser.add_argument("--every", help="steps between two cuts; 500 in the paper (default: spread over the first half)")
    parser.add_argument("--share", help="share that goes with each cut; 0.1 in the paper (default: a fifth of --until)")
    parser.add_argument("--ramp", help="linear or cubic (default: linear for rows, cubic for single weights)")
    parser.add_argument("--squeeze", action="store_true", help="rows: train on in the smaller model once the last are gone")
    parser.add_argument("--embeddings", action="store_true", help="single weights: word embeddings lose some too")
    add_head(parser)
    add_teacher(parser)
    parser.add_argument("--steps", metavar="N", help="so many optimiser steps, whatever number of passes that takes")
    add_training(parser)
    parser.add_argument("--scores", default="8", help="how often the model is scored on the way (default: 8)")
    parser.add_argument("--out", required=True, help="folder of the run: its record, its state, its model")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out, where it was stopped")
    parser.add_argument(
        "--tensorboard", metavar="DIR",
        help="folder for TensorBoard's scalars: loss, learning rate, share gone, score (pip install -r "
        "requirements-tensorboard.txt)",
    )  # fmt: skip
    parser.add_argument("--plot", help="HTML file for loss, score and share gone over the steps; it needs no network")


def add_head(parser: argparse.ArgumentParser) -> None:
    """Whether the model's head is a new one."""
    parser.add_argument(
        "--fresh-head", action="store_true", help="question answering: train a new head, on an encoder or in another's place"
    )


def add_teacher(parser: argparse.ArgumentParser) -> None:
    """A teacher, and how much it says."""
    parser.add_argument("--teacher", help="model whose answers are learned too: demo, a folder, or a Hub id (default: none)")
    parser.add_argument(
        "--alpha", default=str(ALPHA), help=f"weight of the task's own loss beside the teacher's (default: {ALPHA:g})"
    )
    parser.add_argument(
        "--temperature", default=str(TEMPERATURE), help=f"softens outputs, the teacher's too (default: {TEMPERATURE:g})"
    )
    parser.add_argument("--hidden", default="0", help="weight of hidden states' squared error besides (default: 0)")


def add_training(parser: argparse.ArgumentParser, examples: str | None = None) -> None:
    """How to train."""
    shown = f"{examples} examples" if examples else "all"
    parser.add_argument("--epochs", default="1", help="passes of each training (default: 1)")
    parser.add_argument("--examples", default=examples, help=f"training examples of each pass (default: {shown})")
    parser.add_argument("--batch", default=str(BATCH), help=f"texts in a mini-batch (default: {BATCH})")
    parser.add_argument("--lr", help=f"learning rate of AdamW (default: {LEARNING_RATE:g})")
    parser.add_argument(
        "--layer-decay", help="factor of the learning rate from each layer to the one below; 0.8 in SNIP's paper (default: 1)"
    )
    parser.add_argument("--adam-epsilon", help="epsilon of AdamW; 1e-6 in SNIP's paper (default: 1e-8)")
    parser.add_argument(
        "--precision", default=AUTO,
        help=f"of products: {', '.join(TRAINING_PRECISIONS)}; auto is what this machine is fast in, or a run was begun with "
        f"(default: {AUTO})",
    )  # fmt: skip
    parser.add_argument("--seed", default="0", help="seed of order and dropout (default: 0)")
