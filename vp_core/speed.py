"""How fast a model is on this machine: as it came, with its removed rows masked, and squeezed; and what single zeros save."""

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel

from vp_core.ground.errors import VPError
from vp_core.ground.patterns import BLOCK
from vp_core.ground.work import checkpoint
from vp_core.measuring.statistics import Statistics
from vp_core.model.precision import bytes_of, in_precision
from vp_core.model.projections import find_layers
from vp_core.model.scatter import aligned
from vp_core.ranking.criteria import score_neurons
from vp_core.ranking.plan import rank
from vp_core.recipes import Recipe
from vp_core.replacing.prune import prune
from vp_core.squeezing.cost import Cost, flops_per_token, parameters
from vp_core.squeezing.squeeze import squeeze
from vp_core.squeezing.timing import REPEATS, Timing, all_cores, length_of, take_turns, time_forward
from vp_core.study import Study
from vp_core.weights.compressed import compressed_bytes
from vp_core.weights.masks import Masks
from vp_core.weights.matrices import find_matrices, view

SpeedRow = dict[str, Any]
"""One line of a table of speeds: form, sparsity, precision, batch, length, latency with quartiles, sizes."""


@dataclass(frozen=True, eq=False)
class Forms:
    """A model as it came, with its removed rows masked, and squeezed; what the plan takes from it."""

    dense: PreTrainedModel
    masked: PreTrainedModel
    squeezed: PreTrainedModel
    cost: Cost

    def items(self) -> dict[str, PreTrainedModel]:
        """The three models by the names that tables have for them."""
        return {"dense": self.dense, "masked": self.masked, "squeezed": self.squeezed}


def forms_of(study: Study, recipe: Recipe, sparsity: float) -> Forms:
    """The three forms of a study's model at one sparsity."""
    masked = study.pruned(recipe, sparsity)
    return Forms(study.model, masked, study.squeezed(recipe, sparsity), study.cost(recipe, sparsity))


def forms_without_data(model: PreTrainedModel, sparsity: float) -> Forms:
    """Forms of a model nobody has measured on text: rows of the smallest norm (`magnitude`, per type) become zero.

    Good enough to time, since speed does not depend on the constants; its answers mean nothing.
    """
    layers = find_layers(model)
    projections = [p for layer in layers for p in layer.projections.values()]
    nothing = Statistics({}, None, "", "")
    plan = rank(score_neurons("magnitude", model, nothing, projections), projections, criterion="magnitude").plan(sparsity)
    masked = prune(model, plan, {p.name: torch.zeros(p.d_out) for p in projections})
    squeezed = squeeze(masked, plan)
    return Forms(model, masked, squeezed, squeezed.squeezed.cost)


def compare(
    forms: Forms,
    sparsity: float,
    batch: int,
    length: int,
    precision: str = "float32",
    repeats: int = REPEATS,
) -> Iterator[list[SpeedRow]]:
    """Rows of the three forms, better with every round; the last list has all repeats.

    Speed-ups are against the dense model in the same precision and the same rounds. Raises VPError for an unknown precision,
    and for a batch or length that cannot be timed.
    """
    models = {name: in_precision(model, precision) for name, model in forms.items().items()}
    for timings in time_forward(models, batch, length, repeats):
        yield [_row(name, sparsity, precision, forms, models[name], timings[name], timings["dense"]) for name in models]


def _row(
    form: str, sparsity: float, precision: str, forms: Forms, run: PreTrainedModel, timing: Timing, dense: Timing
) -> SpeedRow:
    low, high = timing.spread
    model = forms.items()[form]
    return {
        "form": form,
        "sparsity": sparsity if form != "dense" else 0.0,
        "precision": precision,
        "batch": timing.batch,
        "length": timing.length,
        "latency_ms": 1000 * timing.median,
        "low_ms": 1000 * low,
        "high_ms": 1000 * high,
        "texts_per_second": timing.texts_per_second,
        "speedup": dense.median / timing.median,
        "flop_limit": forms.cost.speed_limit(timing.length) if form == "squeezed" else 1.0,
        "parameters": parameters(model),
        "megabytes": bytes_of(run) / 1e6,
        "mflops_per_token": flops_per_token(model, timing.length) / 1e6,
        "repeats": len(timing.seconds),
    }


