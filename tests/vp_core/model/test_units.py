"""Units of every kind: the pruned model is the dense one with coordinates overwritten by hooks, squeezed or not."""

from functools import cache

import bench_models
import pytest
import tiny
import torch
from bench_models import KINDS

from vp_core.ground.chosen import check_units
from vp_core.ground.errors import VPError
from vp_core.ground.names import SCOPES, UNITS
from vp_core.measuring.covariance import READ_AT, collect_covariances
from vp_core.measuring.statistics import collect
from vp_core.model.projections import find_layers
from vp_core.model.units import unit_groups
from vp_core.ranking.plan import Plan, count_removed
from vp_core.replacing.ladder import Consumers, constants
from vp_core.replacing.prune import prune
from vp_core.squeezing.cost import cost
from vp_core.squeezing.squeeze import squeeze

pytestmark = pytest.mark.usefixtures("exact_norms")
STRUCTURED = ("ffn neurons", "values", "pairs")
COLUMNED = ("ffn neurons", "values", "heads")


@cache
def measured(family):
    """(model, batch, statistics, covariances) of a family's tiny model."""
    model, batch = bench_models.batch_of(family)
    return model, batch, collect(model, [batch]), collect_covariances(model, [batch], [])


def choices(family):
    """Kinds of units that the family has, alone and together."""
    return [(kind,) for kind in KINDS] + [STRUCTURED]


OTHERS = ("qwen3", "gemma2", "phi", "phi3", "gpt_neox", "opt")
"""Language models whose layers are like those of no other family."""
CASES = [(family, kinds) for family in (*tiny.TRANSFORMERS, *OTHERS) for kinds in choices(family)]


def overwritten(model, ranking, share, replacement, statistics, covariances, given):
    """Logits of the dense model; hooks put the mean (or nothing) where a removed unit is read, or where it writes."""
    handles, layers = [], find_layers(model)

    def set_output(p, rows, values):
        def hook(_module, _args, output):
            output = output.clone()
            output[..., p.part.at(rows)] = values.to(output.dtype)
            return output

        handles.append(model.get_submodule(p.path).register_forward_hook(hook))

    def set_input(p, columns, values):
        def hook(_module, args):
            x = args[0].clone()
            x[..., columns] = values.to(x.dtype)
            return (x, *args[1:])

        handles.append(model.get_submodule(p.path).register_forward_pre_hook(hook))

    for group in ranking.groups:
        goes = torch.from_numpy(ranking.order(group.name)[: round(share * len(group))].copy())
        if not len(goes):
            continue
        if group.kind in ("sublayers", "layers"):  # the residual stream gets the mean of what the blocks wrote
            for p, _ in group.rows:
                if p.type in READ_AT:
                    mean = statistics.mean(p.name)
                    set_output(p, torch.arange(p.d_out), mean if replacement == "mean" else torch.zeros_like(mean))
        elif group.kind == "pairs":
            for p, rows in group.rows:
                set_output(p, rows[goes].flatten(), torch.zeros(rows[goes].numel()))
        else:
            columns, site = group.columns[goes].flatten(), f"{group.layer}.{READ_AT[group.consumer.type]}"
            mean = covariances[site].mean[columns]
            set_input(group.consumer, columns, mean if replacement == "mean" else torch.zeros_like(mean))
    found = tiny.logits(model, given)
    for handle in handles:
        handle.remove()
    assert len(layers) > max(g.layer for g in ranking.groups)
    return found


