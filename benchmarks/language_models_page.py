# ruff: noqa: E501 (a sentence of the page is a line)
"""The lines of `benchmarks.language_models`, and the page docs/language_models_results.md that its numbers make."""

from dataclasses import replace

from vp_core.recipes import RECIPES, Recipe

SHARES = (0.1, 0.2, 0.3, 0.5)
WINDOWS, LENGTH, TOKENS = 128, 256, 12_000
"""Calibration windows of so many tokens, and about so many tokens that are scored, in windows as long."""
_WANDA = Recipe("wanda", "per layer", "zero", units=("ffn neurons", "values"), budget="parameters")
_BEST = RECIPES["best"]
OURS = ("paper", "units mean", "units least squares", "best", "best refit")
LINES: dict[str, Recipe | None] = {
    "paper": RECIPES["paper"],
    "units mean": RECIPES["units mean"],
    "units least squares": RECIPES["units least squares"],
    "best": _BEST,
    "best refit": RECIPES["best refit"],
    "Wanda structured": _WANDA,
    "torch-pruning magnitude": None,
    "torch-pruning Taylor": None,
    "torch-pruning Taylor global": None,
}
"""By name: a recipe, or None for what `benchmarks.language_models_peers` has."""
CANDIDATES: dict[str, Recipe] = {
    "chosen": _BEST,
    "neurons": replace(_BEST, basis="neurons"),
    "scaled": replace(_BEST, scope="scaled"),
    "global": replace(_BEST, scope="global"),
    "per type": replace(_BEST, scope="per type"),
    "fisher": replace(_BEST, criterion="fisher"),
    "without pairs": replace(_BEST, units=("ffn neurons", "values")),
    "feed-forward only": replace(_BEST, units=("ffn neurons",)),
    "chosen refit": replace(_BEST, replacement="refit"),
}
"""Each differs from `best` in one thing."""
GOALS = {0.2: 1.25, 0.3: 1.5}
"""Share of the linear parameters → times the dense perplexity, at most."""


def page(found: dict) -> str:
    """Everything that was measured."""
    about, scores = found.get("about", {}), found.get("scores", {})
    lines = (
        [
            "# Language models without fine-tuning: what is kept",
            "",
            f"Perplexity of {about.get('model', 'the model')} on WikiText-2's test text (lower is better), nothing trained afterwards.",
            "Columns: share of the linear parameters (the six matrices of every layer) that is gone, counted in the model that comes out; in brackets how many times the dense model's perplexity.",
            f"All lines are calibrated on the same {about.get('windows')} windows of {about.get('length')} tokens of the training text, spread evenly over it, and scored on the same windows of {about.get('length')} tokens of the test text, about {about.get('tokens'):,} tokens drawn with seed 0.",
            "So short a window has little before its first tokens: the perplexities are higher than those of windows of 1,024, for all lines alike.",
            f"Words are drawn with the windows' own numbers as seeds. Measured on {about.get('processor')}, {about.get('cores')} cores, torch {about.get('torch')}.",
            "Made by `VP_SHARED=../shared python -m benchmarks.language_models MODEL`, which goes on where it was, from `docs/language_models_results.json`, which holds every number with its 95 % interval and its seconds.",
            "",
        ]
        if about
        else ["# Language models without fine-tuning: what is kept", "", "Nothing is measured yet.", ""]
    )
    if "dense" in scores:
        lines += [*_table(scores, list(LINES)), *_goals(scores)]
    if "dense" in found.get("choice", {}):
        lines += [
            "## Candidates for `best`",
            "",
            "On the last tenth of the training text, which calibrates nothing here; each differs from `best` in one thing.",
            "Nothing is chosen on the test text.",
            "",
            *_table(found["choice"], list(CANDIDATES)),
        ]
    return "\n".join([*lines, *_HOW]) + "\n"


_HOW = [
    "## The lines",
    "",
    "- `paper`: rows by the variance of their output, each type by itself, their mean in the bias; as many rows as leave the share of parameters.",
    "- `units mean`: neurons, values and query/key pairs by Var(h)·‖W‖², their mean in the bias. FLAP's form (An et al. 2023), without its scaling of scores between layers.",
    "- `units least squares`, `best`, `best refit`: see [without_fine_tuning.md](without_fine_tuning.md).",
    "- *Wanda structured*: neurons and values by Σ |W|·‖x‖ over their column of the matrix that reads them, the same share of every layer, nothing in their place (Wanda-sp in An et al. 2023).",
    "- *torch-pruning* 1.6: neurons of the feed-forward networks by the norm of their weights, or by Taylor importance from gradients of the loss on the calibration windows; `global`: layers compete. It is not asked to cut heads here (groups of queries share a key), so all that goes comes from the feed-forward networks.",
    "- SliceGPT is not measured: the package index has no package of that name (slicegpt).",
    "",
    "LLaMA-7B's published perplexities, for scale (another model, other windows: not to be compared with the table): dense 12.6; at 20 / 30 / 50 % of the parameters FLAP 14.6 / 17.6 / 31.8, Wanda-sp 22 / 39 / 366.",
]


def _table(scores: dict, names: list[str]) -> list[str]:
    dense = scores["dense"]["perplexity"]
    lines = [
        f"Dense: **{dense:.2f}** ({scores['dense']['low']:.2f} to {scores['dense']['high']:.2f}, {scores['dense']['tokens']:,} tokens).",
        "",
        "| |" + "".join(f" {share:.0%} |" for share in SHARES),
        "|---" + "|--:" * len(SHARES) + "|",
    ]
    for name in names:
        cells = [scores.get(f"{name} {share:g}") for share in SHARES]
        if any(cells):
            lines.append(f"| {_shown(name)} |" + "".join(f" {_cell(cell, dense)} |" for cell in cells))
    return [*lines, ""]


def _shown(name: str) -> str:
    return f"`{name}`" if name in RECIPES else name


def _cell(cell: dict | None, dense: float) -> str:
    if cell is None:
        return ""
    value = cell["perplexity"]
    return f"{value:,.1f} ({value / dense:.2f} ×)" if value < 100 * dense else f"{value:,.0f}"


def _goals(scores: dict) -> list[str]:
    """What was aimed at, and whether it is reached; and where another line is better than ours."""
    dense, lines = scores["dense"]["perplexity"], []
    for share, most in GOALS.items():
        ours = {name: scores[f"{name} {share:g}"]["perplexity"] / dense for name in OURS if f"{name} {share:g}" in scores}
        if ours:
            name = min(ours, key=lambda one: ours[one])
            reached = "reached" if ours[name] <= most else "missed"
            lines.append(
                f"- At {share:.0%}, at most {most:g} × the dense perplexity: {reached} by `{name}` ({ours[name]:.2f} ×)."
                if reached == "reached"
                else f"- At {share:.0%}, at most {most:g} × the dense perplexity: missed; `{name}` comes nearest ({ours[name]:.2f} ×)."
            )
    for share in SHARES:
        values = {name: scores[f"{name} {share:g}"]["perplexity"] for name in LINES if f"{name} {share:g}" in scores}
        peers = {name: value for name, value in values.items() if name not in OURS}
        ours = {name: value for name, value in values.items() if name in OURS}
        if peers and ours:
            first, best = min(peers, key=lambda n: peers[n]), min(ours, key=lambda n: ours[n])
            word = "below" if ours[best] < peers[first] else "above"
            lines.append(
                f"- At {share:.0%} `{best}` ({ours[best]:,.1f}) is {word} the best of the others, {first} ({peers[first]:,.1f})."
            )
    return [*lines, ""] if lines else []