SPARSE_FORMS = ("dense", "zeros", "CSR", "blocks", "columns", "rows")
"""One layer's linear maps, of which a share of the weights is gone, in what torch has for it:

| form | what is gone | how it is multiplied |
|---|---|---|
| `dense` | nothing | by the dense kernel |
| `zeros` | single weights | by the dense kernel, zeros and all |
| `CSR` | the same single weights | by the kernel for compressed sparse rows |
| `blocks` | blocks of 32 × 32, or of what divides the matrix | by the kernel for block-sparse rows (BSR) |
| `columns` | whole input columns | the others are picked from the input, then the dense kernel |
| `rows` | whole rows | by the dense kernel: a smaller matrix, as squeezing leaves it |
"""
_Run = Callable[[Tensor], Tensor]


def measure_sparse(
    model: PreTrainedModel,
    sparsities: Sequence[float],
    batch: int,
    length: int,
    repeats: int = REPEATS,
    masks: Callable[[float], Masks] | None = None,
    layers: int = 1,
) -> Iterator[list[SpeedRow]]:
    """Rows of the linear maps of the first `layers` layers in SPARSE_FORMS, one sparsity after the other, better each round.

    Inputs are random (batch · length tokens); times are those of the products alone, without attention, norms and whatever else
    a model does. Single weights go by `masks` (sparsity → which stay), else by magnitude in each matrix. `megabytes` are those
    in memory, `disk_megabytes` those of the compressed folder. A form that torch has no kernel for here is left out. Raises
    VPError for a model that is squeezed or not supported, and for a batch, length or sparsity that cannot be.
    """
    if batch < 1 or length < 1 or not all(0 <= sparsity <= 1 for sparsity in sparsities):
        raise VPError("Sparse products are timed on 1 text or more of 1 token or more, at sparsities from 0 to 1.")
    length = length_of(model.config, length)
    matrices = find_matrices(model, layers=find_layers(model)[:layers])
    weights = {matrix.name: view(model, matrix).float().contiguous() for matrix in matrices}
    draw = torch.Generator().manual_seed(0)
    inputs = {
        d_in: torch.randn(batch * length, d_in, generator=draw).to(model.device)
        for d_in in sorted({m.columns for m in matrices})
    }
    for sparsity in sparsities:
        checkpoint()
        kept = masks(sparsity) if masks else None
        given = {n: kept.keep(n).to(model.device) for n in weights if n in kept.bits} if kept is not None else {}
        keep = {n: given[n] if n in given else _largest(w, sparsity) for n, w in weights.items()}
        forms = {name: [_sparse_form(name, w, keep[n], sparsity) for n, w in weights.items()] for name in SPARSE_FORMS}
        forms = {name: maps for name, maps in forms.items() if _runs(maps, weights, inputs)}
        timed = {name: _one_after_the_other(maps, weights, inputs) for name, maps in forms.items()}
        with all_cores():
            for seconds in take_turns(timed, repeats, model.device):
                timings = {name: Timing(batch, length, values) for name, values in seconds.items()}
                yield [_sparse_row(name, sparsity, forms[name], timings[name], timings["dense"]) for name in forms]


def no_semi_structured() -> str:
    """Why 2:4 masks are not multiplied faster here, a sentence; empty where an accelerator can."""
    if not torch.cuda.is_available():
        return (
            "2:4 masks save time on an accelerator that multiplies them (NVIDIA's from compute capability 8.0 on); there is "
            "none here, so this is not measured."
        )
    if torch.cuda.get_device_capability() < (8, 0):
        return "2:4 masks save time on an accelerator of compute capability 8.0 or more; the one here is older."
    return ""


@dataclass(frozen=True, eq=False)
class _Map:
    """One weight in one form: its product, tokens (n, d_in) → (n, rows), its bytes in memory and in a compressed folder."""

    run: _Run
    memory: int
    disk: int