@pytest.mark.parametrize(("family", "kinds"), CASES)
def test_pruned_is_overwritten_and_squeezed_is_pruned(family, kinds):
    model, batch, statistics, covariances = measured(family)
    layers, before, dense = find_layers(model), tiny.sha(model), tiny.logits(model, batch.inputs)
    ranking = bench_models.random_ranking(model, kinds)
    for replacement in ("mean", "zero", "least squares"):
        for share in (0.3, 0.6, 1.0):
            plan = ranking.plan(share)
            values = constants(replacement, statistics, ranking.groups)
            if not {"sublayers", "layers"} & set(kinds):
                assert all(values[p.name].eq(0).all() for g in ranking.groups for p, _ in g.rows)
            solved = Consumers(model, layers, ranking, lambda: covariances).solve(replacement, ranking.counts(share))
            pruned = prune(model, plan, values, solved)
            found = tiny.logits(pruned, batch.inputs)
            squeezed = squeeze(pruned, plan)
            assert tiny.distance(tiny.logits(squeezed, batch.inputs), found) <= 1e-10
            if replacement != "least squares":
                expected = overwritten(model, ranking, share, replacement, statistics, covariances, batch.inputs)
                assert tiny.distance(found, expected) <= 1e-10, (replacement, share)
                if plan.rows_removed:
                    assert tiny.distance(expected, dense) > 1e-4  # the oracle does something
            counted(plan, ranking, share, layers, squeezed)
    assert tiny.sha(model) == before and tiny.hooks(model) == 0


def counted(plan, ranking, share, layers, squeezed):
    """Exactly the units' rows are gone, and the cost is that of the squeezed model and of the units' weights."""
    gone = {g.name: count_removed(share, len(g)) for g in ranking.groups}
    rows = sum(gone[g.name] * sum(r.shape[1] for _, r in g.rows) for g in ranking.groups)
    assert plan.rows_removed == rows and all(ranking.gone(name, share) == n for name, n in gone.items())
    found = cost(layers, plan, [torch.zeros(layer.projections["query"].d_out) for layer in layers])
    # what squeezing finds on its own: a head whose last value is gone takes its queries and keys along
    assert found.parameters_removed >= sum(gone[g.name] * g.weights_of_a_unit for g in ranking.groups)
    if (
        share < 0.5
        and ranking.groups[0].kind in ("ffn neurons", "heads", "pairs")
        and len({g.kind for g in ranking.groups}) == 1
    ):
        assert found.parameters_removed == sum(gone[g.name] * g.weights_of_a_unit for g in ranking.groups)
    assert squeezed.squeezed.cost.parameters_left == found.parameters_left


@pytest.mark.parametrize("family", tiny.TRANSFORMERS)
def test_what_belongs_to_a_unit(family):
    """Every row and column belongs to one unit, and a unit's columns are those that read its rows."""
    model, layers = measured(family)[0], find_layers(measured(family)[0])
    for kinds in choices(family):
        groups = unit_groups(layers, kinds)
        assert len({g.name for g in groups}) == len(groups)
        for g in groups:
            assert all(len(rows) == len(g) for _, rows in g.rows)
            for p, rows in g.rows:
                assert sorted(rows.flatten().tolist()) == list(range(p.d_out))
            if g.columns is not None:
                assert sorted(g.columns.flatten().tolist()) == list(range(g.consumer.d_in))
                assert g.consumer.path == next(p.consumer for p, _ in g.rows if p.consumer)
    if family == "llama":  # two heads of queries share one of values: rows 0 and 12 are those of heads 0 and 1
        values = next(g for g in unit_groups(layers, ("values",)))
        assert values.columns[0].tolist() == [0, 12] and values.columns[13].tolist() == [25, 37]
        heads = next(g for g in unit_groups(layers, ("heads",)))
        assert len(heads) == 2 and sorted(heads.columns[1].tolist()) == list(range(24, 48))
        assert heads.weights_of_a_unit == (24 + 12 + 12) * 48 + 24 * 48
        pairs = next(g for g in unit_groups(layers, ("pairs",)))  # coordinates i and i + 6 of a head of 12 turn together
        assert len(pairs) == 2 * 6 and pairs.weights_of_a_unit == 6 * 48
        (query, queries), (key, keys) = pairs.rows
        assert (query.type, key.type) == ("query", "key")
        assert (sorted(queries[1].tolist()), keys[1].tolist()) == ([1, 7, 13, 19], [1, 7])
        assert (sorted(queries[8].tolist()), keys[8].tolist()) == ([26, 32, 38, 44], [14, 20])
        assert next(iter(unit_groups(layers, ("ffn neurons",)))).weights_of_a_unit == 3 * 48  # up, gate and down
    elif family == "bert":
        sizes = {g.kind: (len(g), g.weights_of_a_unit) for kind in UNITS[1:] for g in unit_groups(layers[:1], (kind,))[:1]}
        assert sizes == {
            "ffn neurons": (56, 2 * 48), "values": (48, 2 * 48), "pairs": (48, 2 * 48), "heads": (4, 4 * 12 * 48),
            "attention": (1, 4 * 48 * 48), "feed-forward": (1, 2 * 48 * 56),
            "sublayers": (1, 4 * 48 * 48), "layers": (1, 4 * 48 * 48 + 2 * 48 * 56),
        }  # fmt: skip
        only = unit_groups(layers, ("rows",), ("key", "ffn_out"))
        assert [g.name for g in only] == ["0.key", "0.ffn_out", "1.key", "1.ffn_out"]
    assert model is measured(family)[0]


