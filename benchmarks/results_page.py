"""The page docs/results.md, from what `benchmarks.results` found: tables and the sentences that their numbers bear."""

from collections.abc import Sequence
from itertools import product
from statistics import mean

from vp_core.ground.names import CALIBRATION

TASKS = ("sst2", "mrpc", "stsb")
NAMES = {"sst2": "SST-2", "mrpc": "MRPC", "stsb": "STS-B"}
SPARSITIES = tuple(i / 10 for i in range(1, 10))
SHOWN = (0.3, 0.5, 0.7)
"""Sparsities of the table of recipes."""
HERE = (0.5, 0.8)
"""Sparsities at which candidates and calibration sizes are compared."""
SEEDS = (0, 1, 2)
DRAWS = ("by length", "plain")
HELD_OUT = 512
UNSEEN = 2000
"""Training texts on which sizes of the calibration are compared."""
SIZES = (64, 128, 256, 512, 1024, 2048, 4096)
HEADLINES = ("best", "best refit")
"""Recipes whose numbers have a band, and which are drawn against the size of the calibration."""
BANDS = (0.3, 0.5, 0.7, 0.8, 0.9)
LIGHT = (0.1, 0.2, 0.3)
"""Sparsities at which `best` is compared with what sees labels."""
SECOND_SEED = 1
"""Beside 0: another draw of the calibration texts."""
CLEARLY = 0.02
"""By how much one score must be above another to be said to beat it: about a standard error of the smaller sets."""


CHOSEN_ON = "sst2"
"""The task on which `best` was chosen among the candidates."""


def page(found: dict, recipes: Sequence[str], candidates: Sequence[str]) -> str:
    """Everything that was measured, part by part."""
    lines = [
        "# Without fine-tuning: what is kept",
        "",
        "Scores on the whole development sets: accuracy on SST-2 (872 sentences) and MRPC (408 pairs), Spearman's "
        "correlation on STS-B (1,500 pairs).",
        f"Checkpoints of the 6-layer MiniLM encoder; {CALIBRATION} training sentences without labels for calibration; no "
        "weight update by gradient.",
        "Made by `VP_SHARED=../shared python -m benchmarks.results all` from `docs/results.json`, which holds every number; "
        "random means drawn with the seeds 0, 1 and 2.",
        "",
        *_figure2(found["figure 2"]),
        *_draws(found["draws"]),
        *_recipes(found["scores"], recipes),
        *_bands(found["bands"], found["scores"]),
        *_peers(found["peers"]),
        *_sizes(found["calibration"]),
        *_candidates(found["choice"], candidates),
    ]
    return "\n".join(lines) + "\n"


def _figure2(scores: dict) -> list[str]:
    lines = [
        "## The paper's figure 2: criteria against the share of rows",
        "",
        "Single rows of all six types, each type by itself, the mean in their place (the recipe `paper`). `random` takes as "
        "many rows of each matrix as `variance`: mean of three seeds, below it the least and the most of them.",
        "The last row is `variance` with nothing in their place.",
        "",
    ]
    for task in TASKS:
        if f"{task} dense" not in scores:
            continue
        lines += [f"**{NAMES[task]}**, dense {scores[f'{task} dense']:.3f}", "", _head("criterion", SPARSITIES)]
        lines += [_rule(len(SPARSITIES))]
        for name, label in (("variance", "variance"), ("magnitude", "magnitude")):
            lines.append(_row(label, [_number(scores.get(f"{task} {name} {s:g}")) for s in SPARSITIES]))
        drawn = [[scores.get(f"{task} random {seed} {s:g}") for seed in SEEDS] for s in SPARSITIES]
        whole = [None not in seeds for seeds in drawn]
        means = [f"{mean(seeds):.3f}" if ok else "" for seeds, ok in zip(drawn, whole, strict=True)]
        bands = [f"{min(seeds):.3f} to {max(seeds):.3f}" if ok else "" for seeds, ok in zip(drawn, whole, strict=True)]
        lines += [_row("random, mean", means), _row("random, least and most", bands)]
        zeros = [_number(scores.get(f"{task} variance zero {s:g}")) for s in SPARSITIES]
        lines += [_row("variance, `zero`", zeros), ""]
    return [*lines, *_read_off(scores), ""] if len(lines) > 6 else []


