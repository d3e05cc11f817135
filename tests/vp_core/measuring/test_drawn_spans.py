"""Effects on where an answer begins and ends: drawn places against numpy and autograd in float64, and their mean, the Fisher
information of every place."""

from functools import cache

import marking
import numpy as np
import pytest
import tiny
import torch
from scipy.special import log_softmax

from vp_core.asking.batches import make_batches
from vp_core.asking.kinds import answered
from vp_core.asking.kinds.answered import apart, spans_of, to_differentiate
from vp_core.asking.reading.squad import Asking
from vp_core.asking.words.paragraphs import windows_of
from vp_core.measuring.gradients import FLOOR, coordinates_of
from vp_core.measuring.layerwise import Walk
from vp_core.measuring.measured import Measured
from vp_core.model.units import unit_groups
from vp_core.ranking.allocation import measure_losses

pytestmark = pytest.mark.usefixtures("exact_norms")


@cache
def windows():
    """Four windows of several lengths."""
    rng = np.random.default_rng(0)
    asked = [
        Asking(str(i), "was the film good", " ".join(rng.choice(tiny.WORDS, n)), (), ()) for i, n in enumerate((6, 15, 9, 12))
    ]
    return windows_of(tiny.tokenizer("bert"), asked, marking.LENGTH)


@cache
def model(family="bert"):
    """A tiny model in float64, sure of some places."""
    made = marking.marker(family, seed=3).double()
    with torch.no_grad():
        made.qa_outputs.weight.mul_(3)
    return made.requires_grad_(False)


def logs(found, row, tokens):
    """log p (2, tokens) of one window, by scipy."""
    both = torch.stack([found.start_logits[row], found.end_logits[row]])[:, :tokens].detach().double().numpy()
    return log_softmax(both, axis=1)


def test_log_probabilities_are_of_real_tokens_only():
    batch = windows().together(range(4))
    found = model()(**batch.inputs)
    mine = spans_of(found, batch).double()
    for row in range(4):
        tokens = windows().length(row)
        np.testing.assert_allclose(mine[row, :, :tokens], logs(found, row, tokens), atol=1e-5)
        assert (mine[row, :, tokens:] == -torch.inf).all()


def test_how_far_two_answers_are_apart_is_the_sum_of_their_kl():
    batch = windows().together(range(4))
    one, other = model()(**batch.inputs), marking.marker("bert", seed=8).double()(**batch.inputs)
    expected = 0.0
    for row in range(4):
        p, q = (logs(found, row, windows().length(row)) for found in (one, other))
        expected += (np.exp(p) * (p - q)).sum()
    assert expected > 1 and apart(spans_of(one, batch), spans_of(other, batch)) == pytest.approx(expected, rel=1e-5)
    assert apart(spans_of(one, batch), spans_of(one, batch)) == 0


def test_what_is_differentiated_is_the_log_probability_of_drawn_places():
    """The same gradients as autograd finds by log-probabilities in float64 at places that numpy draws."""
    batch = windows().together(range(4))
    embeddings = model().get_input_embeddings()(batch.inputs["input_ids"]).requires_grad_(True)
    seen = []
    handle = model().get_input_embeddings().register_forward_hook(lambda *_: seen.append(embeddings) or embeddings)
    try:
        columns = to_differentiate(model(), batch)
        mine = [torch.autograd.grad(columns[:, d].sum(), embeddings, retain_graph=True)[0] for d in range(answered.DRAWS)]
        found = model()(**batch.inputs)
    finally:
        handle.remove()
    assert len(seen) == 2 and columns.shape == (4, answered.DRAWS)
    for draw in range(answered.DRAWS):
        total = 0
        for row in range(4):
            tokens, luck = windows().length(row), np.random.default_rng([1, row]).random((2, answered.DRAWS))
            for part, logits in enumerate((found.start_logits, found.end_logits)):
                upto = np.cumsum(np.exp(logs(found, row, tokens)[part]))
                place = int(np.searchsorted(upto, luck[part, draw] * upto[-1]))
                total = total + logits[row, :tokens].log_softmax(dim=0)[place] / answered.DRAWS**0.5
        expected = torch.autograd.grad(total, embeddings, retain_graph=True)[0]
        assert tiny.distance(mine[draw], expected) < 1e-5


def test_draws_do_not_depend_on_company():
    together = to_differentiate(model(), windows().together(range(4)))
    for i in range(4):
        torch.testing.assert_close(to_differentiate(model(), windows().together([i]))[0], together[i], atol=1e-5, rtol=1e-5)


