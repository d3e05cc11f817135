"""The page docs/weights_results.md, from what `benchmarks.weights` found; what is not measured yet stands as a dash."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import mean

from vp_core.ground.names import CALIBRATION, TYPES, WORD_EMBEDDINGS
from vp_core.recipes import ATTENTION, RECIPES, Recipe

TASKS = ("sst2", "mrpc", "stsb")
NAMES = {"sst2": "SST-2", "mrpc": "MRPC", "stsb": "STS-B"}
SPARSITIES = tuple(i / 10 for i in range(1, 10))
SEEDS = tuple(range(10))
DENSITIES = (0.9, 0.7, 0.5, 0.3)
TIMED = (1.0, 0.9, 0.7, 0.5, 0.3, 0.1)
HOLE = "–"


@dataclass(frozen=True)
class Line:
    """A line of the tables: its name, what it is in words, and whether it takes long (it comes last then)."""

    name: str
    recipe: Recipe
    slow: bool = False


_MAGNITUDE = RECIPES["weights"]
_WITH = (*TYPES, WORD_EMBEDDINGS)
_BLOCKS = replace(_MAGNITUDE, units=("blocks 32x32",))
LINES = (
    Line("magnitude, per matrix", _MAGNITUDE),
    Line("magnitude, global", replace(_MAGNITUDE, scope="global")),
    Line("random, per matrix", replace(_MAGNITUDE, criterion="random")),
    Line("2:4, magnitude", replace(_MAGNITUDE, units=("2:4",))),
    Line("4:8, magnitude", replace(_MAGNITUDE, units=("4:8",))),
    Line("magnitude, per matrix, with word embeddings", replace(_MAGNITUDE, types=_WITH)),
    Line("magnitude, global, with word embeddings", replace(_MAGNITUDE, types=_WITH, scope="global")),
    Line("blocks 32 × 32, magnitude, per matrix", _BLOCKS),
    Line("blocks 32 × 32, magnitude, global", replace(_BLOCKS, scope="global")),
    Line("wanda", RECIPES["wanda"]),
    Line("2:4, surgeon + least squares", RECIPES["2:4"], slow=True),
    Line("weights best: fisher, global, least squares", RECIPES["weights best"], slow=True),
    Line("surgeon + least squares", replace(RECIPES["2:4"], units=("weights",)), slow=True),
    Line("4:8, surgeon + least squares", replace(RECIPES["2:4"], units=("4:8",)), slow=True),
    Line("fisher", replace(_MAGNITUDE, criterion="fisher"), slow=True),
)
_BEST = RECIPES["best"]
ROWS = {
    "coreset": RECIPES["coreset"],
    "coreset top norm": RECIPES["coreset top norm"],
    "weights": replace(_MAGNITUDE, types=ATTENTION),
    "variance": Recipe(types=ATTENTION),
    "best": replace(_BEST, units=("values", "pairs")),
}
"""Ways to thin out the attention, by the names of the table."""
_HOW = {
    "coreset top norm": "columns of largest norm, not weighed",
    "weights": "single weights by magnitude, per matrix",
    "variance": "the recipe `paper` on the four types: a share of their rows, the mean in their place",
    "best": "the recipe `best` on values and pairs; the density is of the attention's weights, once squeezed",
}
PAPER = {1.0: 0.9083, 0.9: 0.9151, 0.7: 0.8601, 0.5: 0.797, 0.3: 0.5952}
PAPER_TIME = {1.0: 940.13, 0.9: 916.69, 0.7: 794.17, 0.5: 633.06, 0.3: 519.61, 0.1: 397.20}
"""The coreset paper's figures, BERT-base on SST-2: accuracy without fine-tuning, and milliseconds, by density."""
GOALS = {0.5: 0.995, 0.6: 0.985, 0.7: 0.96}
"""Shares of the dense score that were aimed at on SST-2, by the share of the encoder's weights that goes."""
GOAL_2_4 = 0.985
QUIET = 0.1
"""Quartiles of the dense model's times further apart than this (of their median) are told."""
ENOUGH = 0.99
"""The share of the dense score at which a line counts as free of charge."""


