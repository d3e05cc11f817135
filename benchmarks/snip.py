"""`python -m benchmarks.snip [--runs DIR] [names]`: iterative identity pruning with and without spectral normalisation.

Runs the table's runs (or those whose names are given, such as sst2-joint-sn) in DIR, one folder each, goes on where they were
stopped, keeps their logs in docs/runs, and writes docs/identity_results.md from all of these. The checkpoints and data are
those that VP_SHARED names.
"""

import argparse
import os
import shutil
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.identity import AT, summary
from vp_core.asking.batches import Batch, make_batches
from vp_core.asking.evaluate import score
from vp_core.ground.store import DEMO_DIR, atomic
from vp_core.identity.readings import PAPER, paper_schedule
from vp_core.identity.settings import SnipSettings
from vp_core.identity.snip import Material, run_snip
from vp_core.identity.spectral import rescaled
from vp_core.identity.spectral_start import nearest
from vp_core.measuring.function_norms import collect_norms
from vp_core.opening.study import open_study
from vp_core.running.lessons import lessons_of
from vp_core.training.run_folder import LOG, read_log
from vp_core.training.schedule import Schedule

DOCS = Path(__file__).parent.parent / "docs"
RESULTS = DOCS / "identity_results.md"
SHORT = Schedule(examples=3072, lr=1e-4)
"""One short epoch, with the paper's learning rate (its table 3)."""
PAIRS = replace(SHORT, examples=1536)
"""MRPC's pairs are five times as long."""
ITERATIONS = {"joint": 12, "heads": 6, "ffn": 6, "attention": 6, "layers": 6, "separate": 10}
PAPER_ITERATIONS, EXAMPLES = 6, 8192
"""So often blocks may leave in runs with the paper's readings, and so many of SST-2's 67,349 training texts they have."""
FEW = 4
"""Heads an iteration, where a joint run is to take feed-forward networks rather than heads."""
TITLES = {"sst2": "SST-2 (accuracy)", "mrpc": "MRPC (accuracy)", "demo": "Demo (accuracy)"}
SHIPPED = ("demo-joint", "demo-joint-sn")
"""Runs whose logs come with the demo, for the page Sub-layers."""


def settings(task: str, mode: str, variants: Collection[str] = ()) -> SnipSettings:
    """Those of one run of the table. Variants: `sn`; `few` heads at a time; `long`, which on SST-2 begins as `sn` does;
    `paper`, the paper's readings, k and table 3, on SST-2 with fewer texts."""
    if "paper" in variants:
        schedule = paper_schedule(epochs=3 if task == "mrpc" else 1)
        schedule = replace(schedule, examples=EXAMPLES) if task == "sst2" else schedule
        one = SnipSettings(mode=mode, iterations=PAPER_ITERATIONS, schedule=schedule, readings=PAPER)
        return replace(one, sn=5.0) if "sn" in variants else one
    heads = FEW if "few" in variants else 12 if mode in ("joint", "heads", "ffn") else 1
    schedule = PAIRS if task == "mrpc" else SHORT
    one = SnipSettings(mode=mode, iterations=ITERATIONS[mode], k=(heads, 1), least_share=0.05, schedule=schedule)
    if task == "mrpc":
        one = replace(one, begin=replace(SHORT, examples=None))
    if task == "sst2" and {"sn", "long"} & {*variants}:
        one = replace(one, begin=replace(SHORT, examples=24_000))
    return replace(one, sn=5.0) if "sn" in variants else one


def names() -> list[str]:
    """All runs: figs. 3 and 5."""
    first = [f"{task}-{mode}{sn}" for task in ("sst2", "mrpc") for mode in ("joint", "heads", "ffn") for sn in ("", "-sn")]
    return [
        *first,
        "sst2-joint-long",
        "sst2-joint-few",
        *(f"sst2-{mode}" for mode in ("attention", "layers", "separate")),
        *(f"{task}-joint-paper{sn}" for task in ("mrpc", "sst2") for sn in ("", "-sn")),
        *SHIPPED,
    ]