def _sparse_form(form: str, weight: Tensor, keep: Tensor, sparsity: float) -> _Map:
    """`weight` (rows, columns) in a form of SPARSE_FORMS, with `keep` or as large a share of it gone."""
    rows, columns = weight.shape
    if form == "zeros":
        return _dense(weight * keep, int(keep.sum()))
    if form == "CSR":
        return _by_sparse_kernel(weight * keep, None)
    if form == "blocks":
        side = math.gcd(rows, columns, *BLOCK)  # torch multiplies square ones only
        return _by_sparse_kernel(weight * _live_blocks(weight, side, sparsity), side)
    if form == "columns":
        read = _largest(weight.norm(dim=0)[None], sparsity)[0].nonzero().squeeze(1)
        small = weight[:, read].contiguous()
        return _Map(lambda x: F.linear(x.gather(-1, read.expand(len(x), -1)), small), 4 * small.numel(), 4 * small.numel())
    if form == "rows":
        left = rows - round(sparsity * rows)
        small = weight.new_zeros(aligned(left), columns)
        small[:left] = weight[:left]
        return _dense(small, left * columns)
    return _dense(weight, rows * columns)


def _dense(weight: Tensor, kept: int) -> _Map:
    return _Map(lambda x: F.linear(x, weight), 4 * weight.numel(), min(4 * weight.numel(), compressed_bytes(weight, kept)))


def _by_sparse_kernel(weight: Tensor, side: int | None) -> _Map:
    """W xᵀ by torch's kernel, which was two to seven times as fast as its own `linear` on the same sparse matrix."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch calls all of these kernels a beta
        sparse = weight.to_sparse_csr() if side is None else weight.to_sparse_bsr((side, side))
    parts = sparse.crow_indices(), sparse.col_indices(), sparse.values()
    disk = min(4 * weight.numel(), compressed_bytes(weight, int((weight != 0).sum())))
    return _Map(lambda x: (sparse @ x.t()).t(), sum(t.numel() * t.element_size() for t in parts), disk)


def _largest(weight: Tensor, sparsity: float) -> Tensor:
    """Where (any shape) the weights are that stay when this share of them goes, the smallest first."""
    gone = round(sparsity * weight.numel())
    keep = torch.ones(weight.numel(), dtype=torch.bool, device=weight.device)
    keep[weight.abs().flatten().argsort()[:gone]] = False
    return keep.view(weight.shape)


def _live_blocks(weight: Tensor, side: int, sparsity: float) -> Tensor:
    norms = weight.view(len(weight) // side, side, -1, side).square().sum(dim=(1, 3))
    return _largest(norms, sparsity).repeat_interleave(side, 0).repeat_interleave(side, 1)


def _one_after_the_other(maps: list[_Map], weights: dict[str, Tensor], inputs: dict[int, Tensor]) -> Callable[[], object]:
    pairs = [(one.run, inputs[weight.shape[1]]) for one, weight in zip(maps, weights.values(), strict=True)]

    def run() -> None:
        with torch.inference_mode():
            for product, x in pairs:
                product(x)

    return run


def _runs(maps: list[_Map], weights: dict[str, Tensor], inputs: dict[int, Tensor]) -> bool:
    """Whether torch has the kernel here: its sparse ones come with MKL, which not every processor has."""
    few = {d_in: x[:1] for d_in, x in inputs.items()}
    try:
        _one_after_the_other(maps, weights, few)()
    except RuntimeError:
        return False
    return True


def _sparse_row(form: str, sparsity: float, maps: list[_Map], timing: Timing, dense: Timing) -> SpeedRow:
    low, high = timing.spread
    return {
        "form": form,
        "sparsity": sparsity,
        "batch": timing.batch,
        "length": timing.length,
        "latency_ms": 1000 * timing.median,
        "low_ms": 1000 * low,
        "high_ms": 1000 * high,
        "speedup": dense.median / timing.median,
        "megabytes": sum(one.memory for one in maps) / 1e6,
        "disk_megabytes": sum(one.disk for one in maps) / 1e6,
        "repeats": len(timing.seconds),
    }