def _read_off(scores: dict) -> list[str]:
    """What the figure says in words, with its numbers."""
    lines = ["Where `variance` is not the best of the three by two points, and where `zero` beats `mean` by as much:", ""]
    for task in TASKS:
        below, zero = [], []
        for s in SPARSITIES:
            paper, nothing = scores.get(f"{task} variance {s:g}"), scores.get(f"{task} variance zero {s:g}")
            drawn = [scores.get(f"{task} random {seed} {s:g}") for seed in SEEDS]
            others = {"magnitude": scores.get(f"{task} magnitude {s:g}"), "random": mean(drawn) if None not in drawn else None}
            if paper is None:
                continue
            below += [f"{s:.0%} ({n} {v:.3f}, {paper:.3f})" for n, v in others.items() if v is not None and v > paper + CLEARLY]
            if nothing is not None and nothing > paper + CLEARLY:
                zero.append(f"{s:.0%} ({nothing:.3f} against {paper:.3f})")
        lines.append(f"- {NAMES[task]}: `variance` below another: {', '.join(below) or 'nowhere'}.")
        lines.append(f"  `zero` above `mean`: {', '.join(zero) or 'nowhere'}.")
    return [
        *lines,
        "",
        "0.509 on SST-2 and 0.684 on MRPC is what a model scores that gives one answer to every text, 0.316 on MRPC what it "
        "scores that gives the other.",
        "So from 60 % of the rows on, on STS-B from 70 %, the paper's recipe, untrained, says next to nothing; what solves "
        "again what is left does ([below](#recipes)).",
    ]


def _draws(draws: dict) -> list[str]:
    if not draws:
        return []
    lines = [
        "## How the calibration texts are drawn",
        "",
        f"The recipe `paper` at 50 % of the rows, {CALIBRATION} training texts, three draws each.",
        "*By length* is what the tool does: texts as long as those that are evaluated (`Examples.sample_like`). *Plain* is a "
        "simple random sample: where training texts are of another length (SST-2's are mostly phrases), the means are those of "
        "other texts.",
        "",
        "| task | draw | words a text (evaluated) | `mean` | `zero` |",
        "|---|---|---|---|---|",
    ]
    for task in TASKS:
        for draw in DRAWS:
            rows = [draws[f"{task} {draw} {seed}"] for seed in SEEDS if f"{task} {draw} {seed}" in draws]
            if rows:
                cells = [", ".join(f"{row[rung]:.3f}" for row in rows) for rung in ("mean", "zero")]
                words = f"{mean(row['words'] for row in rows):.1f} ({rows[0]['words asked']:.1f})"
                lines.append(f"| {NAMES[task]} | {draw} | {words} | {cells[0]} | {cells[1]} |")
    return [*lines, ""]


def _recipes(scores: dict, recipes: Sequence[str]) -> list[str]:
    lines = [
        "## Recipes",
        "",
        "In brackets the share of the dense score. Columns: share of the encoder's linear parameters that go once squeezed; "
        "for `paper` and the last row: share of rows, and below it what goes once squeezed.",
        "`best` was chosen among the candidates at the end of this page, on training sentences, never on the development set.",
        "`best` is as it is since 0.11, its layers allotted by "
        "[losses in closed form](without_fine_tuning.md#losses-in-closed-form); `best refit` and the candidates by losses "
        "measured at seven levels.",
        "",
    ]
    for task in TASKS:
        dense = scores.get(f"{task} dense")
        if dense is None:
            continue
        lines += [f"**{NAMES[task]}**, dense {dense:.4f}", "", _head("recipe", SHOWN), _rule(len(SHOWN))]
        for name in recipes:
            cells = [scores.get(f"{task} {name} {s:g}") for s in SHOWN]
            if any(cells):
                lines.append(_row(name, [f"{c['value']:.3f} ({c['value'] / dense:.1%})" if c else "" for c in cells]))
            if any(cells) and (name == "paper" or "share of rows" in name):
                lines.append(_row("parameters that go", [f"{c['params_removed']:.0%}" if c else "" for c in cells]))
        lines.append("")
    return lines


def _bands(bands: dict, scores: dict) -> list[str]:
    """Headline numbers with two draws of the calibration texts."""
    if not bands:
        return []
    lines = [
        "## Two draws of the calibration texts",
        "",
        f"Each cell: the least and the most of two draws of {CALIBRATION} calibration texts, in brackets their mean as a share "
        "of the dense score.",
        "A change of one point on SST-2 is nine sentences, on MRPC four pairs: what lies within a band is no difference.",
        "",
        _head("task and recipe", BANDS),
        _rule(len(BANDS)),
    ]
    for task in TASKS:
        for name in HEADLINES:
            drawn = [[bands.get(f"{task} {name} {seed} {s:g}") for seed in (0, SECOND_SEED)] for s in BANDS]
            if any(None not in pair for pair in drawn):
                lines.append(_row(f"{NAMES[task]}, `{name}`", [_band(pair, scores[f"{task} dense"]) for pair in drawn]))
    return [*lines, ""]


