"""What single zeros save: bytes on disk, and time in each form that torch has for a masked weight."""

import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.measure import line
from benchmarks.shapes import bert_base
from vp_core.ground.store import save_tensors
from vp_core.model.projections import find_layers
from vp_core.model.scatter import GATHER_COST
from vp_core.recipes import RECIPES, Recipe
from vp_core.speed import measure_sparse, no_semi_structured
from vp_core.squeezing.folder import load_pruned, save_pruned
from vp_core.squeezing.timing import all_cores, take_turns, time_forward
from vp_core.study import Study
from vp_core.weights.compressed import bytes_compressed, bytes_dense, bytes_gzip
from vp_core.weights.dead import dead_rows

SHARES = (0.3, 0.5, 0.7, 0.8, 0.9, 0.95)
BATCH, LENGTH = 8, 128


def run(study: Study) -> None:
    for name, model in (("the model", study.model), ("BERT-base shape", bert_base())):
        _products(name, model)
    _gathers()
    _whole(study)
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
    index = torch.arange(0, 768, 2)
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        picked, multiplied = _pick_and_multiply(torch.randn(BATCH * LENGTH, 768).to(dtype), index)
        cost = picked / len(index) / (multiplied / 768**2)
        line(f"picking one input in {dtype}, in multiplications", cost, "", f"about {GATHER_COST[dtype]}")


def _pick_and_multiply(x: torch.Tensor, index: torch.Tensor) -> list[float]:
    """Seconds that picking these inputs takes, and multiplying all of them."""
    weight = torch.randn(x.shape[1], x.shape[1]).to(x.dtype)
    runs = {"pick": lambda: x.gather(-1, index.expand(len(x), -1)), "multiply": lambda: torch.nn.functional.linear(x, weight)}
    with torch.inference_mode(), all_cores():
        *_, seconds = take_turns(runs, 15)
    return [statistics.median(values) for values in seconds.values()]


def _whole(study: Study) -> None:
    """The whole model: what has become wholly zero has left it, single zeros are multiplied."""
    recipes = {
        "single weights, 70 %": (RECIPES["weights"], 0.7),
        "blocks of 32 x 32, global, 50 %": (replace(RECIPES["weights"], units=("blocks",), scope="global"), 0.5),
        "rows, global, 40 %": (replace(RECIPES["weights"], units=("blocks 1xall",), scope="global"), 0.4),
        "input columns of query, key, value, output, 50 %": (replace(RECIPES["coreset top norm"], replacement="zero"), 0.5),
        "input columns of all matrices, 50 %": (replace(RECIPES["weights"], units=("columns",)), 0.5),
    }
    models = {name: study.squeezed(recipe, share) for name, (recipe, share) in recipes.items()}
    *_, timings = time_forward({"dense": study.model, **models}, BATCH, LENGTH)
    print("| gone | weights left | limit | times as fast as dense | MB on disk |\n|---|---|---|---|---|")
    for name, model in models.items():
        cost, ratio = model.squeezed.cost, timings["dense"].median / timings[name].median
        left, limit = 1 - cost.share_removed, cost.speed_limit(LENGTH)
        print(f"| {name} | {left:.0%} | {limit:.2f} | {ratio:.2f} | {bytes_compressed(model) / 1e6:.1f} |", flush=True)


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
