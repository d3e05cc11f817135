"""Effects on the outputs against finite differences, and the weights of tokens."""

from functools import cache

import bench_models
import pytest
import tiny
import torch
from bench_models import stage

from vp_core.measuring.gradients import FLOOR, coordinates_of
from vp_core.model.family.stack import Part
from vp_core.recipes import Recipe

STEP = 1e-5
pytestmark = pytest.mark.usefixtures("exact_norms")


@cache
def staged(family):
    return stage(family, 9)


def changes(model, batch, site, columns, mean, uses):
    """(tokens·uses, examples, outputs): change of the outputs when these columns of one token go towards their mean."""
    module, counter = model.get_submodule(site.path), [0]

    def moved(values, token, use, step):
        counter[0] += 1
        if counter[0] - 1 != use:
            return values
        values = values.clone()
        at = Part(site.start, len(mean), site.run, site.step).at(columns)
        own = values.view(*batch.inputs["input_ids"].shape, -1)  # OPT's feed-forward networks see one row of tokens
        own[:, token, at] += step * (mean[columns] - own[:, token, at])
        return values

    rows = []
    for use in range(uses):
        for token in range(batch.inputs["input_ids"].shape[1]):
            ends = []
            for step in (STEP, -STEP):
                counter[0] = 0

                def on_input(_module, args, token=token, use=use, step=step):
                    return (moved(args[0], token, use, step), *args[1:])

                def on_output(_module, _args, output, token=token, use=use, step=step):
                    return moved(output, token, use, step)

                handle = module.register_forward_pre_hook(on_input) if site.inputs else module.register_forward_hook(on_output)
                with torch.no_grad():
                    ends.append(model(**batch.inputs).logits)
                handle.remove()
            rows.append((ends[0] - ends[1]) / (2 * STEP))
    return torch.stack(rows)


def effect(family, name, columns):
    """Mean over sentences of Σ over outputs and tokens of the squared change."""
    one = staged(family)
    layer = one.measured.layers[int(name.split(".")[0])]
    found = coordinates_of(layer, one.measured.statistics(), one.measured.covariances())[name]
    total = sum(
        changes(one.measured.model, batch, found.site, torch.tensor(columns), found.mean, layer.uses).square().sum()
        for batch in one.measured.solving_batches()
    )
    return total.item() / len(one.measured.texts)


def test_the_place_of_every_projection():
    """`effect` above takes sites and means from the code under test: they are the right ones."""
    one = staged("gpt2")
    found = coordinates_of(one.measured.layers[0], one.measured.statistics(), one.measured.covariances())
    key, context = found["0.key"].site, found["0.context"].site
    assert (key.path, key.start, key.inputs) == ("transformer.h.0.attn.c_attn", 48, False)
    assert (context.path, context.inputs) == ("transformer.h.0.attn.c_proj", True)
    assert torch.equal(found["0.key"].mean, one.measured.statistics().mean("0.key"))
    assert torch.equal(found["0.activation"].mean, one.measured.covariances()["0.activation"].mean)


@pytest.mark.parametrize("family", ["bert", "gpt2", "albert", "bart", "llama", "opt", "gpt_neox"])
@pytest.mark.parametrize("name", ["0.context", "0.query", "0.ffn_in", "0.activation", "0.attention_output"])
def test_effects_are_those_of_finite_differences(family, name):
    found = staged(family).measured.gradients()
    heads = len(found.by_head[name])
    width = len(found.effect[name]) // heads
    for column in (3, 21):
        assert found.effect[name][column].item() == pytest.approx(effect(family, name, [column]), rel=1e-5), column
    head = list(range((heads - 1) * width, heads * width))
    assert found.by_head[name][heads - 1].item() == pytest.approx(effect(family, name, head), rel=1e-5)
    assert found.whole[name].item() == pytest.approx(effect(family, name, list(range(heads * width))), rel=1e-5)


def test_only_the_first_token_counts_in_the_last_layer_of_a_classifier_that_reads_it():
    one = staged("bert")
    weights, batches = one.measured.gradients().weights, one.measured.solving_batches()
    for name in ("1.query", "1.attention_output", "1.ffn_in", "1.ffn_out"):
        for batch, found in zip(batches, weights[name], strict=True):
            assert found.shape == batch.inputs["input_ids"].shape
            assert (found[:, 1:] == FLOOR).all() and (found[:, 0] > FLOOR).all()
    for name, found in weights.items():
        real = [batch.inputs["attention_mask"].bool() for batch in batches]
        values = torch.cat([w[mask] for w, mask in zip(found, real, strict=True)])
        assert values.mean().item() == pytest.approx(1 + FLOOR, rel=1e-5), name
        assert all((w[~mask] == FLOOR).all() for w, mask in zip(found, real, strict=True)), name  # padding reaches nobody
    for name in ("1.key", "1.value", "0.ffn_out"):
        assert all((w[:, 1] > FLOOR).all() for w in weights[name])


@pytest.mark.parametrize("family", ["bert", "gpt2", "albert", "bart", "llama", "opt", "deberta-v2"])
def test_token_weights_by_themselves_are_those_of_the_gradients(family):
    one = stage(family, 9)
    alone = one.measured.token_weights()
    both = one.measured.gradients().weights
    assert set(alone) == set(both) and one.measured.token_weights() is both  # what is known is not measured again
    for name, by_batch in both.items():
        for found, expected in zip(alone[name], by_batch, strict=True):
            torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("family", bench_models.CLASSIFIERS)
def test_fisher_of_units_is_the_effect_where_they_are_read(family):
    one = staged(family)
    found = one.measured.gradients()
    names = ("ffn neurons", "values") if family in tiny.ROTARY else ("ffn neurons", "values", "pairs")
    scores = one.scores(Recipe(criterion="fisher", units=names))
    shared = one.measured.layers[0].queries_per_key
    for number, layer in enumerate(one.measured.layers):
        if "ffn_in" in layer.projections:
            assert torch.equal(scores[f"{number}.ffn neurons"], found.effect[f"{number}.activation"])
        by_row = found.effect[f"{number}.context"].view(-1, shared, 12).sum(dim=1).flatten()
        torch.testing.assert_close(scores[f"{number}.values"], by_row)
        if family not in tiny.ROTARY:
            assert torch.equal(scores[f"{number}.pairs"], found.effect[f"{number}.query"])
    whole = one.scores(Recipe(criterion="fisher", units=("layers",)))
    parts = one.scores(Recipe(criterion="fisher", units=("sublayers",)))
    for number, layer in enumerate(one.measured.layers):
        both = [parts[f"{number}.{part}"] for part in ("attention", "feed-forward") if f"{number}.{part}" in parts]
        assert whole[f"{number}.layer"].item() == pytest.approx(sum(both).item())
        assert len(both) == (2 if "ffn_in" in layer.projections else 1)
        assert both[0].item() == found.whole[f"{number}.attention_output"].item()
    rows = one.scores(Recipe(criterion="fisher"))
    gated = family in tiny.ROTARY
    assert torch.equal(rows["0.ffn_in"], found.effect["0.activation" if gated else "0.ffn_in"])
    assert torch.equal(rows["0.value"], found.effect["0.value"])
