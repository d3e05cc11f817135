"""Single weights that go while a model trains: their counts by hand, zeros for ever, deletion, and the same after a restart."""

import copy
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import tiny
import torch
from gradual_runs import FAMILIES, QUICK, Each, lessons, model_of, trained

from vp_core.gradual.cuts import Cuts
from vp_core.gradual.weights import GradualWeights
from vp_core.ground.errors import VPError
from vp_core.ground.names import TYPES, WORD_EMBEDDINGS
from vp_core.model.projections import as_rows
from vp_core.squeezing.folder import load_pruned, save_pruned
from vp_core.training.loop import train
from vp_core.weights.masks import Masks
from vp_core.weights.matrices import find_matrices, view

CUTS = Cuts(first=3, every=3, share=0.2, until=0.6, ramp="cubic")
"""After steps 3, 6 and 9, of twelve."""
SHARES = [0.6 * 19 / 27, 0.6 * 26 / 27, 0.6]
"""1 − (2/3)³ and 1 − (1/3)³ of 0.6, by hand (Zhu and Gupta 2017, equation 1)."""
ALL = (*TYPES, WORD_EMBEDDINGS)


def zeros(model, types=ALL):
    return {m.name: int((view(model, m) == 0).sum()) for m in find_matrices(model, types)}


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_gone_is_zero_for_ever(family, tmp_path):
    """200 steps of AdamW with decay, weights and moments, and through save and load; with word embeddings."""
    pruner, checked = GradualWeights(CUTS, types=ALL), []

    def look(run):
        if run.step <= 9 or run.step % 10:
            return
        checked.append(run.step)
        for m in pruner.matrices:
            module, gone = run.model.get_submodule(m.path), ~pruner.masks().keep(m.name)
            state = run.optimiser.state[module.weight]
            for values in (module.weight.detach(), module.weight.grad, state["exp_avg"], state["exp_avg_sq"]):
                assert not as_rows(module, values)[m.start : m.start + m.rows][gone].any(), (run.step, m.name)

    model = model_of(family)
    trained(model, [pruner, Each(look)], replace(QUICK, epochs=34), family=family)
    assert len(checked) == 20 and set(zeros(model)) == set(pruner.removed())
    for m in pruner.matrices:
        assert zeros(model)[m.name] >= round(0.6 * m.size) == m.size - pruner.masks().kept(m.name)
    small = pruner.compact(model.eval().requires_grad_(False))
    again = load_pruned(save_pruned(small, tmp_path / "small"))
    for row in lessons(family).data.ids[:5]:
        given = {"input_ids": torch.tensor([row])}
        with torch.no_grad():
            assert torch.equal(again(**given).logits, small(**given).logits)
            assert tiny.distance(again(**given).logits, model(**given).logits) < 1e-4
    assert small.squeezed.sparse


def test_the_cubic_ramp_by_hand_and_the_smallest_of_the_moment():
    """Against numpy: each cut's masks from the weights just before it, ties and all; nested."""
    model, pruner, before, after = model_of(), GradualWeights(CUTS), {}, {}

    def save(run):
        if CUTS.at(run.step) is not None:
            before[run.step] = {m.name: view(run.model, m).clone().numpy() for m in pruner.matrices}

    def check(run):
        if CUTS.at(run.step) is not None:
            after[run.step] = {m.name: pruner.masks().keep(m.name).numpy() for m in pruner.matrices}

    trained(model, [Each(save), pruner, Each(check)])
    assert list(before) == [3, 6, 9]
    np.testing.assert_allclose([row["sparsity"] for row in pruner.cuts()], SHARES, rtol=1e-12)
    for (step, weights), share in zip(before.items(), SHARES, strict=True):
        for name, values in weights.items():
            gone = np.zeros(values.size, dtype=bool)
            gone[np.argsort(np.abs(values).ravel(), kind="stable")[: round(share * values.size)]] = True
            assert np.array_equal(~after[step][name].ravel(), gone), (step, name)
    for one, later in pairwise(after.values()):
        assert not any((later[name] & ~one[name]).any() for name in one)