def page(found: dict) -> str:
    """Everything that was measured, part by part."""
    lines = [
        "# Single weights: what is kept without training",
        "",
        "Scores on the whole development sets: accuracy on SST-2 (872 sentences) and MRPC (408 pairs), Spearman's "
        "correlation on STS-B (1,500 pairs).",
        f"Checkpoints of the 6-layer MiniLM encoder; where texts are looked at, {CALIBRATION} training sentences without "
        "labels; no weight update by gradient.",
        "Made by `VP_SHARED=../shared python -m benchmarks.weights` from `docs/weights_results.json`, which holds every "
        f"number; {HOLE} is not measured yet.",
        "[weights.md](weights.md) says what the words mean.",
        "",
        *_goals(found["curves"]),
        *_curves(found["curves"]),
        *_coreset(found["coreset"], found["curves"]),
        *_time(found["time"]),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _goals(scores: dict) -> list[str]:
    lines = [
        "## What was aimed at",
        "",
        "SST-2, shares of the dense accuracy; the best line of all that were measured there, and of those the recipe.",
        "One sentence of the 872 is 0.1 points.",
        "`weights best` was chosen with this development set in view, and the best line is the best on it, so both flatter a "
        "little; MRPC and STS-B below were not looked at.",
        "",
        "| gone | aimed at | the recipe (`weights best`, `2:4`) | best line | reached |",
        "|---|---|---|---|---|",
    ]
    single = [line.name for line in LINES if _single(line.recipe)]
    recipe = next(line.name for line in LINES if line.recipe == RECIPES["weights best"])
    for sparsity, goal in GOALS.items():
        lines.append(_goal(f"{sparsity:.0%}", goal, _share(scores, "sst2", recipe, sparsity), scores, single, sparsity))
    of_2_4 = [line.name for line in LINES if line.recipe.units == ("2:4",)]
    recipe = "2:4, surgeon + least squares"
    lines.append(_goal("2:4", GOAL_2_4, _share(scores, "sst2", recipe, 0.5), scores, of_2_4, 0.5))
    return [*lines, ""]


def _single(recipe: Recipe) -> bool:
    """Whether it takes single weights of the encoder, and no others."""
    return recipe.units == ("weights",) and WORD_EMBEDDINGS not in recipe.types


def _goal(first: str, goal: float, recipe: float | None, scores: dict, names: Sequence[str], sparsity: float) -> str:
    there = {name: share for name in names if (share := _share(scores, "sst2", name, sparsity)) is not None}
    if not there:
        return _row(first, [f"{goal:.1%}", HOLE, HOLE, HOLE])
    best = max(there, key=lambda name: there[name])
    reached = "yes" if there[best] >= goal else f"no, {100 * (goal - there[best]):.1f} points short"
    return _row(first, [f"{goal:.1%}", _percent(recipe), f"{there[best]:.1%} ({best})", reached])


def _curves(scores: dict) -> list[str]:
    lines = [
        "## By the share of weights that goes",
        "",
        "Columns: the share of the weights of the six matrices of every layer; with word embeddings, of these and the "
        "embeddings together (which are half of MiniLM's parameters).",
        f"`wanda` is: {RECIPES['wanda'].describe()}; `fisher`: per matrix, zero; `surgeon`: per matrix.",
        "In brackets the share of the dense score. 2:4 and 4:8 have one sparsity. `random` is one draw, seed 0.",
        "0.509 on SST-2 and 0.684 or 0.316 on MRPC is what a model scores that gives one answer to every text.",
        "",
    ]
    for task in TASKS:
        dense = scores.get(f"{task} dense")
        if dense is None:
            continue
        lines += [f"**{NAMES[task]}**, dense {dense['value']:.4f}", "", _row("", [f"{s:.0%}" for s in SPARSITIES])]
        lines.append(_rule(len(SPARSITIES)))
        for line in LINES:
            cells = [_value(scores, task, line, s, dense["value"]) for s in SPARSITIES]
            lines.append(_row(line.name, cells))
        lines += ["", *_free(scores, task), ""]
    return lines


def _value(scores: dict, task: str, line: Line, sparsity: float, dense: float) -> str:
    if line.recipe.pattern and line.recipe.pattern.of and line.recipe.pattern.sparsity != sparsity:
        return ""
    found = scores.get(f"{task} {line.name} {sparsity:g}")
    return HOLE if found is None else f"{found['value']:.3f} ({found['value'] / dense:.1%})"


def _free(scores: dict, task: str) -> list[str]:
    """Up to where each line keeps nearly everything, in one sentence."""
    reached = []
    for line in LINES:
        if line.recipe.pattern and line.recipe.pattern.of:
            continue
        shares = [_share(scores, task, line.name, s) for s in SPARSITIES]
        if None in shares:
            continue
        below = next((i for i, share in enumerate(shares) if share is not None and share < ENOUGH), len(shares))
        reached.append(f"{line.name}: {SPARSITIES[below - 1]:.0%}" if below else f"{line.name}: nowhere")
    return [f"Up to where {ENOUGH:.0%} of the dense score are kept throughout: {'; '.join(reached)}."] if reached else []


def _coreset(found: dict, scores: dict) -> list[str]:
    dense = scores.get("sst2 dense")
    lines = [
        "## Coresets of the attention",
        "",
        "SST-2; only query, key, value and attention output are thinned out, and nothing is trained.",
        f"The density is the share of their columns that stays; `coreset` is the mean of {len(SEEDS)} draws, beside it the "
        "least and the most of them.",
        *(f"`{name}`: {how}." for name, how in _HOW.items()),
        "The paper's column is BERT-base without fine-tuning; its .9151 lies above its own dense .9083, so a point more or "
        "less says nothing there either.",
        "",
        "| density | " + " | ".join(["`coreset`, mean", "least and most", *(f"`{name}`" for name in _HOW), "paper"]) + " |",
        _rule(len(_HOW) + 3),
    ]
    if dense:
        lines.append(_row("1", [f"{dense['value']:.4f}", "", *[""] * len(_HOW), f"{PAPER[1.0]:.4f}"]))
    for density in DENSITIES:
        drawn = [found[key]["value"] for seed in SEEDS if (key := f"coreset {density:g} {seed}") in found]
        cells = [f"{mean(drawn):.4f}" + _of(drawn), f"{min(drawn):.4f} to {max(drawn):.4f}"] if drawn else [HOLE, HOLE]
        others = [found.get(f"{name} {density:g}") for name in _HOW]
        cells += [f"{other['value']:.4f}" if other else HOLE for other in others]
        lines.append(_row(f"{density:g}", [*cells, f"{PAPER[density]:.4f}"]))
    lines += ["", *_biased(found)]
    lines += ["What is left of the attention's weights that are not zero, once squeezed:", ""]
    lines += ["| density | " + " | ".join(f"`{name}`" for name in ("coreset", *_HOW)) + " |", _rule(len(_HOW) + 1)]
    for density in DENSITIES:
        cells = [found.get(f"{name} {density:g}") for name in _HOW]
        first = found.get(f"coreset {density:g} {SEEDS[0]}")
        lines.append(_row(f"{density:g}", [f"{cell['attention left']:.1%}" if cell else HOLE for cell in (first, *cells)]))
    return [*lines, ""]


def _biased(found: dict) -> list[str]:
    """Where columns that are biased keep more than the mean of the unbiased samples."""
    where = []
    for density in DENSITIES:
        drawn = [found[key]["value"] for seed in SEEDS if (key := f"coreset {density:g} {seed}") in found]
        top = found.get(f"coreset top norm {density:g}")
        if drawn and top and top["value"] > mean(drawn):
            where.append(f"{density:g}")
    said = f"`coreset top norm`, biased as it is, keeps more than the mean of the draws at {', '.join(where)}: "
    return [said + "an unbiased sum errs by its variance, and a model has one draw.", ""] if where else []


def _of(drawn: Sequence[float]) -> str:
    return "" if len(drawn) == len(SEEDS) else f" (of {len(drawn)})"


def _time(found: dict) -> list[str]:
    lines = [
        "## Coresets of the whole model, and time",
        "",
        "SST-2; columns of all six matrices are drawn (seed 0), and what nobody reads any more is squeezed away.",
        "Time is that of a forward pass, 8 texts of 128 tokens, as a share of the dense model's; models take turns, median and "
        "quartiles. *FLOPs* is what it would be if time followed them.",
        "A column of the feed-forward output that goes takes a row of its input with it, so less is left of the projections "
        "than the density says; embeddings stay, so more is left of all parameters.",
        "",
        "| density | accuracy | parameters left | of the projections | FLOPs | time | quartiles | time, paper |",
        _rule(7),
    ]
    for density in TIMED:
        row, paper = found.get(f"{density:g}"), f"{PAPER_TIME[density] / PAPER_TIME[1.0]:.3f}"
        if row is None:
            lines.append(_row(f"{density:g}", [*[HOLE] * 6, paper]))
            continue
        shares = [f"{row[name]:.1%}" for name in ("parameters", "projections")]
        spread = f"{row['time low']:.3f} to {row['time high']:.3f}"
        cells = [f"{row['value']:.4f}", *shares, f"{row['flops']:.3f}", f"{row['time']:.3f}", spread, paper]
        lines.append(_row(f"{density:g}", cells))
    if (dense := found.get("1")) and dense["time high"] - dense["time low"] > QUIET:
        between = f"{dense['time low']:.2f} and {dense['time high']:.2f} of their median"
        lines += ["", f"Other programs were running: the dense model's own quartiles are {between}, so the times are rough."]
    return [*lines, "", "The paper's times are 940.13, 916.69, 794.17, 633.06, 519.61 and 397.20 ms, of BERT-base.", ""]


def _share(scores: dict, task: str, name: str, sparsity: float) -> float | None:
    found, dense = scores.get(f"{task} {name} {sparsity:g}"), scores.get(f"{task} dense")
    return found["value"] / dense["value"] if found and dense else None


def _percent(share: float | None) -> str:
    return HOLE if share is None else f"{share:.1%}"


def _rule(columns: int) -> str:
    return "|---" * (columns + 1) + "|"


def _row(first: str, cells: Sequence[str]) -> str:
    return f"| {first} |" + "".join(f" {cell} |" for cell in cells)
