"""What is filled changes no output at the moment, is reached by gradients, and trains on."""

import copy

import learned
import pytest
import tiny
import torch
from learned import QUICK, at_once, model_of, pruning, trained

from vp_core.ground.errors import VPError
from vp_core.model.projections import find_layers, linear_map
from vp_core.movement.fill import freed, heads_left, to_draw
from vp_core.movement.prune import LearnedMasks
from vp_core.movement.ramp import Ramp
from vp_core.movement.shapes import Shapes
from vp_core.training.callbacks import Callback
from vp_core.weights.dead import dead_rows
from vp_core.weights.masks import Masks

BLOCKS = Shapes("blocks 4x16", "blocks 8x8")
FAMILIES = ["bert", "gpt2", "distilbert", "albert", "llama", "modernbert", "deberta-v2", "t5", "bart"]


def twice(family, fill, shapes=BLOCKS, until=0.75):
    """Two trainings over at once, with the same scores: without filling and with it."""
    found = []
    for how in (None, fill):
        callback, model, told = pruning(shapes, until=until, fill=how), tiny.transformer(family), []
        run = at_once(callback, model, tell=told.append)
        found.append((callback, model, run, told))
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_it_changes_no_output_at_the_moment(family):
    (empty, one, _, _), (filled, two, run, told) = twice(family, "exact")
    assert tiny.distance(tiny.logits(two, tiny.inputs(family)), tiny.logits(one, tiny.inputs(family))) < 1e-13
    count = sum(int((filled.masks().keep(name) & ~empty.masks().keep(name)).sum()) for name in empty.masks().bits)
    assert count > 100 and told[0] == f"{count:,} weights are filled"
    assert filled.sparsity < empty.sparsity and filled.cuts()[-1]["sparsity"] == filled.sparsity
    filled.end(run)
    small = filled.compact(two)
    assert tiny.distance(tiny.logits(small, tiny.inputs(family)), tiny.logits(two, tiny.inputs(family))) < 1e-10