def main(chosen: list[str], folder: Path) -> None:
    shared = Path(os.environ.get("VP_SHARED", "../shared"))
    for name in chosen:
        task, mode, *more = name.split("-")
        model, data = str(shared / "models" / f"minilm-{task}"), str(shared / "data")
        study = open_study() if task == "demo" else open_study(model, task, data)
        lessons = lessons_of(study, task, None if task == "demo" else data)
        material = Material(
            study.model, lessons, study.calibration, study.question, study.loaded.fingerprint, study.loaded.tokenizer
        )
        for row in run_snip(material, settings(task, mode, more), folder / name, tell=print):
            print(f"{name} {row['iteration']}: {row['share_pruned']:.1%} pruned, {row['value']:.4f}", flush=True)
            if (folder / name / LOG).is_file():
                keep(folder / name / LOG, name)
    with atomic(RESULTS) as temporary:
        temporary.write_text(page(kept()))


def spread(task: str) -> str:
    """Fig. 2 in numbers, nothing trained: smallest and largest mean norm of FFNs and heads over calibration texts, and their
    ratio, of the checkpoint as it is, of λW/σ(W) and of the nearest matrices of norm λ = 5."""
    shared = Path(os.environ.get("VP_SHARED", "../shared"))
    study = open_study(str(shared / "models" / f"minilm-{task}"), task, str(shared / "data"))
    texts = study.calibration

    def batches() -> list[Batch]:
        return make_batches(texts, range(len(texts)))

    models = {"as it is": study.model, "λW/σ(W)": rescaled(study.model), "nearest": nearest(study.model, batches())}
    rows = ["| weights | FFNs | ratio | heads | ratio | accuracy |", "|---|---|---|---|---|---|"]
    for name, model in models.items():
        norms, cells = collect_norms(model, batches()), list[str]()
        for kind in ("ffn", "head"):
            means = [mean for block, mean in norms.means().items() if block.kind == kind]
            cells += [f"{min(means):.3g} to {max(means):.3g}", f"{max(means) / min(means):.1f}"]
        rows.append(f"| {name} | {' | '.join(cells)} | {score(model, study.question).value:.4f} |")
    return "\n".join(rows)


def keep(log: Path, name: str) -> None:
    """Put a run's log where it is read again: the demo's beside the demo, for the page Sub-layers, the others in docs/runs."""
    place = DEMO_DIR / "runs" / f"{name.removeprefix('demo-')}.json" if name in SHIPPED else DOCS / "runs" / f"{name}.json"
    place.parent.mkdir(exist_ok=True)
    with atomic(place) as temporary:
        shutil.copy(log, temporary)


def kept() -> dict[str, dict[str, Any]]:
    """All logs that were kept, by the names of their runs."""
    found = {log.stem: log for log in (DOCS / "runs").glob("*.json")}
    found |= {f"demo-{log.stem}": log for log in (DEMO_DIR / "runs").glob("*.json")}
    return {name: read_log(found[name]) for name in sorted(found)}


def page(logs: Mapping[str, Mapping[str, Any]]) -> str:
    """The document: for each task what its runs keep."""
    parts = [_HEAD]
    for task, title in TITLES.items():
        mine = {name.removeprefix(f"{task}-"): log for name, log in logs.items() if name.startswith(f"{task}-")}
        if mine:
            parts += [f"## {title}\n", _table(summary(mine), mine), *map(_course, mine, mine.values()), ""]
    return "\n".join(parts)


