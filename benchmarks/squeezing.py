"""Dense against squeezed forward passes: does time follow FLOPs, and what is lost to what?"""

from contextlib import AbstractContextManager, nullcontext
from unittest.mock import patch

import torch
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

from benchmarks.measure import alternating, line
from benchmarks.shapes import bert_base, random_plan, squeezed
from vp_core.asking.evaluate import score
from vp_core.model import products
from vp_core.model.products import other_library, product
from vp_core.model.projections import find_layers
from vp_core.model.sharing import share
from vp_core.recipes import RECIPES, Recipe
from vp_core.replacing.prune import prune
from vp_core.squeezing.cost import cost
from vp_core.squeezing.squeeze import squeeze
from vp_core.squeezing.timing import all_cores, random_texts
from vp_core.study import Study

BATCH, LENGTH = 8, 128
TARGETS = {0.3: ">= 90 % of the limit", 0.5: ">= 85 % of the limit", 0.7: ">= 80 % of the limit"}
SHAPES = ((768, 3072), (768, 768), (768, 400), (768, 208), (400, 400), (384, 192))
"""Inputs and outputs of products as they are in a BERT-base and in what is left of it."""
_PARTS = {
    "matrix products": ("mkldnn::_linear_pointwise", "aten::addmm", "aten::mm"),
    "attention": ("aten::_scaled_dot_product_flash_attention_for_cpu", "aten::bmm", "aten::_softmax"),
    "rows put in place, copies": ("aten::scatter", "aten::gather", "aten::copy_", "aten::cat", "aten::index_select"),
    "activation, norms, residual sums": ("aten::gelu", "aten::native_layer_norm", "aten::add"),
}


def torchs_own() -> AbstractContextManager[object]:
    """While open, matrices are multiplied as torch does by itself."""
    return patch.object(products, "other_library", lambda: False)


def run(study: Study) -> None:
    with all_cores():
        _roofline()
        _bert_base()
    _own_plans(study)


def _roofline() -> None:
    """What this machine can do: products of the shapes that come up, and memory."""
    texts = BATCH * LENGTH
    print(f"products in float32 by {'oneDNN' if other_library() else 'torch as it is'}, {texts} tokens")
    with torch.inference_mode():
        for inputs, outputs in SHAPES:
            x, weight, bias = torch.randn(texts, inputs), torch.randn(outputs, inputs), torch.randn(outputs)
            found = alternating(
                {
                    "here": lambda x=x, weight=weight, bias=bias: product(x, weight, bias),
                    "torch": lambda x=x, weight=weight, bias=bias: F.linear(x, weight, bias),
                },
                repeats=15,
            )
            rate = {name: 2e-9 * texts * inputs * outputs / seconds for name, seconds in found.items()}
            line(f"  {inputs} to {outputs} (torch as it is: {rate['torch']:.0f})", rate["here"], "GFLOP/s", "-")
        large, small = torch.randn(64_000_000), torch.randn(texts, 768)
        copies = alternating({"large": large.clone, "small": small.clone}, repeats=9)
        for name, one in (("large", large), ("small", small)):
            size = one.numel() * one.element_size()
            line(f"  a copy of {size / 1e6:.0f} MB, read and written", 2e-9 * size / copies[name], "GB/s", "-")


def _bert_base() -> None:
    dense = bert_base()
    layers, inputs = find_layers(dense), random_texts(dense.config, BATCH, LENGTH)
    models = {"dense": share(dense), **{str(s): squeezed(dense, s) for s in (0.0, *TARGETS)}}
    products.use_products(models["dense"])

    def forward(model, own):
        def run() -> None:
            with torch.inference_mode(), torchs_own() if own else nullcontext():
                model(**inputs)

        return run

    kinds = (False, True) if other_library() else (True,)
    seconds = alternating({(name, own): forward(m, own) for own in kinds for name, m in models.items()}, repeats=9)
    for own in kinds:
        name = f"BERT-base shape, {BATCH} x {LENGTH}, products by {'torch as it is' if own else 'oneDNN'}"
        for sparsity, target in TARGETS.items():
            ratio = seconds["dense", own] / seconds[str(sparsity), own]
            limit = cost(layers, random_plan(dense, sparsity)).speed_limit(LENGTH)
            line(f"{name}, {sparsity:.0%} (limit {limit:.2f}, {ratio / limit:.0%} of it)", ratio, "x", target)
        line(f"{name}: nothing removed / dense", seconds["0.0", own] / seconds["dense", own], "x", "<= 1.05")
    if len(kinds) == 2:
        for sparsity in TARGETS:
            ratio = seconds["dense", True] / seconds[str(sparsity), False]
            line(f"BERT-base shape, {sparsity:.0%}, oneDNN / dense as transformers runs it", ratio, "x", "-")
    for name in ("dense", *map(str, TARGETS)):
        print(f"  where time goes, {name}: {_parts(forward(models[name], False))}")

    plan = random_plan(dense, 0.5)
    constants = {n: torch.zeros(len(keep)) for n, keep in plan.keep.items()}
    made = alternating({"both": lambda: squeeze(prune(dense, plan, constants), plan)}, repeats=3)
    line("prune and squeeze BERT-base at 50 %", made["both"], "s", "<= 1.5")


def _parts(run) -> str:
    """Milliseconds of a pass by what takes them, of five under torch's profiler."""
    run()
    with profile(activities=[ProfilerActivity.CPU]) as found:
        for _ in range(5):
            run()
    by_name = {event.key: event.self_cpu_time_total / 5e3 for event in found.key_averages()}
    parts = {part: sum(by_name.pop(name, 0.0) for name in names) for part, names in _PARTS.items()}
    return ", ".join(f"{part} {ms:.1f} ms" for part, ms in (parts | {"rest": sum(by_name.values())}).items())


def _own_plans(study: Study) -> None:
    """The checkpoint's own plans, on its own development set: half of the rows, half of the parameters."""
    recipes = {"variance 50 %": (Recipe(), ">= 2.1"), "best 50 %": (RECIPES["best"], ">= 1.8, equal score")}
    for what, (recipe, target) in recipes.items():
        small, limit = study.squeezed(recipe, 0.5), study.cost(recipe, 0.5).speed_limit(32)
        for precision in ("float32", "bfloat16", "int8"):
            scores = {}

            def evaluated(model, name, precision=precision, scores=scores):
                scores[name] = score(model, study.question, precision).value

            runs = {
                "dense": lambda: evaluated(study.model, "dense"),
                "squeezed": lambda small=small: evaluated(small, "squeezed"),
            }
            seconds = alternating(runs, repeats=5)
            name = f"{study.loaded.name.rsplit('/', 1)[-1]}, {what}, dev set, {precision} (limit {limit:.2f})"
            line(name, seconds["dense"] / seconds["squeezed"], "x", target if precision == "float32" else "-")
            print(f"  scores {scores}, seconds {seconds}")
            if precision == "float32" and other_library():
                with torchs_own():
                    own = alternating(runs, repeats=5)
                line(f"{name}, torch's own products", own["dense"] / own["squeezed"], "x", "-")
                line(f"{name}, oneDNN / dense by torch's own", own["dense"] / seconds["squeezed"], "x", "-")
