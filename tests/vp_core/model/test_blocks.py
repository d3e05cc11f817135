"""Blocks that leave: the smaller model has the logits of one whose blocks put out nothing, and really is smaller."""

import copy
from functools import cache

import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vp_core.ground.errors import VPError
from vp_core.ground.names import KINDS, MODES
from vp_core.identity.usage import leaving_together
from vp_core.model.blocks import Block, find_blocks, find_sublayers
from vp_core.model.projections import as_rows, find_layers
from vp_core.model.scatter import ScatterLinear
from vp_core.squeezing.blocks_off import masked_without, plan_without, without
from vp_core.squeezing.cost import parameters
from vp_core.squeezing.folder import load_pruned, save_pruned

pytestmark = pytest.mark.usefixtures("exact_norms")
DTYPES = [(torch.float64, 1e-10), (torch.float32, 1e-4)]
model_of = cache(tiny.transformer)


def everything(model):
    return find_blocks(model)


CASES = {
    "nothing": lambda model: [],
    "a head": lambda model: [Block(0, "head", 1)],
    "two heads and the other layer's": lambda model: [Block(0, "head", 1), Block(1, "head", 0)],
    "all heads of a layer": lambda model: [b for b in everything(model) if b.kind == "head" and b.layer == 0],
    "an attention block": lambda model: [Block(0, "attention")],
    "an attention block and a head of it": lambda model: [Block(0, "attention"), Block(0, "head", 1)],
    "a feed-forward network": lambda model: [Block(0, "ffn")],
    "a layer": lambda model: [b for b in everything(model) if b.layer == 0],
    "the last layer": lambda model: [b for b in everything(model) if b.layer == everything(model)[-1].layer],
    "all heads": lambda model: [b for b in everything(model) if b.kind == "head"],
    "all of everything": everything,
}


def silenced(model, gone):
    """Logits of the dense model in which hooks take the blocks' outputs away; a head's share by its own slice of W_O."""
    handles = []
    for layer in find_layers(model):
        number, output, ffn = (
            layer.projections["query"].layer,
            layer.projections["attention_output"],
            layer.projections.get("ffn_out"),
        )
        heads = [b.head for b in gone if b.layer == number and b.kind == "head"]
        width = output.d_in // (tiny.HEADS // 2 if model.config.model_type == "llama" else tiny.HEADS)

        def without_heads(module, args, result, heads=heads, width=width):
            weight = as_rows(module, module.weight)
            for h in heads:
                part = slice(h * width, (h + 1) * width)
                result = result - args[0][..., part] @ weight[:, part].T
            return result

        handles.append(model.get_submodule(output.path).register_forward_hook(without_heads))
        for kind, p in (("attention", output), ("ffn", ffn)):
            if p is not None and Block(number, kind) in gone:
                nothing = lambda _module, _args, result: torch.zeros_like(result)  # noqa: E731
                handles.append(model.get_submodule(p.path).register_forward_hook(nothing))
    found = tiny.logits(model, tiny.inputs(model.config.model_type, model.dtype))
    for handle in handles:
        handle.remove()
    return found


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("family", tiny.TRANSFORMERS)
def test_what_is_left_computes_the_same(family, name):
    for dtype, tolerance in DTYPES:
        model = model_of(family, dtype=dtype)
        gone, inputs, before = CASES[name](model), tiny.inputs(family, dtype), tiny.sha(model)
        masked, small = masked_without(model, gone), without(model, gone)
        assert tiny.distance(tiny.logits(small, inputs), tiny.logits(masked, inputs)) <= tolerance
        assert torch.isfinite(tiny.logits(small, inputs)).all()
        if dtype == torch.float64:  # the oracle subtracts, which leaves rounding where there should be nothing
            expected = silenced(model, gone)
            assert tiny.distance(tiny.logits(masked, inputs), expected) <= tolerance
            assert not gone or tiny.distance(expected, tiny.logits(model, inputs)) > 1e-3  # it does something
        if not gone:
            assert torch.equal(tiny.logits(small, inputs), tiny.logits(model, inputs))
        assert tiny.sha(model) == before and tiny.hooks(model) == tiny.hooks(small) == 0


@pytest.mark.parametrize("family", ["bert", "bart", "llama"])
@settings(max_examples=20)
@given(data=st.data())
def test_any_blocks(family, data):
    model = model_of(family)
    gone = data.draw(st.lists(st.sampled_from(everything(model)), unique=True))
    found = tiny.logits(without(model, gone), tiny.inputs(family))
    assert tiny.distance(found, silenced(model, gone)) <= 1e-10


def weights_in_layers(model):
    """Weights that are multiplied in the projections' modules, biases left out."""
    total = 0
    for module in model.modules():
        if isinstance(module, ScatterLinear):
            continue
        weight = getattr(module, "weight", None)
        if isinstance(weight, torch.Tensor) and weight.ndim == 2 and not isinstance(module, torch.nn.Embedding):
            total += weight.numel()
    return total


