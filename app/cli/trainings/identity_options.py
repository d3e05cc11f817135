"""The options of `vp norms`, `vp finetune` and `vp snip`; what they do is in `app.cli.trainings.identity_commands`."""

import argparse

from app.cli.trainings.train_options import add_head, add_teacher, add_training
from vp_core.ground.names import ITERATIONS, L1, MODES, PAPER_READINGS, READINGS, THETA

_SN = "λ of spectral normalisation, 5 in the paper"
PAPER = "paper"


def _add_reading(parser: argparse.ArgumentParser, name: str, about: str) -> None:
    words = "; ".join(f"{word}: {what}" for word, what in READINGS[name].items())
    usual = next(iter(READINGS[name]))
    parser.add_argument(f"--{name}", help=f"{about}: {words} (default: {usual}, with --readings paper {PAPER_READINGS[name]})")


def _add_start(parser: argparse.ArgumentParser) -> None:
    words = "; ".join(f"{word}: {what}" for word, what in READINGS["start"].items())
    parser.add_argument("--start", help=f"with --sn, the weights it begins with: {words} (default: nearest)")


def _norms(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--sn", metavar="λ",
        help=f"{_SN}: measure the model after fine-tuning it under spectral normalisation (for the demo and λ = 5 "
        "its twin demo-sn stands in, trained towards the demo's hidden states: its norms are near the demo's by that)",
    )  # fmt: skip
    _add_start(parser)
    parser.add_argument("--rescaled", action="store_true", help="with --sn: only rescale the weights, train nothing")
    parser.add_argument("--epsilon", help="thresholds ε for heads and FFNs, by a comma: how often would each be the identity?")
    parser.add_argument(
        "--theta", default=str(THETA), help=f"share θ of mini-batches from which a block is off (default: {THETA})"
    )
    add_training(parser, examples="4096")
    parser.add_argument("--out", help="safetensors file for the norms' histograms")
    parser.add_argument("--plot", help="HTML file to write the distributions to; it needs no network")


def _finetune(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--sn", metavar="λ", help=f"{_SN}: fine-tune under it (default: without)")
    _add_start(parser)
    add_head(parser)
    add_teacher(parser)
    add_training(parser)
    parser.add_argument("--out", required=True, help="folder to write, a new one, as save_pretrained does")
    parser.add_argument("--plot", help="HTML file for the largest singular values over the training steps")


def _snip(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--iterations", default=str(ITERATIONS), help=f"how often blocks may leave (default: {ITERATIONS})")
    parser.add_argument("--mode", default="joint", help=f"what may leave: {', '.join(MODES)} (default: joint)")
    parser.add_argument("--sn", metavar="λ", help=f"{_SN}: train under it (default: without)")
    parser.add_argument(
        "--readings",
        help=f"{PAPER}: the paper's words and table 3, wherever an option does not say otherwise: rescaled weights, mean, use, "
        "training, norms, learning rate 1e-4, layer-wise decay 0.8, epsilon 1e-6 (MRPC has 3 epochs there, the others 1)",
    )
    _add_reading(parser, "start", "with --sn, the weights it begins with")
    _add_reading(parser, "identity", "when a block is the identity in a mini-batch")
    _add_reading(parser, "usage", "what θ is a threshold of")
    _add_reading(parser, "counted", "which mini-batches are counted")
    _add_reading(parser, "l1-on", "what the L1 term is of")
    parser.add_argument("--k", default="1", help="ε is the k-th smallest mean norm; two for attention,FFN (default: 1)")
    parser.add_argument("--theta", default=str(THETA), help=f"threshold θ of usage, see --usage (default: {THETA})")
    parser.add_argument("--l1", default=str(L1), help=f"factor of the L1 term, see --l1-on (default: {L1})")
    parser.add_argument("--at-least", default="0", help="blocks that leave in each iteration, θ or not (default: 0)")
    parser.add_argument("--least-share", default="0", help="share of the weights that leaves in each iteration (default: 0)")
    add_training(parser)
    parser.add_argument("--begin-epochs", help="passes of the fine-tuning before blocks leave; with --sn more help")
    parser.add_argument("--begin-examples", help="training examples of each of these passes (default: as --examples)")
    parser.add_argument("--begin-lr", help="learning rate of that fine-tuning (default: as --lr)")
    parser.add_argument("--out", required=True, help="folder of the run; a run that was stopped there goes on")
    parser.add_argument("--plot", help="HTML file for the score against the share pruned; it needs no network")


COMMANDS = (
    ("norms", "measure how large what heads, attention blocks and FFNs add is", "vp norms demo --sn 5 --json", _norms),
    ("finetune", "fine-tune a model (what is pruned stays so), if asked under spectral normalisation",
     "vp finetune demo --sn 4 --out tuned", _finetune),
    ("snip", "take out blocks that are near the identity, iteration by iteration, retraining",
     "vp snip demo --iterations 5 --mode joint --at-least 2 --examples 4096 --out run", _snip),
)  # fmt: skip
"""(name, what it does, an example, its options besides the question)."""