def test_which_kinds_go_together():
    fine = {
        ("ffn neurons", "heads"),
        ("ffn neurons", "values"),
        ("ffn neurons", "pairs"),
        ("values", "pairs"),
        ("ffn neurons", "attention"),
    }
    fine |= {(kind, "feed-forward") for kind in ("values", "pairs", "heads", "attention")}
    pairs = {(a, b) for i, a in enumerate(UNITS) for b in UNITS[i + 1 :]}
    for a, b in pairs:
        if (a, b) in fine:
            assert check_units((b, a, b)) == (a, b)
        else:
            with pytest.raises(VPError, match=f"'{a}' and '{b}' have rows in common") as raised:
                check_units((b, a))
            assert str(raised.value).endswith(".") and "\n" not in str(raised.value)
    assert check_units(("pairs", "ffn neurons", "values")) == STRUCTURED
    for bad, says in (((), "No kind of unit is chosen"), (("ffn neurons", "noses"), "Unknown kind of unit 'noses'"),
                      (("heads", "ffn"), r"is now 'ffn neurons' .* the whole network is 'feed-forward'\.$")):  # fmt: skip
        with pytest.raises(VPError, match=says):
            check_units(bad)


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("kinds", [("rows",), STRUCTURED, ("heads",), ("sublayers",)])
def test_masks_are_nested_and_counts_exact(kinds, scope):
    model = measured("bert")[0]
    ranking = bench_models.random_ranking(model, kinds, scope=scope)
    before = {p.name: torch.ones(p.d_out, dtype=torch.bool) for g in ranking.groups for p, _ in g.rows}
    for percent in range(0, 101, 5):
        plan = ranking.plan(percent / 100)
        assert all((keep & ~before[name]).sum() == 0 for name, keep in plan.keep.items())
        units = sum(ranking.gone(g.name, percent / 100) for g in ranking.groups)
        competitions = {ranking.pool[g.name]: ranking.pool_size[g.name] for g in ranking.groups}
        assert units == sum(round(percent / 100 * size) for size in competitions.values())
        before = plan.keep
    assert not any(keep.any() for keep in before.values())


@pytest.mark.parametrize("kinds", [STRUCTURED, ("heads",), ("layers",)])
def test_sparsity_0_is_bit_equal_and_a_plan_is_kept(kinds, tmp_path):
    model, batch, statistics, covariances = measured("bert")
    ranking = bench_models.random_ranking(model, kinds, scope="global")
    solved = Consumers(model, find_layers(model), ranking, lambda: covariances).solve("least squares", ranking.counts(0))
    assert not solved
    pruned = prune(model, ranking.plan(0), constants("mean", statistics, ranking.groups), solved)
    assert torch.equal(tiny.logits(pruned, batch.inputs), tiny.logits(model, batch.inputs))
    plan = Plan(ranking.plan(0.4).keep, "c", "global", 0.4, "m", "parameters")
    plan.save(tmp_path / "plan")
    assert Plan.load(tmp_path / "plan") == plan != ranking.plan(0.4)
