"""What single zeros save: bytes on disk, and time in each form that torch has for a masked weight."""

import statistics
import time

import torch

from benchmarks.measure import line
from benchmarks.shapes import bert_base
from vp_core.ground.store import save_tensors
from vp_core.model.projections import find_layers
from vp_core.model.scatter import GATHER_COST
from vp_core.recipes import RECIPES, Recipe
from vp_core.speed import measure_sparse, no_semi_structured
from vp_core.squeezing.folder import load_pruned, save_pruned
from vp_core.squeezing.timing import all_cores, take_turns
from vp_core.study import Study
from vp_core.weights.compressed import bytes_compressed, bytes_dense, bytes_gzip
from vp_core.weights.dead import dead_rows

SHARES = (0.3, 0.5, 0.7, 0.8, 0.9, 0.95)
BATCH, LENGTH = 8, 128


def run(study: Study) -> None:
    for name, model in (("the model", study.model), ("BERT-base shape", bert_base())):
        _products(name, model)
    _gathers()
    _bytes(study)
    _steps(study)


def _products(name, model) -> None:
    """Each form's speed-up by the share of weights gone, a row of a table each."""
    found = {}
    for rows in measure_sparse(model, SHARES, BATCH, LENGTH):
        found[rows[0]["sparsity"]] = rows
    print(f"one layer of {name}, batch {BATCH}, length {LENGTH}, float32: times as fast as dense")
    forms = [row["form"] for row in found[SHARES[0]]]
    print("| gone | " + " | ".join(forms[1:]) + " |\n|---|" + "---|" * len(forms[1:]))
    for share, rows in found.items():
        print(f"| {share:.0%} | " + " | ".join(f"{row['speedup']:.2f}" for row in rows[1:]) + " |")
    print(no_semi_structured() or _semi_structured())


def _semi_structured() -> str:
    """2:4 in half precision on the accelerator at hand, against its dense product."""
    weight = torch.randn(3072, 768, dtype=torch.float16, device="cuda")
    weight = weight * torch.tensor([1, 1, 0, 0], dtype=torch.float16, device="cuda").repeat(192)
    x = torch.randn(BATCH * LENGTH, 768, dtype=torch.float16, device="cuda")
    sparse = torch.sparse.to_sparse_semi_structured(weight)

    def of(matrix):
        def product() -> None:
            torch.nn.functional.linear(x, matrix)
            torch.cuda.synchronize()

        return product

    *_, seconds = take_turns({"dense": of(weight), "2:4": of(sparse)}, 50)
    ratio = statistics.median(seconds["dense"]) / statistics.median(seconds["2:4"])
    return f"2:4 on {torch.cuda.get_device_name()}: {ratio:.2f} times as fast as dense, a product of 3072 x 768"


def _gathers() -> None:
    """What picking an input costs in multiplications: `vp_core.model.scatter.GATHER_COST`."""
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        x, weight = (torch.randn(rows, 768).to(dtype) for rows in (BATCH * LENGTH, 768))
        index = torch.arange(0, 768, 2)
        with torch.inference_mode(), all_cores():
            runs = {
                "gather": lambda: x.gather(-1, index.expand(len(x), -1)),
                "product": lambda: torch.nn.functional.linear(x, weight),
            }  # noqa: B023
            *_, seconds = take_turns(runs, 15)
        picked, multiplied = (statistics.median(seconds[name]) for name in ("gather", "product"))
        cost = picked / len(index) / (multiplied / 768**2)
        line(f"picking one input in {dtype}, in multiplications", cost, "", f"about {GATHER_COST[dtype]}")


def _bytes(study: Study) -> None:
    """Of the checkpoint with its single weights gone by magnitude, and of a layer of random numbers likewise."""
    print("| gone | dense float32 | compressed | gzip of the dense | gzip of the compressed |\n|---|---|---|---|---|")
    for share in SHARES:
        for types in ((), ("word_embeddings",)):
            recipe = Recipe("magnitude", "per matrix", "zero", units=("weights",), types=(*Recipe().types, *types))
            _sizes(f"{share:.0%}{' and of word embeddings' if types else ''}", study.squeezed(recipe, share))
    weights = [p for module in study.model.modules() if isinstance(module, torch.nn.Linear) for p in module.parameters()]
    once = sum(int((p.half().float() == p).sum()) for p in weights) / sum(p.numel() for p in weights)
    print(f"{once:.1%} of its weights have no more digits than 16 bits hold, which gzip finds; not so of random numbers:")
    for share in SHARES:
        layer = bert_base().bert.encoder.layer[0]
        with torch.no_grad():
            for p in (p for p in layer.parameters() if p.dim() == 2):
                p[p.abs() <= p.abs().flatten().kthvalue(round(share * p.numel())).values] = 0
        _sizes(f"{share:.0%} of a layer of BERT-base shape", layer)


def _sizes(name: str, model: torch.nn.Module) -> None:
    sizes = bytes_dense(model), bytes_compressed(model), bytes_gzip(model), bytes_gzip(model, compressed=True)
    print(f"| {name} | {' | '.join(f'{size / 1e6:.1f} MB' for size in sizes)} |", flush=True)


def _steps(study: Study) -> None:
    """Seconds from masks to a folder and back."""
    import tempfile
    from pathlib import Path

    recipe = RECIPES["weights"]
    masks, layers = study.masks(recipe, 0.7), find_layers(study.model)
    start = time.perf_counter()
    dead_rows(layers, masks)
    line("what masks leave wholly zero", time.perf_counter() - start, "s", "-")
    small = study.squeezed(recipe, 0.7)
    with tempfile.TemporaryDirectory() as place:
        start = time.perf_counter()
        save_pruned(small, Path(place) / "small")
        line("saving a sparse folder", time.perf_counter() - start, "s", "-")
        start = time.perf_counter()
        load_pruned(Path(place) / "small")
        line("loading it", time.perf_counter() - start, "s", "-")
        start = time.perf_counter()
        save_tensors(Path(place) / "dense", {n: p.detach().clone() for n, p in small.named_parameters()}, "x", {})
        line("writing the same weights dense", time.perf_counter() - start, "s", "-")
