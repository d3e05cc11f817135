"""The options of single weights: those of `vp weights`, and what other commands say of weights, blocks and N:M.

What `vp weights` does is in `app.cli.weight_commands`.
"""

import argparse
import re
from dataclasses import replace

from vp_core.ground.chosen import of_weights, scopes_for
from vp_core.ground.errors import VPError, number_or_nan
from vp_core.ground.names import PAPER_CRITERIA, WEIGHT_UNITS, WORD_EMBEDDINGS
from vp_core.recipes import RECIPES, Recipe

ABOUT = (
    "weights", "look at single weights: how they are spread, what goes by head and of Σ|w|, beside another checkpoint",
    "vp weights my-model --beside its-encoder --task sst2 --data glue --plot weights.html",
)  # fmt: skip
"""The command's name, what it does, an example."""
CRITERIA_OF_WEIGHTS = ("magnitude", "random")
"""What a curve of single weights compares, unless asked otherwise."""
UNITS_HELP = f"or, by itself, one of {', '.join(WEIGHT_UNITS)} or any N:M"
_BLOCK = re.compile(r"(\d+|all)x(\d+|all)")


def add_command(parser: argparse.ArgumentParser) -> None:
    """The options of `vp weights`, besides the question and how to prune."""
    parser.add_argument("--criterion", help="what makes a weight worth keeping (default: magnitude, which needs no task)")
    parser.add_argument("--sparsity", help="share of the weights to look closely at (default: 0.5; of N:M its own)")
    parser.add_argument(
        "--beside", metavar="OTHER",
        help="another checkpoint of the same architecture, with a head or without, such as the encoder before fine-tuning: "
        "how far are masks apart, and how far did weights move in the order of magnitudes since",
    )  # fmt: skip
    parser.add_argument("--plot", help="HTML file to write all figures to; it needs no network")
    parser.add_argument(
        "--map", metavar="MATRIX", help="with --plot: matrices whose |w| is drawn, by commas, such as 0.query,3.ffn_in "
        "(default: the keys of layer 1, as in the paper)",
    )  # fmt: skip


def add_units(parser: argparse.ArgumentParser) -> None:
    """What is said of units of single weights, beside --units."""
    parser.add_argument("--block", metavar="RxC", help="rows x columns of --units blocks, or all for a side (default: 32x32)")
    parser.add_argument("--embeddings", action="store_true", help="with single weights: those of the word embeddings, too")
    parser.add_argument("--density", help="share that stays, instead of the share to remove: 1 minus the sparsity")


def units_of(options: argparse.Namespace) -> tuple[str, ...] | None:
    """The units that the options name, None if they name none; VPError for a block's shape without blocks."""
    units = tuple(part.strip() for part in options.units.split(",") if part.strip()) if options.units else None
    if not options.block:
        return units
    if units != ("blocks",):
        raise VPError("The option --block says the shape of blocks: add --units blocks.")
    if not _BLOCK.fullmatch(options.block):
        raise VPError(f"The block {options.block!r} is not understood: write rows x columns, such as 32x32 or 16xall.")
    return (f"blocks {options.block}",)


def base_for(units: tuple[str, ...] | None, criterion: str | None) -> Recipe:
    """The recipe that options differ from if they name none: the paper's of rows, `weights` for single weights.

    With it go the scope of Wanda, a row's own competition, and what a coreset puts in place.
    """
    if units is None or not of_weights(units):
        return RECIPES["paper"]
    base = replace(RECIPES["weights"], units=units)
    if criterion == "wanda" and "per row" in scopes_for(units):
        return replace(base, criterion=criterion, scope="per row")
    if criterion == "coreset":
        return replace(base, criterion=criterion, replacement="inverse probability")
    return base


def with_embeddings(recipe: Recipe) -> Recipe:
    """The recipe with word embeddings among its types; VPError for rows."""
    if not recipe.pattern:
        raise VPError("Word embeddings go as single weights only: add --units weights, or leave --embeddings out.")
    return replace(recipe, types=(*recipe.types, WORD_EMBEDDINGS))


def criteria_to_compare(options: argparse.Namespace) -> str:
    """The criteria of a curve, by commas: those that are named, or those that fit the units."""
    units = units_of(options)
    usual = CRITERIA_OF_WEIGHTS if units and of_weights(units) else PAPER_CRITERIA
    said: str | None = options.criteria
    return ",".join(usual) if said is None else said


def sparsity_of_density(text: str) -> float:
    """1 minus a density; VPError unless it is between 0 and 1.

    >>> sparsity_of_density("0.7")
    0.3
    """
    density = number_or_nan(text)
    if not 0 <= density <= 1:
        raise VPError(f"The density {text!r} is no share: write a number from 0 to 1, such as 0.7.")
    return round(1 - density, 9)


def check_one_share(options: argparse.Namespace, share: str | None) -> None:
    """VPError if both a density and a sparsity are given."""
    if options.density is not None and share is not None:
        raise VPError("Both a sparsity and a density are given, and one is 1 minus the other: choose one of them.")
