"""The time a layer takes by the widths of its parts: measured once on a machine for models of one shape, and kept on disk.

All layers are cut alike to a few widths of one part, the other parts whole, and the squeezed model takes turns with the dense
one. What a layer of other widths saves is interpolated; savings of parts are added.
"""

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from vp_core.ground.kept import Kept
from vp_core.ground.parallel import WORKERS
from vp_core.ground.store import atomic, cache_dir, digest
from vp_core.ground.work import say
from vp_core.model.precision import device_of
from vp_core.model.projections import Layer
from vp_core.model.scatter import aligned
from vp_core.ranking.plan import Plan
from vp_core.replacing.prune import prune
from vp_core.squeezing.squeeze import squeeze
from vp_core.squeezing.survivors import Head, TurningHead, survivors
from vp_core.squeezing.timing import time_forward

Points = tuple[tuple[float, float], ...]
_LEVELS = {"heads": (0.0, 0.25, 0.5, 0.75), "width": (0.25, 0.5, 0.75), "ffn": (0.0, 0.125, 0.25, 0.5, 0.75)}
"""Shares of a part that layers are cut to."""
_REPEATS = 7
_TABLES = Kept(most=16)


@dataclass(frozen=True)
class Widths:
    """What is left of a layer as it is multiplied, padding and all, in shares of the dense layer: live heads, their width (of
    several groups the mean), hidden neurons."""

    heads: float = 1.0
    width: float = 1.0
    ffn: float = 1.0


@dataclass(frozen=True)
class Table:
    """Part → points (share that is left, share of the forward pass that is saved when every layer is cut to it), rising."""

    heads: Points
    width: Points
    ffn: Points

    def saved(self, left: Widths) -> float:
        """The share of a forward pass that is saved when all layers have these widths."""
        by_heads, by_ffn = _between(self.heads, left.heads), _between(self.ffn, left.ffn)
        return by_heads + left.heads * _between(self.width, left.width) + by_ffn

    def saved_by(self, layers: Sequence[Layer], keep: Mapping[str, Tensor], silent: Sequence[Tensor] | None) -> float:
        """The same of a plan's masks: projection name → (d_out,); `silent` are the constants of query rows that go."""
        each = (self.saved(widths_of(layer, keep, silent[i] if silent else None)) for i, layer in enumerate(layers))
        return float(np.average(list(each), weights=[layer.uses for layer in layers]))


def _between(points: Points, left: float) -> float:
    return float(np.interp(left, [share for share, _ in points], [saved for _, saved in points]))


def widths_of(layer: Layer, keep: Mapping[str, Tensor], query_bias: Tensor | None = None) -> Widths:
    """The widths of a layer when the masks (projection name → (d_out,) bool) are squeezed out."""
    found, projections = survivors(layer, keep, query_bias), layer.projections
    ffn = projections.get("ffn_in")
    hidden = min(aligned(len(found.rows["ffn_in"])) / ffn.d_out, 1.0) if ffn else 1.0
    if layer.full_heads:
        rows = [len(found.rows[type_]) / projections[type_].d_out for type_ in ("query", "key", "value")]
        return Widths(1.0, sum(rows) / len(rows), hidden)
    full = projections["key"].head_width or 1
    heads: Sequence[Head | TurningHead] = found.turning if layer.rotary else found.heads
    padded = found.widths if found.groups else [found.width] * len(heads)
    # heads that have to keep their place though nothing of them is left put out constants, which cost next to nothing
    live = [width for head, width in zip(heads, padded, strict=False) if head.width]
    return Widths(len(live) * full / projections["key"].d_out, float(np.mean(live or [full])) / full, hidden)


def table_of(model: PreTrainedModel, layers: Sequence[Layer], length: int) -> Table:
    """The table of models of this shape, one text of `length` tokens; measured if neither this process nor the disk has it."""
    key = _key(model, length)
    table: Table = _TABLES.once(key, lambda: _read(key) or _measured(model, layers, length, key))
    return table


