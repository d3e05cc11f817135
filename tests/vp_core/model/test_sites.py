"""Sites: the one placer of hooks, which takes them off again whatever happens, and what an observer may do to a pass."""

from pathlib import Path

import pytest
import tiny
import torch

import vp_core
from vp_core.ground.work import Enough
from vp_core.model.projections import find_projections, last_attention_norm
from vp_core.model.sites import Site, forward, input_site, neuron_site, observed, output_site

HOUSE = Path(vp_core.__file__).parents[1]


class Layer(torch.nn.Module):
    """y = 2·x with its neighbours, as some layers return it."""

    def forward(self, hidden_states, shift=0.0):
        return 2 * hidden_states + shift, "attention"


class Model(torch.nn.Module):
    """Two layers, the first called by position and the second by name; `run` lists the layers that ran."""

    def __init__(self):
        super().__init__()
        self.first, self.second = Layer(), Layer()

    def forward(self, x):
        return self.second(hidden_states=self.first(x, 1.0)[0], shift=10.0)[0]


X = torch.tensor([[1.0, 2.0, 3.0]])
PLACES = [("first", True), ("first", False), ("second", True), ("second", False)]
INS_AND_OUTS = [Site(f"{path} {'in' if inputs else 'out'}", path, inputs) for path, inputs in PLACES]


def test_one_placer_in_the_whole_house():
    """Whoever places a hook elsewhere may forget to take it off."""
    placers = [path for room in ("vp_core", "analysis", "app") for path in (HOUSE / room).rglob("*.py")
               if "register_forward" in path.read_text(encoding="utf-8")]  # fmt: skip
    assert [path.relative_to(HOUSE).as_posix() for path in placers] == ["vp_core/model/sites.py"]


def test_what_goes_in_and_comes_out():
    """By position and by name; a tuple is handed on whole, and `part` takes its first."""
    model, seen = Model(), []
    with observed(model, INS_AND_OUTS, lambda site, value: seen.append((site, value))):
        model(X)
        model(X)
    assert model(X).tolist() == [[16.0, 20.0, 24.0]] and len(seen) == 8  # nothing is seen any more
    assert [site.name for site, _ in seen[:4]] == ["first in", "first out", "second in", "second out"]
    assert isinstance(seen[1][1], tuple) and seen[1][1][1] == "attention"
    expected = [[1.0, 2.0, 3.0], [3.0, 5.0, 7.0], [3.0, 5.0, 7.0], [16.0, 20.0, 24.0]]
    assert [site.part(value).tolist() for site, value in seen] == [[row] for row in expected * 2]


@pytest.mark.parametrize(("start", "width", "expected"), [(0, None, [1, 2, 3]), (1, None, [2, 3]), (1, 1, [2]), (0, 2, [1, 2])])
def test_part(start, width, expected):
    assert Site("s", "first", True, start, width).part(X).tolist() == [expected]
    assert Site("s", "first", True, start, width).part((X, None)).data_ptr() == X[:, start:].data_ptr()  # a view


@pytest.mark.parametrize(
    ("site", "new", "expected"),
    [
        (Site("s", "first", True), lambda x: 0 * x, 12.0),  # its other arguments stay as they were
        (Site("s", "second", True), lambda x: 0 * x, 10.0),
        (Site("s", "second", False), lambda value: (value[0] / 2, value[1]), 8.0),
        (Site("s", "second", False), lambda value: None, 16.0),
    ],
)
def test_what_see_returns_goes_on_in_its_place(site, new, expected):
    model = Model()
    with observed(model, [site], lambda _site, value: new(value)):
        assert model(X)[0, 0] == expected
    assert model(X)[0, 0] == 16 and tiny.hooks(model) == 0


def test_sites_of_one_module_are_called_in_the_order_given():
    model, seen = Model(), []
    sites = [Site(name, "first", True) for name in ("b", "a", "c")]
    with observed(model, sites, lambda site, _value: seen.append(site.name)):
        model(X)
    assert seen == ["b", "a", "c"]


def test_enough_ends_the_pass():
    model, seen = Model(), []

    def see(site, value):
        seen.append(site.name)
        if site.name == "first out":
            raise Enough

    with observed(model, INS_AND_OUTS, see):
        assert forward(model, {"x": X}) is None
        assert seen == ["first in", "first out"]
        with pytest.raises(Enough):
            model(X)
    assert forward(model, {"x": X}).tolist() == model(X).tolist() and tiny.hooks(model) == 0


def test_hooks_are_gone_after_an_error():
    """Of the observer, of whoever holds it open, and in a path: nothing is left half placed."""
    model = Model()

    def see(_site, _value):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), observed(model, INS_AND_OUTS, see):
        assert tiny.hooks(model) == 4
        model(X)
    assert tiny.hooks(model) == 0
    with pytest.raises(KeyError), observed(model, INS_AND_OUTS, lambda _site, _value: None):
        raise KeyError
    assert tiny.hooks(model) == 0
    with pytest.raises(AttributeError), observed(model, [*INS_AND_OUTS, Site("s", "third", True)], see):
        pytest.fail("there is no third layer")
    assert tiny.hooks(model) == 0


def test_sites_of_projections():
    """A fused module's rows, a gated neuron, and whose tokens pass."""
    gpt2, llama = (find_projections(tiny.transformer(family)) for family in ("gpt2", "llama"))
    assert output_site(gpt2[1]) == Site("0.key", "transformer.h.0.attn.c_attn", False, 48, 48)
    assert input_site(gpt2[1], "x") == Site("x", "transformer.h.0.attn.c_attn", True, 0, 48)
    assert neuron_site(gpt2[1]) == output_site(gpt2[1])
    assert neuron_site(llama[4]) == Site("0.ffn_in", "model.layers.0.mlp.down_proj", True, 0, tiny.FFN)
    assert output_site(llama[4]) == Site("0.ffn_in", "model.layers.0.mlp.up_proj", False, 0, tiny.FFN)
    bart = find_projections(tiny.transformer("bart"))
    assert {p.decoder for p in bart} == {True, False}
    assert all(site(p).decoder == p.decoder for p in bart for site in (output_site, input_site, neuron_site))


@pytest.mark.parametrize("family", tiny.TRANSFORMERS)
def test_the_last_attentions_norm(family):
    path = last_attention_norm(tiny.transformer(family))
    assert path == {
        "bert": "bert.encoder.layer.1.attention.output.LayerNorm",
        "roberta": "roberta.encoder.layer.1.attention.output.LayerNorm",
        "electra": "electra.encoder.layer.1.attention.output.LayerNorm",
        "xlm-roberta": "roberta.encoder.layer.1.attention.output.LayerNorm",
        "camembert": "roberta.encoder.layer.1.attention.output.LayerNorm",
        "mpnet": "mpnet.encoder.layer.1.attention.LayerNorm",
        "distilbert": "distilbert.transformer.layer.1.sa_layer_norm",
    }.get(family)