@pytest.mark.parametrize("family", FAMILIES)
def test_it_is_the_surviving_heads_and_neurons_that_are_filled(family):
    """All of them, and nothing else: each survives or goes as before."""
    (empty, _, _, _), (filled, _, _, _) = twice(family, "exact")
    layers = empty.layers
    before, after = (dead_rows(layers, one.masks()) for one in (empty, filled))
    heads = heads_left(layers, empty.masks())
    assert all(torch.equal(one, heads_left(layers, filled.masks())[number]) for number, one in heads.items())
    for layer in layers:
        of = layer.projections
        live = heads[of["value"].layer]
        for type_ in ("query", "key", "value"):
            rows = live.repeat_interleave(of[type_].d_out // len(live))
            assert filled.masks().keep(of[type_].name)[rows].all()
            assert torch.equal(filled.masks().keep(of[type_].name)[~rows], empty.masks().keep(of[type_].name)[~rows])
        if "ffn_in" in of:
            rows = before.keep[of["ffn_in"].name]
            assert torch.equal(rows, after.keep[of["ffn_in"].name])
            assert filled.masks().keep(of["ffn_in"].name)[rows].all() and filled.masks().keep(of["ffn_out"].name)[:, rows].all()


@pytest.mark.parametrize("family", ["bert", "llama", "gpt2"])
def test_gradients_reach_what_is_filled(family):
    """Two steps of plain descent move every filled weight of attention: none is dead."""
    (empty, _, _, _), (filled, model, _, _) = twice(family, "exact", Shapes("blocks 4x16", "none"), until=0.3)
    new = freed(empty.layers, empty.masks(), ffn=False)
    start = {name: filled.scores.trained(model, name).detach().clone() for name in new}
    for _ in range(3):
        model.zero_grad()
        found = model(**tiny.inputs(family)).logits
        (found**2).sum().backward()
        with torch.no_grad():
            for name in new:
                parameter = filled.scores.trained(model, name)
                parameter -= 1e-3 * parameter.grad / 3
    for name, where in new.items():
        moved = filled.scores.view(model, name, filled.scores.trained(model, name).detach() - start[name])
        assert (moved[where] != 0).float().mean() > 0.99, name


def test_where_both_factors_are_empty_one_is_drawn():
    """By hand: head 0 of BERT has lost coordinate 3 of value and its reader, and coordinate 5 of query and of key."""
    model = tiny.transformer("bert")
    layers = find_layers(model)
    keep = {name: torch.ones(48, 48, dtype=torch.bool) for name in ("0.query", "0.key", "0.value", "0.attention_output")}
    keep["0.value"][[3, 4]] = False
    keep["0.attention_output"][:, [3, 6]] = False
    keep["0.query"][[5, 7]] = False
    keep["0.key"][[5, 8]] = False
    whole = {name.replace("0", "1"): torch.ones(48, 48, dtype=torch.bool) for name in keep}
    masks = Masks.of(keep | whole)
    rows = to_draw(model, layers, masks, "exact")
    assert rows["0.value"].nonzero().flatten().tolist() == [3] and rows["0.query"].nonzero().flatten().tolist() == [5]
    assert not rows["1.value"].any() and set(rows) == {"0.value", "0.query", "1.value", "1.query"}
    assert {name: int(new.sum()) for name, new in freed(layers, masks, ffn=False).items()} == dict.fromkeys(keep, 96)


def test_under_rotary_positions_pairs_are_drawn_together():
    """Coordinates 1 and 7 of a head of 12 turn into each other: with one of them alive nothing is drawn."""
    model = tiny.transformer("llama")
    layers = find_layers(model)
    p = layers[0].projections
    keep = {
        p[t].name: torch.ones(p[t].d_out, p[t].d_in, dtype=torch.bool) for t in ("query", "key", "value", "attention_output")
    }
    keep["0.key"][[1, 7, 2]] = False
    keep["0.query"][[1, 7, 2, 8]] = False  # the first of two heads that share the key's first
    masks = Masks.of(keep)
    rows = to_draw(model, layers[:1], masks, "exact")["0.query"]
    assert rows.nonzero().flatten().tolist() == [1, 7]


class Moments(Callback):
    """The moments of filled weights when the masks have just been fixed."""

    def __init__(self, pruning):
        self.pruning, self.seen = pruning, None

    def after_step(self, run):
        if self.pruning.fixed and self.seen is None:
            new = {n: one for n, one in self.pruning.scores.places.items() if one.mask is not None}
            self.seen = {}
            for name in new:
                parameter = self.pruning.scores.trained(run.model, name)
                self.seen[name] = self.pruning.scores.view(run.model, name, run.optimiser.state[parameter]["exp_avg"]).clone()


def test_the_optimiser_knows_nothing_of_them_and_they_are_trained_on():
    callback = pruning(Shapes("blocks 8x8", "dim"), fill="exact", until=0.4, ramp=Ramp(0.1, 0.4))
    watched = Moments(callback)
    model = model_of()
    learned.train(model, learned.lessons(), QUICK, callbacks=[callback, watched])
    assert watched.seen
    for name, moments in watched.seen.items():
        matrix = callback.scores.places[name].matrix
        weight = linear_map(model, matrix.path).weight.detach()
        fresh = moments == 0
        assert 0 < fresh.float().mean() < 1 and (weight[fresh] != 0).any()
    assert all(one.score.grad is None for one in callback.scores.units)


def test_uniformly_as_the_paper_has_it_which_is_told():
    (empty, one, _, _), (filled, two, _, told) = twice("bert", "uniform")
    assert tiny.distance(tiny.logits(two, tiny.inputs("bert")), tiny.logits(one, tiny.inputs("bert"))) > 1e-3
    assert "at random: the outputs change at this step" in told[0]
    for name, new in freed(empty.layers, empty.masks()).items():
        values = filled.scores.view(two, name, filled.scores.trained(two, name).detach())[new]
        bound = new.shape[1] ** -0.5
        assert (values != 0).all() and values.abs().max() <= bound
        assert len(values) < 300 or values.std().item() == pytest.approx(bound / 3**0.5, rel=0.1)


def test_nothing_is_empty_where_whole_heads_go():
    (empty, _, _, _), (filled, _, _, told) = twice("bert", "exact", Shapes("heads", "dim"), until=0.5)
    assert told[0] == "nothing is empty in surviving heads and neurons" and empty.masks() == filled.masks()


def test_rewinding_protects_what_survived_the_first_run():
    """In a second run no unit goes that touches a head which survived, and others do."""
    first = pruning(Shapes("heads", "dim"), until=0.5)
    trained(first)
    heads = heads_left(first.layers, first.masks())
    assert 0 < int(torch.cat(list(heads.values())).sum()) < 8
    second = LearnedMasks(Shapes("blocks 8x8", "dim"), until=0.5, lr=0.1, protect=first.masks())
    trained(second)
    masks = second.masks()
    for layer in second.layers:
        of = layer.projections
        rows = heads[of["value"].layer].repeat_interleave(8)
        assert all(masks.keep(of[t].name)[rows].all() for t in ("query", "key", "value"))
        assert masks.keep(of["attention_output"].name)[:, rows].all()
    assert second.sparsity > 0.45


def test_what_is_protected_sets_a_limit():
    first = pruning(Shapes("none", "dim"), until=0.3)
    trained(first)
    model = model_of()
    before = tiny.sha(model)
    with pytest.raises(VPError, match="heads of the earlier run are protected"):
        pruning(Shapes("blocks 8x8", "dim"), until=0.6, protect=first.masks()).prepare(model, 10)
    assert tiny.sha(model) == before
    with pytest.raises(VPError, match="belong to another model"):
        pruning(protect=first.masks()).prepare(model_of("bert", ffn=56), 10)
    assert copy.deepcopy(model) is not model