@pytest.mark.parametrize("family", tiny.TRANSFORMERS)
def test_parameters_really_go(family):
    """By hand: a head is 4·12·48 weights (llama: two query heads), a feed-forward network 2·48·56
    (gated: 3·48·56; DINOv2, whose network is a whole number of times as wide as the stream, 2·48·48)."""
    model = model_of(family)
    head = 48 * (24 + 12 + 12 + 24) if family == "llama" else 4 * 12 * 48
    heads, ffn = (2 if family == "llama" else 4), (3 if family in tiny.ROTARY else 2) * 48 * (48 if family == "dinov2" else 56)
    dense = weights_in_layers(model)
    for gone, weights in (
        ([Block(0, "head", 1)], head),
        ([Block(0, "attention")], heads * head),
        ([Block(0, "ffn")], ffn),
        ([Block(0, "attention"), Block(0, "ffn")], heads * head + ffn),
    ):
        small = without(model, gone)
        # rows of zeros where that is faster, or where a head keeps its place
        zeros = 15 * 48 if family == "gpt2" else weights if family in (*tiny.ROTARY, *tiny.ALL_HEADS, "deberta-v2") else 0
        assert weights - zeros <= dense - weights_in_layers(small) <= weights
        assert small.squeezed.cost.parameters_removed == weights
        keeps_place = family in tiny.ALL_HEADS and gone[0].kind == "head"
        assert keeps_place or parameters(small) < parameters(model)
    nothing_left = without(model, everything(model)).squeezed.cost
    assert nothing_left.share_removed == 1 and nothing_left.parameters_left == 0


@pytest.mark.parametrize("family", tiny.TRANSFORMERS)
def test_saved_and_loaded(family, tmp_path):
    model, inputs = model_of(family, dtype=torch.float32), tiny.inputs(family, torch.float32)
    for name in ("a head", "all heads of a layer", "a layer", "all of everything"):
        small = without(model, CASES[name](model))
        save_pruned(small, tmp_path / "m")
        loaded = load_pruned(tmp_path / "m")
        assert torch.equal(tiny.logits(loaded, inputs), tiny.logits(small, inputs))
        assert parameters(loaded) == parameters(small) and tiny.sha(loaded) == tiny.sha(small)


@pytest.mark.parametrize("family", tiny.TRANSFORMERS)
def test_a_layer_without_its_blocks_passes_its_input_on(family):
    """Up to its layer norms: of a pre-norm family the hidden states before and after are equal bit for bit."""
    model = without(model_of(family), CASES["a layer"](model_of(family)))
    states = {}
    layers, _, _ = find_layers(model_of(family))[0].attention.rpartition(".")
    # BART's and BERT's norms come after the sum: norm(x + 0)
    if family in ("gpt2", *tiny.SEEING, "llama"):
        layer = model.get_submodule(layers)
        layer.register_forward_hook(
            lambda _m, args, kwargs, out: states.update(before=args[0] if args else kwargs["hidden_states"], after=out),
            with_kwargs=True,
        )
        tiny.logits(model, tiny.inputs(family))
        after = states["after"][0] if isinstance(states["after"], tuple) else states["after"]
        assert torch.equal(states["before"], after)
    loss = model(**tiny.inputs(family)).logits.square().mean()
    loss.backward()  # and what is left can be trained
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("family", tiny.TRANSFORMERS)
def test_every_block_has_a_name_and_a_place(family):
    model = model_of(family)
    blocks = find_blocks(model)
    assert [Block.named(b.name) for b in blocks] == list(blocks) and len({b.name for b in blocks}) == len(blocks)
    for kind in KINDS:
        assert find_blocks(model, (kind,)) == tuple(b for b in blocks if b.kind == kind)
    for one in find_sublayers(model):
        left = one.without([Block(one.layer, "head", 1), Block(one.layer + 1, "ffn"), Block(one.layer, "ffn")])
        assert left.blocks == tuple(b for b in one.blocks if b.kind == "attention" or (b.kind == "head" and b.head != 1))
        assert one.without([Block(one.layer, "attention")]).heads == ()
        assert one.without([]) == one
    rows = plan_without(model, [Block(0, "head", 1)]).keep["0.value"]
    assert (~rows).nonzero().flatten().tolist() == list(range(12, 24))


def test_names():
    assert Block(3, "head", 5).name == "3.head.5" and Block(3, "ffn").name == "3.ffn"
    assert Block.named("11.attention") == Block(11, "attention")
    with pytest.raises(VPError, match="kind of block 'nose'"):
        Block.named("1.nose")


def test_units_of_the_modes():
    model = model_of("bart")
    blocks = everything(model)
    assert set(MODES) == {"heads", "ffn", "joint", "attention", "layers", "separate"}
    expected = {
        "heads": 6 * 4, "ffn": 4, "joint": 6 * 4 + 4, "attention": 6, "separate": 10, "layers": 6,
    }  # fmt: skip
    for mode, count in expected.items():
        found = leaving_together(mode, blocks)
        assert len(found) == count and {b for unit in found for b in unit} == {b for b in blocks if b.kind in MODES[mode]}
        assert all(len(unit) == 1 for unit in found) or mode == "layers"
    assert leaving_together("layers", blocks)[1] == (Block(1, "attention"), Block(1, "ffn"))
    assert leaving_together("layers", blocks)[5] == (Block(5, "attention"),)  # cross attention has no network behind it
    assert leaving_together("layers", []) == leaving_together("joint", []) == []


def test_what_is_shared_is_not_copied():
    model = copy.deepcopy(model_of("bert"))
    small = without(model, [Block(0, "ffn")])
    own = {p.data_ptr() for p in model.parameters()}
    assert sum(p.data_ptr() not in own for p in small.parameters()) <= 2


def test_a_squeezed_model_has_no_blocks_to_find():
    with pytest.raises(VPError, match="squeezed already"):
        find_blocks(without(model_of("bert"), [Block(0, "ffn")]))
