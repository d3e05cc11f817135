"""`python -m benchmarks.language_models MODEL`: perplexity on WikiText-2 without fine-tuning, ours and others'.

    MODEL        a folder with a language model and its tokeniser (Llama-style: the peers cut such layers)
    --parts      scores: every line of `LINES` at every share of the linear parameters, on the test text
                 choice: candidates for `best`, on training text that calibrates nothing
                 "":     nothing: the page is only written anew from the JSON file
    --only       names of lines or candidates, with commas between them
    --shares     shares of the linear parameters, with commas between them

All lines are calibrated on the same windows of the training text, scored on the same windows of the test text (`WINDOWS`,
`LENGTH`, `TOKENS` below; windows are drawn with seed 0, words with the windows' own numbers) and counted alike: what is left of
the six matrices of every layer. Each number is in docs/language_models_results.json and on the page as soon as it is there, and
none is measured twice: an interrupted run goes on where it was. `VP_SHARED` says where the data are.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from benchmarks.language_models_page import CANDIDATES, LENGTH, LINES, SHARES, TOKENS, WINDOWS, page
from benchmarks.language_models_peers import PEERS
from benchmarks.pages import shared, write
from vp_core.asking.evaluate import score
from vp_core.ground.work import work
from vp_core.opening.study import open_study
from vp_core.recipes import Recipe
from vp_core.squeezing.cost import parameters
from vp_core.study import Study

ROOT = Path(__file__).parent.parent
JSON, PAGE = ROOT / "docs" / "language_models_results.json", ROOT / "docs" / "language_models_results.md"
PARTS = ("scores", "choice")
HELD_OUT = 0.1
"""The last tenth of the training text: what candidates are compared on."""


def main(arguments: list[str]) -> int:
    """Measure what is asked and not there yet; the number of lines that failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.language_models")
    parser.add_argument("model", help="a folder with a language model")
    parser.add_argument("--parts", default=",".join(PARTS), help="parts, with commas between them")
    parser.add_argument("--only", default="", help="names of lines or candidates, with commas between them")
    parser.add_argument("--shares", default=",".join(map(str, SHARES)), help="shares that go, with commas between them")
    asked = parser.parse_args(arguments)
    parts, only = [part for part in asked.parts.split(",") if part], [name for name in asked.only.split(",") if name]
    known = (*LINES, *CANDIDATES)
    if unknown := [*(p for p in parts if p not in PARTS), *(name for name in only if name not in known)]:
        parser.error(f"{unknown[0]!r} is neither a part ({', '.join(PARTS)}) nor a line ({', '.join(known)})")
    found = {part: {} for part in ("about", *PARTS)} | (json.loads(JSON.read_text()) if JSON.exists() else {})
    found["about"] |= _about(asked.model)
    failed = 0
    for part in parts:
        names = [name for name in (LINES if part == "scores" else CANDIDATES) if not only or name in only]
        failed += _measure(part, asked.model, names, [float(share) for share in asked.shares.split(",")], found)
    write(found, JSON, PAGE, page(found))
    return failed


def _measure(part: str, model: str, names: list[str], shares: list[float], found: dict) -> int:
    wanted = [(name, share) for name in names for share in shares if f"{name} {share:g}" not in found[part]]
    if not wanted:
        return 0
    study, failed = _study(model, part), 0
    if "dense" not in found[part]:
        found[part]["dense"] = _score(study, study.model, 0.0, time.perf_counter())
    for name, share in wanted:
        try:
            with work(hear=lambda text: print(f"    {text}", file=sys.stderr, flush=True)):
                made = _makers()[name](study, share)
                found[part][f"{name} {share:g}"] = made
            print(f"{part}: {name} {share:g}: {made}", flush=True)
        except Exception as error:  # whatever it is: the lines behind it are still to be measured
            print(f"{part}: {name} {share:g} failed: {error!r}", file=sys.stderr, flush=True)
            failed += 1
        write(found, JSON, PAGE, page(found))
    return failed


def _makers() -> dict[str, Callable[[Study, float], dict]]:
    recipes = {name: one for name, one in (LINES | CANDIDATES).items() if isinstance(one, Recipe)}
    return {name: lambda study, share, one=one: _by_recipe(study, one, share) for name, one in recipes.items()} | {
        name: lambda study, share, make=make: _by_peer(study, make, share) for name, make in PEERS.items()
    }


def _by_recipe(study: Study, recipe: Recipe, share: float) -> dict:
    """By parameters whatever the recipe counts: of `paper`, which takes a share of rows, the one that leaves as many."""
    start = time.perf_counter()
    sparsity = share
    if recipe.budget != "parameters":
        low, high = 0.0, 1.0
        for _ in range(12):
            sparsity = (low + high) / 2
            low, high = (sparsity, high) if study.cost(recipe, sparsity).share_removed < share else (low, sparsity)
    return _score(study, study.squeezed(recipe, sparsity), study.cost(recipe, sparsity).share_removed, start)


def _by_peer(study: Study, make: Callable, share: float) -> dict:
    start = time.perf_counter()
    return _score(study, *make(study, share), start)


def _score(study: Study, model: torch.nn.Module, gone: float, start: float) -> dict:
    """The score of a model, the share of the linear parameters that went, and the seconds since `start` until it was there."""
    seconds = time.perf_counter() - start
    found = score(model, study.question)
    return {
        "perplexity": round(found.value, 3), "low": round(found.low, 3), "high": round(found.high, 3), "tokens": found.n,
        "removed": round(gone, 4), "parameters": parameters(model), "seconds": round(seconds, 1),
    }  # fmt: skip


def _study(model: str, part: str) -> Study:
    """The model on WikiText-2: its test text, or the end of its training text that then calibrates nothing."""
    data, how = shared() / "data" / "wikitext-2", {"calibration": WINDOWS, "max_length": LENGTH, "most_tokens": TOKENS}
    if part == "scores":
        return open_study(model, "wikitext-2", data, **how)
    with _split(data / "train.txt") as folder:
        return open_study(model, "text", folder, **how)


def _split(path: Path) -> "tempfile.TemporaryDirectory[str]":
    text = path.read_text(encoding="utf-8")
    end = text.rfind("\n", 0, round(len(text) * (1 - HELD_OUT))) + 1
    folder = tempfile.TemporaryDirectory()
    for name, part in (("train.txt", text[:end]), ("test.txt", text[end:])):
        (Path(folder.name) / name).write_text(part, encoding="utf-8")
    return folder


def _about(model: str) -> dict:
    """Where it was measured, and on what."""
    processor = next((line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "")
    return {
        "model": Path(model).name, "processor": processor or platform.processor(), "cores": os.cpu_count(),
        "torch": torch.__version__, "windows": WINDOWS, "length": LENGTH, "tokens": TOKENS,
    }  # fmt: skip


def _lines(path: str) -> Iterator[str]:
    return iter(Path(path).read_text().splitlines() if Path(path).exists() else [])


if __name__ == "__main__":
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    sys.exit(min(main(sys.argv[1:]), 1))
