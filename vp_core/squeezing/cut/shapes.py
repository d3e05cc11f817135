"""How a squeezed model differs from a dense one, and a dense model brought to its shapes."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from vp_core.model.attending.dropout import set_lean
from vp_core.model.attending.grouped import group_heads
from vp_core.model.attending.turning import turn_by_own
from vp_core.model.family.stack import Stack
from vp_core.model.products import use_products
from vp_core.model.projections import HEADED, layer_paths
from vp_core.model.scatter import Shape, empty
from vp_core.squeezing.cost import Cost
from vp_core.squeezing.survivors import Groups


@dataclass
class Squeezed:
    """How a squeezed model differs from a dense one: what it costs, shapes by module path, attributes by module path, and
    `notes`, what could not be squeezed; `turning`, by the path of attention whose heads kept frequencies of their own, how many
    heads of the key there are and how many pairs of coordinates each has; `grouped`, by the path of attention whose heads have
    several widths, (how many heads, their width) of each group; `sparse` says that single weights of what is left are zero.
    JSON-able; found on the model as `model.squeezed`."""

    cost: Cost
    modules: dict[str, Shape] = field(default_factory=dict)
    attributes: dict[str, dict[str, int]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    sparse: bool = False
    turning: dict[str, tuple[int, int]] = field(default_factory=dict)
    grouped: dict[str, Groups] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """What `pruned.json` keeps of it: plain numbers, texts, lists and dicts."""
        return {
            "cost": asdict(self.cost),
            "modules": {path: asdict(shape) for path, shape in self.modules.items()},
            "attributes": self.attributes,
            "notes": list(self.notes),
            # what was written before single weights, or frequencies, could go, or heads be unlike, stays as it was
            **({"sparse": True} if self.sparse else {}),
            **({"turning": {path: list(sizes) for path, sizes in self.turning.items()}} if self.turning else {}),
            **(
                {"grouped": {p: [list(sizes) for sizes in groups] for p, groups in self.grouped.items()}}
                if self.grouped
                else {}
            ),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Squeezed":
        """Read back what `as_json` gave."""
        modules = {path: Shape(**shape) for path, shape in value["modules"].items()}
        if not {type(number) for number in value["cost"].values()} <= {int}:
            raise ValueError("its cost is not in numbers")
        turning = {path: (int(heads), int(pairs)) for path, (heads, pairs) in value.get("turning", {}).items()}
        grouped = {
            path: tuple((int(heads), int(width)) for heads, width in groups)
            for path, groups in value.get("grouped", {}).items()
        }
        sparse = value.get("sparse", False) is True
        return cls(Cost(**value["cost"]), modules, dict(value["attributes"]), tuple(value["notes"]), sparse, turning, grouped)


def install(model: nn.Module, squeezed: Squeezed) -> None:
    """Give a dense model the shapes of a squeezed one; the weights of these modules are still to be assigned.

    Raises ValueError or AttributeError for shapes of modules, or sizes, that the model does not have.
    """
    for path, shape in squeezed.modules.items():
        model.get_submodule(path)
        model.set_submodule(path, empty(shape))
    for path, attributes in squeezed.attributes.items():
        module = model.get_submodule(path)
        for name, value in attributes.items():
            if {type(value), type(getattr(module, name, None))} != {int} or value < 0:
                raise ValueError(f"{path}.{name} = {str(value)[:20]} is no size of this model")
            setattr(module, name, value)
    for path, sizes in squeezed.turning.items():
        give_frequencies(model, path, torch.empty(sizes, dtype=torch.long, device="meta"))
    for path, groups in squeezed.grouped.items():
        stack = _stack_of(model, path)
        put_out = [squeezed.modules[f"{path.removesuffix(stack.attention)}{stack.modules[type_]}"] for type_ in HEADED]
        if {shape.width or shape.rows for shape in put_out} != {sum(heads * width for heads, width in groups)}:
            raise ValueError(f"the groups of heads of {path} do not fit what its maps put out")
        give_groups(model, path, groups)
    if squeezed.modules:
        use_products(model)
    if isinstance(model, PreTrainedModel):
        set_lean(model)
    model.squeezed = squeezed  # type: ignore[assignment]


def _stack_of(model: nn.Module, attention: str) -> Stack:
    """The names in the layer whose attention module is at this path; ValueError if there is none."""
    assert isinstance(model, PreTrainedModel)
    stack = next((stack for stack, path in layer_paths(model) if f"{path}.{stack.attention}" == attention), None)
    if stack is None:
        raise ValueError(f"{attention} is no attention of this model")
    return stack


def give_groups(model: nn.Module, attention: str, groups: Groups) -> None:
    """Give the attention module at this path heads of several widths; ValueError if there is none, or for no sizes."""
    stack = _stack_of(model, attention)
    if len(groups) < 2 or min(size for group in groups for size in group) < 1:
        raise ValueError(f"{attention} has no such groups of heads")
    group_heads(model.get_submodule(attention), stack.head_size, groups)


def give_frequencies(model: nn.Module, attention: str, own_frequencies: Tensor) -> None:
    """Give the heads of the attention module at this path frequencies of their own; ValueError if there is none."""
    stack = _stack_of(model, attention)
    query, key, _ = (stack.modules[type_].removeprefix(f"{stack.attention}.") for type_ in HEADED)
    module = model.get_submodule(attention)
    shared = getattr(module, "num_key_value_groups", 1)
    maps: dict[str, tuple[tuple[int, int], ...]] = {query: ((shared, shared),), key: ((1, 1),)}
    if query == key:
        maps = {query: ((3, 2),) if stack.interleaved else ((shared, shared), (1, 1), (1, 0))}
    turn_by_own(module, maps, own_frequencies)
