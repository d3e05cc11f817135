"""Dense against squeezed forward passes: does time follow FLOPs?"""

import torch

from benchmarks.measure import alternating, line
from benchmarks.shapes import bert_base, random_plan, squeezed
from vp_core.asking.evaluate import score
from vp_core.model.projections import find_layers
from vp_core.recipes import Recipe
from vp_core.replacing.prune import prune
from vp_core.squeezing.cost import cost
from vp_core.squeezing.squeeze import squeeze
from vp_core.squeezing.timing import random_texts
from vp_core.study import Study

BATCH, LENGTH = 8, 128
TARGETS = {0.3: ">= 85 % of the limit", 0.5: ">= 2.4", 0.7: ">= 65 % of the limit"}


def run(study: Study) -> None:
    dense = bert_base()
    layers, inputs = find_layers(dense), random_texts(dense.config, BATCH, LENGTH)
    models = {"dense": dense, **{str(s): squeezed(dense, s) for s in (0.0, *TARGETS)}}

    def forward(model):
        def run() -> None:
            with torch.inference_mode():
                model(**inputs)

        return run

    seconds = alternating({name: forward(model) for name, model in models.items()}, repeats=9)
    name = f"BERT-base shape, length {LENGTH}, batch {BATCH}, float32"
    for sparsity, target in TARGETS.items():
        ratio = seconds["dense"] / seconds[str(sparsity)]
        limit = cost(layers, random_plan(dense, sparsity)).speed_limit(LENGTH)
        line(f"{name}, {sparsity:.0%}: dense / squeezed (limit {limit:.2f}, {ratio / limit:.0%} of it)", ratio, "x", target)
    line(f"{name}: squeezed with nothing removed / dense", seconds["0.0"] / seconds["dense"], "x", "<= 1.05")

    plan = random_plan(dense, 0.5)
    constants = {n: torch.zeros(len(keep)) for n, keep in plan.keep.items()}
    made = alternating({"both": lambda: squeeze(prune(dense, plan, constants), plan)}, repeats=3)
    line("prune and squeeze BERT-base at 50 %", made["both"], "s", "<= 1.5")
    _own_plan(study)


def _own_plan(study: Study) -> None:
    """The checkpoint's own variance plan, on its own development set."""
    small = study.squeezed(Recipe(), 0.5)
    limit = study.cost(Recipe(), 0.5).speed_limit(32)
    for precision in ("float32", "bfloat16", "int8"):
        scores = {}

        def evaluated(model, name, precision=precision, scores=scores):
            scores[name] = score(model, study.question, precision).value

        seconds = alternating(
            {"dense": lambda: evaluated(study.model, "dense"), "squeezed": lambda: evaluated(small, "squeezed")}, repeats=5
        )
        what = f"{study.loaded.name.rsplit('/', 1)[-1]}, variance 50 %, dev set, {precision}: dense / squeezed"
        target = ">= 1.8" if precision == "float32" else "-"
        line(f"{what} (limit {limit:.2f})", seconds["dense"] / seconds["squeezed"], "x", target)
        print(f"  scores {scores}, seconds {seconds}")