def test_places_are_drawn_as_often_as_the_model_says(monkeypatch):
    """Many draws of one window: shares of beginnings and ends against their probabilities."""
    batch, draws = windows().together([1]), 4000
    found = model()(**batch.inputs)
    p = np.exp(logs(found, 0, windows().length(1)))
    marks = spans_of(found, batch).double()
    each = torch.arange(marks.shape[2], dtype=torch.float64)
    # in place of log p, numbers that tell which places were drawn
    luck = np.random.default_rng([1, 1]).random((2, draws))
    counted = [
        np.bincount(np.searchsorted(np.cumsum(one), u * one.sum()), minlength=len(each)) for one, u in zip(p, luck, strict=True)
    ]
    columns = answered._drawn_spans(marks, batch.examples, draws) * draws**0.5
    expected = sum(float((n * np.log(one)).sum()) for n, one in zip(counted, p, strict=True))
    assert float(columns.sum()) == pytest.approx(expected, rel=1e-6)
    for n, one in zip(counted, p, strict=True):
        assert np.abs(n / draws - one).max() < 0.03


NAMES = ("0.activation", "1.context", "0.query", "2.ffn_out")


def test_effects_are_near_the_fisher_information(monkeypatch):
    """The mean over many draws of squared gradients against the sum over all places y of p(y)·g(y)², of both ends."""
    monkeypatch.setattr(answered, "DRAWS", 400)
    monkeypatch.setattr(answered.to_differentiate, "__defaults__", (400,))
    data = windows().at(np.array([0, 2]))
    measured = Measured(model(), data, "m", "d")
    found = measured.gradients()
    watched = {n: coordinates_of(measured.layers[int(n[0])], measured.statistics(), measured.covariances())[n] for n in NAMES}
    effects = {name: torch.zeros(len(w.mean), dtype=torch.float64) for name, w in watched.items()}
    for i in range(2):
        seen = {}

        def see(name, values, seen=seen):
            seen[name] = values if values.requires_grad else values.requires_grad_(True)
            return seen[name]

        handles = []
        for name, where in watched.items():
            module = model().get_submodule(where.site.path)
            if where.site.inputs:
                hook = module.register_forward_pre_hook(lambda _m, given, name=name: (see(name, given[0]), *given[1:]))
            else:
                hook = module.register_forward_hook(lambda _m, _i, out, name=name: see(name, out))
            handles.append(hook)
        with torch.enable_grad():
            answer = model()(**data.together([i]).inputs)
        for handle in handles:
            handle.remove()
        for logits in (answer.start_logits[0], answer.end_logits[0]):
            log = logits.log_softmax(dim=0)
            for place in range(len(log)):
                gradients = torch.autograd.grad(log[place], [seen[n] for n in NAMES], retain_graph=True)
                for name, gradient in zip(NAMES, gradients, strict=True):
                    change = gradient[0] * (seen[name].detach()[0] - watched[name].mean)
                    effects[name] += float(log[place].detach().exp()) * change.square().sum(dim=0) / 2
    for name in NAMES:
        assert float(found.effect[name].sum() / effects[name].sum()) == pytest.approx(1, abs=0.15), name
        assert np.corrcoef(found.effect[name], effects[name])[0, 1] > 0.97
    assert FLOOR < float(found.weights["0.query"][0].mean()) < 3


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_a_measured_loss_is_the_mean_kl(family):
    """A group's loss against whole passes of the pruned model, window by window."""
    made = marking.marker(family)
    data = windows_of(tiny.tokenizer(family), windows().asked, marking.LENGTH)
    batches = make_batches(data, range(len(data)))
    measured = Measured(made, data, "m", "d")
    groups = [g for g in unit_groups(measured.layers, ("ffn neurons",)) if g.layer < 2]

    def pruned(group, n):
        other = marking.marker(family, seed=group.layer)
        other.load_state_dict(made.state_dict())
        with torch.no_grad():
            other.get_submodule(measured.layers[group.layer].projections["ffn_out"].path).weight[:, :n] = 0
        return other

    found = dict(measure_losses(Walk(made, batches), groups, pruned, lambda units: [5, 20]))
    for group in groups:
        for n, loss in zip(found[group.name].removed[1:], found[group.name].loss[1:], strict=True):
            total, other = 0.0, pruned(group, int(n))
            for i in range(len(data)):
                with torch.no_grad():
                    p, q = (logs(one(**data.together([i]).inputs), 0, data.length(i)) for one in (made, other))
                total += (np.exp(p) * (p - q)).sum()
            assert loss == pytest.approx(total / len(data), rel=1e-3) and loss > 0