def _band(pair: Sequence[float | None], dense: float) -> str:
    values = [one for one in pair if one is not None]
    if len(values) < 2:
        return ""
    return f"{min(values):.3f} to {max(values):.3f} ({mean(values) / dense:.1%})"


def _peers(peers: dict) -> list[str]:
    """Whether labels would help where little is pruned."""
    if not peers:
        return []
    first = next(iter(peers.values()))
    texts = {name: f"{first[name]['texts']:,}" for name in first}
    lines = [
        "## Beside a method that sees labels",
        "",
        f"Accuracy on {NAMES[CHOSEN_ON]} of `best` and of torch-pruning's Taylor importance, whose gradients are those of the "
        f"labelled loss on the same {CALIBRATION} calibration texts; of its three ways to cut the one that is best on that "
        "set.",
        f"Paired: the same texts, `best` minus the peer, with a 95 % interval. {texts['dev']} development, {texts['test']} "
        f"test and {texts['unseen']} training sentences that neither has seen (the dense model was trained on these).",
        "",
        "| parameters that go | texts | dense | `best` | Taylor | difference |",
        "|---|---|---|---|---|---|",
    ]
    there = [share for share in LIGHT if f"{share:g}" in peers]
    for share, (name, said) in product(there, (("dev", "development"), ("test", "test"), ("unseen", "training, unseen"))):
        one = peers[f"{share:g}"][name]
        interval = f"{one['difference']:+.3f} ({one['low']:+.3f} to {one['high']:+.3f})"
        lines.append(_row(f"{share:.0%}", [said, *(_number(one[key]) for key in ("dense", "ours", "peer")), interval]))
    return [
        *lines,
        "",
        "On the development set alone the peer can look better, by less than its noise; on more texts it is behind, the more "
        "so the more goes.",
        "",
    ]


def _sizes(found: dict) -> list[str]:
    """What more calibration texts are good for, on texts that none of the calibrations has seen."""
    if not found:
        return []
    columns = [(name, s) for name in HEADLINES for s in HERE]
    lines = [
        "## How many calibration texts",
        "",
        f"Relative squared error of the outputs with the dense model, and accuracy, on {UNSEEN:,} training sentences of "
        f"{NAMES[CHOSEN_ON]} that none of the calibrations has seen (the dense model, which was trained on them: "
        f"{found['dense']:.3f}).",
        "With few texts a solution fits them and not the next ones: what guards against it is the ridge λ, chosen for each "
        "matrix by the error on every fifth text, which the candidates have not seen, and which pulls `refit` towards the "
        "weights that it started from.",
        "Layers allotted by losses measured at seven levels.",
        "",
        "| texts |" + "".join(f" `{name}` {s:.0%} |" for name, s in columns),
        _rule(len(columns)),
    ]
    for size in SIZES:
        cells = [found.get(f"{CHOSEN_ON} {name} {size} {s:g}") for name, s in columns]
        if any(cells):
            lines.append(_row(f"{size:,}", [f"{c['error']:.4f} ({c['score']:.3f})" if c else "" for c in cells]))
    return [*lines, ""]


def _candidates(choice: dict, candidates: Sequence[str]) -> list[str]:
    columns = [(CHOSEN_ON, s) for s in HERE]
    lines = [
        "## Candidates for `best`",
        "",
        f"Relative squared error of the outputs (and agreement of the answers) with the dense model, on {HELD_OUT} training "
        f"sentences of {NAMES[CHOSEN_ON]} that do not calibrate, at 50 and 80 %; each differs from `best` in one.",
        "",
        "| candidate |" + "".join(f" {NAMES[task]} {s:.0%} |" for task, s in columns),
        _rule(len(columns)),
    ]
    for name in candidates:
        cells = [choice.get(f"{task} {name} {s:g}") for task, s in columns]
        if any(cells):
            lines.append(_row(name, [_distance(cell) for cell in cells]))
    return lines


def _head(first: str, sparsities: Sequence[float]) -> str:
    return _row(first, [f"{s:.0%}" for s in sparsities])


def _rule(columns: int) -> str:
    return "|---" * (columns + 1) + "|"


def _row(first: str, cells: Sequence[str]) -> str:
    return f"| {first} |" + "".join(f" {cell} |" for cell in cells)


def _number(score: float | None) -> str:
    return "" if score is None else f"{score:.3f}"


def _distance(choice: dict | None) -> str:
    if choice is None:
        return ""
    return f"{choice['error']:.4f}" + ("" if choice["agreement"] is None else f" ({choice['agreement']:.1%})")
