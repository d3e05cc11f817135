"""Function norms by brute force: numpy on activations that hooks have kept."""

import numpy as np
import tiny
import torch
from transformers.pytorch_utils import Conv1D

from vp_core.asking.batches import Batch
from vp_core.model.projections import find_layers


def batches_of(family, seed=0):
    """Three batches, padded on both sides where the family allows it."""
    if family in tiny.SEEING:
        draw = torch.Generator().manual_seed(seed)
        return [Batch({"pixel_values": torch.randn(n, 3, 32, 32, generator=draw).double()}, at)
                for n, at in ((2, np.array([3, 0])), (3, np.array([1, 2, 4])))]  # fmt: skip
    sides = ("right", "left") if family in ("gpt2", "llama") else ("right",)
    found = [Batch(tiny.inputs(family, side=side), np.arange(3) + 3 * i) for i, side in enumerate(sides)]
    more = tiny.inputs(family)
    return [*found, Batch({k: v[[2, 1]] for k, v in more.items()}, np.array([7, 6]))]


def kept(model, batch):
    """[(projection of the block's end, its input, its output)] of one forward pass, numpy (examples, tokens, d)."""
    ends = [layer.projections[t] for layer in find_layers(model) for t in ("attention_output", "ffn_out")
            if t in layer.projections]  # fmt: skip
    found, handles = [], []
    for p in ends:

        def keep(_module, given, output, p=p):
            found.append((p, given[0].double().numpy(), output.double().numpy() * scale_of(model, p)))

        handles.append(model.get_submodule(p.path).register_forward_hook(keep))
    with torch.no_grad():
        model(**batch.inputs)
    for handle in handles:
        handle.remove()
    return found


def scale_of(model, p):
    """(d,) what DINOv2 and BEiT scale the block's output with, else 1."""
    layer = model.get_submodule(p.path.rsplit(".", 2)[0])
    number = 1 if p.type == "attention_output" else 2
    if model.config.model_type == "dinov2":
        return getattr(layer, f"layer_scale{number}").lambda1.detach().double().numpy()
    return getattr(layer, f"lambda_{number}").detach().double().numpy() if model.config.model_type == "beit" else 1.0


def contributions(model, p, x):
    """head_h·W_O_h of every head, (heads, examples, tokens, d), by plain slices."""
    module = model.get_submodule(p.path)
    weight = module.weight.detach().double().numpy()
    weight = (weight if isinstance(module, Conv1D) else weight.T) * scale_of(model, p)  # (d_in, d)
    heads = tiny.HEADS // 2 if model.config.model_type == "llama" else tiny.HEADS  # those that share a key go together
    width = len(weight) // heads
    return np.stack([x[..., h * width : (h + 1) * width] @ weight[h * width : (h + 1) * width] for h in range(heads)])


def mask_of(batch, p):
    """(examples, tokens) bool of the block's tokens; None: all are real."""
    if "pixel_values" in batch.inputs:
        return None
    if p.decoder and "decoder_input_ids" in batch.inputs:
        written = batch.inputs.get("decoder_attention_mask")
        return None if written is None else written.bool().numpy()
    return batch.inputs["attention_mask"].bool().numpy()


def brute(model, batches):
    """Block name → [(example, its norms (tokens,))], padding left out by indexing."""
    found = {}
    for batch in batches:
        for p, x, y in kept(model, batch):
            mask = mask_of(batch, p)
            blocks = {f"{p.layer}.ffn": y} if p.type == "ffn_out" else {f"{p.layer}.attention": y}
            if p.type == "attention_output":
                blocks |= {f"{p.layer}.head.{h}": one for h, one in enumerate(contributions(model, p, x))}
            for name, values in blocks.items():
                norms = np.abs(values).max(axis=-1)
                for row, example in enumerate(batch.examples):
                    real = slice(None) if mask is None else mask[row]
                    found.setdefault(name, []).append((int(example), norms[row][real]))
    return found
