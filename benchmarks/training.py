"""A training step, dense against squeezed: iterations per second and peak memory, in the form of the paper's table 2.

Dropout on the attention weights is off unless said: with it the two forms are not equal in training, and torch has no fast
attention on processors. Dropout elsewhere is BERT's 10 %.

`python -m benchmarks.training` writes docs/table2.json and the tables made of it in docs/speed.md; with `--sizes` only what
needs no clock, on any machine. Each cell is a process of its own, so that its peak memory is its own.
"""

import argparse
import json
import platform
import resource
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from transformers import PreTrainedModel

from benchmarks import table2_page
from benchmarks.measure import line
from benchmarks.shapes import FORMS, bert_base, bert_large, squeezed
from vp_core.model.projections import layer_paths
from vp_core.squeezing.cost import flops_per_token, parameters
from vp_core.squeezing.timing import random_texts, take_turns

SHAPES = {"base": bert_base, "large": bert_large}
LENGTH, SPARSITY, STEPS = 384, 0.5, 3
RESULT = Path(__file__).parent.parent / "docs" / "table2.json"


def stepper(model: PreTrainedModel, batch: int, device: str):
    """One step of fine-tuning with AdamW on random texts: forward, backward, update."""
    model = model.train().requires_grad_(True).to(device)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-5)
    inputs = random_texts(model.config, batch, LENGTH)
    if type(model).__name__.endswith("QuestionAnswering"):
        labels = {"start_positions": torch.arange(batch), "end_positions": torch.arange(batch) + 5}
    else:
        labels = {"labels": torch.zeros(batch, dtype=torch.long)}
    inputs = {name: value.to(device) for name, value in {**inputs, **labels}.items()}

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        model(**inputs).loss.backward()
        optimiser.step()
        if device == "cuda":
            torch.cuda.synchronize()

    return step


def cell(shape: str, form: str, batch: int, device: str, attention_dropout: float = 0.0) -> dict[str, float]:
    """Iterations per second, and peak memory in GB: what the process grew by, or what was allocated on the accelerator."""
    before = _resident()
    model = FORMS[form](SHAPES[shape](attention_dropout), SPARSITY)
    step = stepper(model, batch, device)
    del model
    seconds = []
    for i in range(STEPS + 1):
        start = time.perf_counter()
        step()
        if i:
            seconds.append(time.perf_counter() - start)
    peak = torch.cuda.max_memory_allocated() if device == "cuda" else _peak() - before
    return {"it_per_second": 1 / statistics.median(seconds), "gigabytes": peak / 1e9}


def _resident() -> int:
    """Bytes of memory in use now; from here on the peak is counted anew, where the kernel can (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * resource.getpagesize()


def _peak() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def in_process(shape: str, form: str, batch: int, device: str, attention_dropout: float = 0.0) -> dict[str, float]:
    """`cell` in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.training", "--cell", shape, form, str(batch), device]
    command.append(str(attention_dropout))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return json.loads(done.stdout.splitlines()[-1])
    if done.returncode == -signal.SIGKILL or "out of memory" in done.stderr or "can't allocate memory" in done.stderr:
        return {"it_per_second": float("nan"), "gigabytes": float("nan")}  # as in the paper
    raise RuntimeError(f"{shape} {form} at batch {batch}: {done.stderr[-2000:]}")


def run() -> None:
    """The targets: batch 4, length 384, BERT-base shape."""
    for dropout in (0.0, 0.1):
        _targets(dropout)