def _table(found: pd.DataFrame, logs: Mapping[str, Mapping[str, Any]]) -> str:
    rows = [
        "| run | dense | dense, fine-tuned once | at most 1 point lost | its score | at 50 % | at 75 % | pruned to | minutes |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for one in found.to_dict("records"):
        log = logs[str(one["run"])]["rows"]
        minutes = sum(row["seconds"] for row in log) / 60
        shares = {at: _score_at(log, at) for at in AT}
        rows.append(
            f"| {str(one['run']).replace('-sn', ' + SN')} | {one['given']:.4f} | {log[0]['value']:.4f} | "
            f"{_percent(one['within a point'])} | {_number(one['its score'])} | {shares[AT[0]]} | {shares[AT[1]]} | "
            f"{one['pruned to']:.1%} | {minutes:.0f} |"
        )
    return "\n".join(rows) + "\n"


def _course(name: str, log: Mapping[str, Any]) -> str:
    """Every iteration of a run: share pruned and score."""
    if "readings" in log["settings"]:
        return "\n".join([f"- {name.replace('-sn', ' + SN')}, with 95 % intervals:", *map(_in_words, log["rows"])])
    points = ", ".join(f"{row['share_pruned']:.0%} {row['value']:.4f}" for row in log["rows"])
    return f"- {name.replace('-sn', ' + SN')}: {points}"


def _in_words(row: Mapping[str, Any]) -> str:
    """An iteration of a run with the paper's readings: score, what it costs, and how many blocks pass by each reading."""
    flops = f", {row['flops'] / 1e9:.2f} GFLOPs" if "flops" in row else ""
    found = f"{row['share_pruned']:.0%} {row['value']:.4f} ({row['low']:.4f} to {row['high']:.4f}){flops}"
    if "passing" in row:
        of = row["passing"]
        found += (
            f"; {len(row['went'])} blocks went, of {row['batches']} mini-batches by mean {of['mean']['use']} pass θ of use and "
            f"{of['mean']['identity']} of identity, by max {of['max']['use']} and {of['max']['identity']}"
        )
    return f"  - {found}"


def _score_at(log: list[dict[str, Any]], share: float) -> str:
    """The score of the first iteration at or beyond a share, and what share that is."""
    beyond = [row for row in log if row["share_pruned"] >= share]
    return f"{beyond[0]['value']:.4f} ({beyond[0]['share_pruned']:.0%})" if beyond else "–"


def _percent(share: float) -> str:
    return "–" if pd.isna(share) else f"{share:.1%}"


def _number(value: float) -> str:
    return "–" if pd.isna(value) else f"{value:.4f}"


_HEAD = "\n".join((
    "# Iterative identity pruning, measured",
    "",
    "`VP_SHARED=../shared python -m benchmarks.snip --all` makes every run (figs. 3 and 5 of SNIP) and goes on where "
    "it was stopped; here are those that were made.",
    "Start: the fine-tuned MiniLM checkpoints (6 layers, 72 heads, 10.6 M weights in the projections).",
    "Each iteration trains twice on 3,072 training texts (MRPC: 1,536 pairs; AdamW, learning rate 1e-4, batch 32, "
    "bfloat16).",
    "ε is the 12th smallest mean norm of heads and the smallest of FFNs (of attention blocks: the smallest), the "
    "factor of the L1 term 0.01, θ = 0.95; at least 5 % of the weights leave in each iteration.",
    "The first fine-tuning has 3,072 texts, on SST-2 under spectral normalisation (λ = 5) and in the run *joint-long*"
    " 24,000, on MRPC the whole set.",
    "Runs with *paper* in their names have the readings of [SNIP's paper](identity_prior.md#what-the-paper-leaves-open) "
    "and its table 3: k = 1, θ = 0.95, learning rate 1e-4, layer-wise decay 0.8, Adam's ε 1e-6, on MRPC the whole set "
    "three times in each training; nothing leaves but by θ, and they were stopped after as many iterations as are here.",
    "In the run *joint-few* ε is the 4th smallest mean norm of heads.",
    "One seed.",
    "Shares are of the projections' weights (embeddings, biases and classifier do not count); scores are exact, on "
    "the full development set, of the squeezed model.",
    "*Dense* is the checkpoint as it came; the point lost counts from there.",
    "Minutes are of one or two cores of a processor that did other things beside, so they are upper bounds.",
    "The logs are in [runs](runs): give their paths to the page *Sub-layers*, separated by semicolons, and it draws "
    "them.",
    "",
))  # fmt: skip
"""The first lines of the document, a sentence each."""


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "names", nargs="*", help="runs, such as sst2-joint-sn; none writes the document only from what is there"
    )
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the runs' folders")
    parser.add_argument("--all", action="store_true", help="all runs of the table")
    parser.add_argument("--spread", metavar="TASK", help="print the spread of mean norms instead (fig. 2): sst2 or mrpc")
    options = parser.parse_args()
    if options.spread:
        print(spread(options.spread))
        raise SystemExit
    options.runs.mkdir(exist_ok=True)
    main(names() if options.all else options.names, options.runs)