def saved_time(model: PreTrainedModel, pruned: PreTrainedModel, plan: Plan, length: int) -> float:
    """The share of a forward pass of `model` that `pruned` saves when it is squeezed: one text, both take turns, medians."""
    *_, last = time_forward({"dense": model, "squeezed": squeeze(pruned, plan)}, 1, length, repeats=_REPEATS)
    return 1 - last["squeezed"].median / last["dense"].median


def _measured(model: PreTrainedModel, layers: Sequence[Layer], length: int, key: str) -> Table:
    points: dict[str, Points] = {}
    for done, part in enumerate(_LEVELS):
        say(f"timing layers of several widths on this machine, once: {done} of {len(_LEVELS)} parts")
        points[part] = _points(model, layers, length, part)
    table = Table(**points)
    with atomic(_path(key)) as temporary:
        temporary.write_text(json.dumps(asdict(table)))
    return table


def _points(model: PreTrainedModel, layers: Sequence[Layer], length: int, part: str) -> Points:
    """(share of a part that is left in every layer, share of the forward pass that is saved), rising shares."""
    nothing = {p.name: torch.zeros(p.d_out) for layer in layers for p in layer.projections.values()}
    models: dict[str, PreTrainedModel] = {"1.0": model}  # by what is left of the part: several levels may be the same widths
    for level in _LEVELS[part]:
        plan = Plan(_alike(layers, Widths(**{part: level})), "table", "table", 1 - level)
        left = float(np.mean([getattr(widths_of(layer, plan.keep, _silent(layer)), part) for layer in layers]))
        if str(left) not in models:
            models[str(left)] = squeeze(prune(model, plan, nothing), plan)
    *_, last = time_forward(models, 1, length, repeats=_REPEATS)
    least = {float(left): min(timing.seconds) for left, timing in last.items()}  # whatever else the machine did meanwhile
    saved = [max(1 - least[left] / least[1.0], 0.0) for left in sorted(least)]
    return tuple(zip(sorted(least), np.minimum.accumulate(saved).tolist(), strict=True))  # of less is never saved less


def _silent(layer: Layer) -> Tensor:
    return torch.zeros(layer.projections["query"].d_out)


def _alike(layers: Sequence[Layer], left: Widths) -> dict[str, Tensor]:
    """Masks that cut every layer to the same widths: its first heads, their first coordinates (pairs that turn together)."""
    keep: dict[str, Tensor] = {}
    for layer in layers:
        projections = layer.projections
        full = projections["key"].head_width or 1
        heads = round(left.heads * projections["key"].d_out / full)
        for type_, copies in (("query", layer.queries_per_key), ("key", 1), ("value", 1)):
            period = layer.turned // 2 if layer.rotary and type_ != "value" else full
            within = torch.arange(full) % period < left.width * period
            number = torch.arange(projections[type_].d_out // full) < heads * copies
            keep[projections[type_].name] = (number[:, None] & within).flatten()
        if (ffn := projections.get("ffn_in")) is not None:
            keep[ffn.name] = torch.arange(ffn.d_out) < round(left.ffn * ffn.d_out)
    return keep


def _key(model: PreTrainedModel, length: int) -> str:
    """What the times depend on: the shape of the model, the machine, and how many threads."""
    device, shapes = device_of(model), [[str(p.dtype), *p.shape] for p in model.parameters()]
    machine = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device.type} {_processor()} {WORKERS}"
    return digest("widths 1", type(model).__name__, shapes, length, machine, torch.__version__)


def _processor() -> str:
    about = Path("/proc/cpuinfo")
    lines = about.read_text().splitlines() if about.is_file() else []
    return next((line for line in lines if line.startswith("model name")), platform.processor() or platform.machine())


def _path(key: str) -> Path:
    return cache_dir() / f"widths-{key}.json"


def _read(key: str) -> Table | None:
    """The table on disk; None if there is none, or none that can be read."""
    try:
        about = json.loads(_path(key).read_text())
        return Table(**{part: tuple((float(left), float(saved)) for left, saved in about[part]) for part in _LEVELS})
    except (OSError, ValueError, KeyError, TypeError):
        return None