def _targets(dropout: float) -> None:
    dense = bert_base(dropout)
    steps = {"dense": stepper(dense, 4, "cpu"), "squeezed": stepper(squeezed(bert_base(dropout), SPARSITY), 4, "cpu")}
    *_, seconds = take_turns(steps, repeats=5)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    del steps, dense
    name = f"training step, BERT-base shape, batch 4, length {LENGTH}, {SPARSITY:.0%}, attention dropout {dropout:g}"
    target = ">= 1.85" if dropout else ">= 1.9"
    line(f"{name}: iterations per second, squeezed / dense", medians["dense"] / medians["squeezed"], "x", target)
    memory = {form: in_process("base", form, 4, "cpu", dropout)["gigabytes"] for form in ("dense", "squeezed")}
    line(f"{name}: peak memory, squeezed / dense", memory["squeezed"] / memory["dense"], "x", "<= 0.70")


def table(batches: tuple[int, ...], shape: str = "large") -> dict[str, object]:
    """Table 2 of the paper on what is at hand, these batches of its 1 to 4: GB and iterations per second."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    hardware = torch.cuda.get_device_name() if device == "cuda" else f"{torch.get_num_threads()} cores, {_processor()}"
    rows = []
    for batch in batches:
        row: dict[str, object] = {"batch": batch}
        for form in FORMS:
            row[form] = in_process(shape, form, batch, device)
        rows.append(row)
        print(f"  batch {batch}: {row}", flush=True)
    return {"shape": f"BERT-{shape}", "length": LENGTH, "sparsity": SPARSITY, "hardware": hardware, "torch": torch.__version__,
            "optimiser": "AdamW", "attention_dropout": 0.0, "precision": "float32", "rows": rows}  # fmt: skip


def _processor() -> str:
    names = [x for x in Path("/proc/cpuinfo").read_text().splitlines() if x.startswith("model name")]
    return names[0].split(":")[1].strip() if names else platform.machine()


def _kept() -> dict[str, list]:
    return json.loads(RESULT.read_text()) if RESULT.exists() else {"sizes": [], "measured": []}


def _keep(kept: dict[str, list]) -> None:
    RESULT.write_text(json.dumps(kept, indent=1) + "\n")
    table2_page.write(kept)
    print(f"  written to {RESULT} and {table2_page.PAGE}")


def sizes(shape: str = "large") -> list[dict[str, object]]:
    """What needs no clock: parameters, FLOPs and the bytes of weights, gradients and AdamW's two moments, by form."""
    found: list[dict[str, object]] = []
    for form, make in FORMS.items():
        model = make(SHAPES[shape](), SPARSITY).requires_grad_(True)
        layers = [model.get_submodule(path) for _, path in layer_paths(model)]
        found.append({
            "shape": f"BERT-{shape}", "form": form, "sparsity": SPARSITY, "parameters": parameters(model),
            "parameters_of_layers": sum(parameters(layer) for layer in layers),
            "gflops": flops_per_token(model, LENGTH) * LENGTH / 1e9,
            "state_gigabytes": 16 * sum(p.numel() for p in model.parameters() if p.requires_grad) / 1e9,
        })  # fmt: skip
        print(f"  {found[-1]}", flush=True)
        del model
    return found


def write_sizes() -> None:
    """Count table 2's models and keep the numbers; what was measured there stays."""
    _keep(_kept() | {"sizes": sizes()})


def write_table(batches: tuple[int, ...]) -> None:
    """Measure table 2 and keep it, one entry for each hardware."""
    new = table(batches)
    kept = _kept()
    kept["measured"] = [t for t in kept["measured"] if t["hardware"] != new["hardware"]] + [new]
    _keep(kept)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--cell", nargs=5, metavar=("SHAPE", "FORM", "BATCH", "DEVICE", "DROPOUT"))
    parser.add_argument("--sizes", action="store_true", help="only count what needs no clock")
    parser.add_argument("--batches", default="1,2,3,4", help="of table 2, by commas (default: all four)")
    options = parser.parse_args()
    if options.cell:
        shape, form, batch, device, dropout = options.cell
        print(json.dumps(cell(shape, form, int(batch), device, float(dropout))))
    elif options.sizes:
        write_sizes()
    else:
        write_table(tuple(int(part) for part in options.batches.split(",")))