def test_globally():
    """All matrices compete, so that their shares differ while the whole is exact."""
    model, pruner = model_of(), GradualWeights(CUTS, scope="global", types=ALL)
    trained(model, [pruner])
    masks = pruner.masks()
    assert masks.weights_removed == round(0.6 * masks.weights) and np.ptp(list(pruner.removed().values())) > 0.02


@pytest.mark.parametrize("units", ["blocks 8x8", "columns"])
def test_blocks(units):
    model, pruner = model_of(), GradualWeights(CUTS, units=units)
    trained(model, [pruner])
    for m in pruner.matrices:
        keep = pruner.masks().keep(m.name)
        shape = (m.rows // 8, 8, m.columns // 8, 8) if units != "columns" else (1, m.rows, m.columns, 1)
        blocks = keep.reshape(shape).float().mean(dim=(1, 3))
        assert set(blocks.unique().tolist()) == {0, 1} and int((blocks == 0).sum()) == round(0.6 * blocks.numel())
        assert not view(model, m)[~keep].any()


def test_n_of_m_is_one_cut():
    model, pruner = model_of(), GradualWeights(Cuts(3, 1, 0.5, 0.5), units="2:4")
    trained(model, [pruner])
    for m in pruner.matrices:
        assert (pruner.masks().keep(m.name).reshape(m.rows, -1, 4).sum(dim=2) == 2).all()
    with pytest.raises(VPError, match=r"2:4 has one sparsity, 50%.*\.$"):
        GradualWeights(CUTS, units="2:4")


def test_random_takes_as_many_of_each_matrix_as_magnitude():
    first = replace(CUTS, until=0.2)
    both = [GradualWeights(first, criterion, "global", seed=3) for criterion in ("magnitude", "random")]
    for pruner in both:
        trained(model_of(), [pruner])
    assert both[0].removed() == both[1].removed() and both[0].masks() != both[1].masks()
    assert np.ptp(list(both[0].removed().values())) > 0.01
    pruner, seen = GradualWeights(CUTS, "random"), []
    model, dense = model_of(), model_of()
    trained(model, [pruner, Each(lambda run: seen.append(pruner.masks()))])
    for one, later in pairwise(seen):
        assert not any((later.keep(name) & ~one.keep(name)).any() for name in one.bits)
    for m in pruner.matrices:
        keep = seen[-1].keep(m.name)
        assert m.size - int(keep.sum()) == round(0.6 * m.size) and not view(model, m)[~keep].any()
        small = view(dense, m).abs() < view(dense, m).abs().quantile(0.6)
        assert small[keep].float().mean() == pytest.approx(0.6, abs=0.1)  # the small ones are not preferred


def test_deleted_weights_come_back():
    """Information deletion: zero at the cut, with their moments, and free from the next step on."""
    model, pruner, at = model_of(), GradualWeights(Cuts(6, 1, 0.5, 0.5), free=True), {}

    def look(run):
        if run.step == 6:
            for m in pruner.matrices:
                gone = ~pruner.masks().keep(m.name)
                assert int((view(run.model, m) == 0).sum()) == int(gone.sum()) == round(0.5 * m.size)
                module = run.model.get_submodule(m.path)
                state = run.optimiser.state[module.weight]
                assert not state["exp_avg"][gone].any() and not state["exp_avg_sq"][gone].any()
                assert state["exp_avg"][~gone].any()
            at["checked"] = True

    trained(model, [pruner, Each(look)])
    assert at["checked"]
    for m in pruner.matrices:
        gone = ~pruner.masks().keep(m.name)
        assert (view(model, m)[gone] != 0).float().mean() > 0.95, m.name
    small = pruner.compact(model.eval().requires_grad_(False))
    given = {"input_ids": torch.tensor([lessons().data.ids[0]])}
    with torch.no_grad():
        assert tiny.distance(small(**given).logits, model(**given).logits) < 1e-5
    assert not small.squeezed.sparse


@pytest.mark.parametrize("settings", [{}, {"free": True}, {"criterion": "random"}, {"types": ALL, "scope": "global"}])
@pytest.mark.parametrize("stop", [2, 3, 4, 9, 11])
def test_resumed_is_unbroken_to_the_bit(stop, settings, tmp_path):
    whole, one = model_of(), GradualWeights(CUTS, **settings)
    losses = trained(whole, [one])
    first = trained(model_of(), [GradualWeights(CUTS, **settings)], folder=tmp_path, until=stop)
    model, other = model_of(), GradualWeights(CUTS, **settings)
    again = trained(model, [other], folder=tmp_path)
    assert [*first, *again] == losses and tiny.sha(model) == tiny.sha(whole)
    assert other.masks() == one.masks() and other.cuts() == one.cuts()


@pytest.mark.parametrize("family", ["bert", "gpt2", "llama"])
def test_masks_to_start_from(family, tmp_path):
    """Held from the first step on, without cuts, with cuts on top of them, and after a restart."""
    draw = torch.Generator().manual_seed(0)
    matrices = find_matrices(model_of(family), TYPES)
    start = Masks.of({m.name: torch.rand(m.shape, generator=draw) < 0.5 for m in matrices})
    for cuts, until in ((None, 0.5), (CUTS, 0.6)):
        (tmp_path / str(until)).mkdir()
        trained(model_of(family), [GradualWeights(cuts, start=start)], folder=tmp_path / str(until), until=4, family=family)
        model, pruner = model_of(family), GradualWeights(cuts, start=start)
        trained(model, [pruner], folder=tmp_path / str(until), family=family)
        for m in matrices:
            found = view(model, m)
            assert not found[~start.keep(m.name)].any() and not found[~pruner.masks().keep(m.name)].any()
            assert int((found == 0).sum()) == max(round(until * m.size) if cuts else 0, int((~start.keep(m.name)).sum()))


def test_a_cut_before_the_first_step():
    """Pruned, then trained."""
    dense, model, pruner = model_of(), model_of(), GradualWeights(Cuts(0, 1, 0.4, 0.4))
    trained(model, [pruner])
    for m in pruner.matrices:
        expected = view(dense, m).abs().flatten().kthvalue(round(0.4 * m.size)).values
        assert torch.equal(~pruner.masks().keep(m.name), view(dense, m).abs() <= expected)
        assert not view(model, m)[~pruner.masks().keep(m.name)].any()
    assert pruner.cuts()[0]["step"] == 0


def test_what_is_refused():
    def says(match, **settings):
        with pytest.raises(VPError, match=match + r".*\.$") as raised:
            train(model_of(), lessons(), QUICK, callbacks=[GradualWeights(**{"cuts": CUTS} | settings)])
        assert "\n" not in str(raised.value)

    start = Masks.of({"0.query": torch.ones(32, 32, dtype=torch.bool)})
    says("training ends after 12 steps", cuts=Cuts())
    says("criterion 'variance'", criterion="variance")
    says("scope 'per head'", scope="per head")
    says("'rows' are no units of single weights", units="rows")
    says("nothing would be pruned", cuts=None)
    says("choose one of both", free=True, start=start)
    says("masks belong to another model", start=start)
    says("Only single weights compete within a row", units="blocks", scope="per row")
    model, pruner = model_of(), GradualWeights(CUTS)
    trained(model, [pruner])
    with pytest.raises(VPError, match=r"squeezed already.*\.$"):
        small = copy.deepcopy(pruner.compact(model.eval())).requires_grad_(True)
        train(small, lessons(), QUICK, callbacks=[GradualWeights(CUTS)])
