"""What masks leave nothing of, against weights looked at one by one."""

import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vp_core.model.projections import find_layers
from vp_core.model.units import context_columns
from vp_core.ranking.plan import Plan
from vp_core.weights.dead import dead_rows, kept_weights
from vp_core.weights.masks import Masks
from vp_core.weights.matrices import find_matrices

MODELS = {family: tiny.transformer(family) for family in ("bert", "gpt2", "llama", "bart")}
ODD = tiny.transformer("bert", ffn=53)
"""53 columns fill no bytes."""


def draw_masks(model, seed):
    draw, keep = torch.Generator().manual_seed(seed), {}
    for matrix in find_matrices(model):
        keep[matrix.name] = torch.rand(matrix.shape, generator=draw) < 0.5
        keep[matrix.name][torch.rand(matrix.rows, generator=draw) < 0.4] = False
        keep[matrix.name][:, torch.rand(matrix.columns, generator=draw) < 0.4] = False
    return keep


@pytest.mark.parametrize("family", [*MODELS, "odd"])
@settings(max_examples=10)
@given(seed=st.integers(0, 10**6))
def test_rows_and_columns_one_by_one(family, seed):
    model = ODD if family == "odd" else MODELS[family]
    keep = draw_masks(model, seed)
    layers = find_layers(model)
    plan = dead_rows(layers, Masks.of(keep))
    for layer in layers:
        ps = layer.projections
        any_ = {t: keep[p.name] | keep.get(f"{p.name}.gate", keep[p.name]) for t, p in ps.items()}
        columns = context_columns(layer)
        live = {t: [bool(row.any()) for row in mask] for t, mask in any_.items()}
        live["value"] = [
            ok and bool(keep[ps["attention_output"].name][:, columns[i]].any()) for i, ok in enumerate(live["value"])
        ]
        if "ffn_in" in ps:
            live["ffn_in"] = [ok and bool(keep[ps["ffn_out"].name][:, i].any()) for i, ok in enumerate(live["ffn_in"])]
        width = ps["value"].head_width
        for type_ in ("query", "key"):
            group = len(live[type_]) // (len(live["value"]) // width)
            for i in range(len(live[type_])):
                head = i // group
                live[type_][i] &= any(live["value"][head * width : (head + 1) * width])
        for t, p in ps.items():
            assert plan.keep[p.name].tolist() == live[t], p.name
            rows = torch.tensor(live[t])
            cols = torch.ones(p.d_in, dtype=torch.bool)
            if t == "ffn_out":
                cols = torch.tensor(live["ffn_in"])
            if t == "attention_output":
                cols = torch.zeros(p.d_in, dtype=torch.bool)
                cols[columns[torch.tensor(live["value"])].flatten()] = True
            here = 0
            for name in (p.name, f"{p.name}.gate"):
                here += int(keep[name][rows][:, cols].sum()) if name in keep else 0
            assert kept_weights(p, Masks.of(keep), rows.nonzero().flatten(), cols.nonzero().flatten()) == here
        for t in ("query", "key", "value", "ffn_in"):
            if t not in ps:
                continue
            together = [o for o in ps if ps[o].path == ps[t].path]
            read = torch.stack([any_[o][torch.tensor(live[o])].any(dim=0) for o in together]).any(dim=0)
            found = plan.columns.get(ps[t].name, torch.ones_like(read))
            assert torch.equal(found, read) or not read.any()


def test_matrices_without_a_mask_are_whole():
    layers = find_layers(MODELS["bert"])
    plan = dead_rows(layers, Masks.of({}))
    assert plan.rows_removed == 0 and plan.rows == sum(p.d_out for layer in layers for p in layer.projections.values())
    assert not plan.columns
    only = {"0.query": torch.zeros(48, 48, dtype=torch.bool)}
    plan = dead_rows(layers, Masks.of(only, criterion="magnitude", scope="per matrix", sparsity=0.5))
    assert plan.rows_removed == 48 and not plan.columns  # nothing of it is read, but nothing is left of it either
    assert (plan.criterion, plan.scope, plan.sparsity) == ("magnitude", "per matrix", 0.5)


def test_a_plan_with_columns_is_kept(tmp_path):
    plan = dead_rows(find_layers(MODELS["bert"]), Masks.of(draw_masks(MODELS["bert"], 1)))
    assert plan.columns
    plan.save(tmp_path / "plan.safetensors")
    found = Plan.load(tmp_path / "plan.safetensors")
    assert found == plan and found.columns.keys() == plan.columns.keys()
    assert found != dead_rows(find_layers(MODELS["bert"]), Masks.of(draw_masks(MODELS["bert"], 2)))
