"""Attention with dropout on its weights, in training on a processor, without keeping anything as large as these weights.

torch's own attention with dropout draws a float for each weight, keeps three tensors of length × length a head and layer, and
pruning shrinks none of it. Here a block of heads at a time passes through buffers that stay in the processor's cache; 16 random
bits say whether a weight stays, and the backward pass makes the weights again and draws the same bits from the same seed (the
recomputation of Dao et al. 2022, FlashAttention, section 3). The seed is drawn from torch's generator.
"""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from transformers import PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

LEAN = "sdpa_lean_dropout"
"""The name by which transformers knows this attention; it is its `sdpa` but for dropout in training on a processor."""
_DRAWS = 2**16
_BLOCK = 2**19
"""Weights that are worked on at a time, at least those of one head: as many as a core's cache holds."""


def lean_attention(
    module: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, dropout: float = 0.0,
    **named: Any,
) -> Any:  # fmt: skip
    """transformers' `sdpa` attention: query, key and value (batch, heads, tokens, width) → (batch, tokens, heads, width)."""
    lean = dropout and query.device.type == "cpu" and not torch.compiler.is_compiling()
    with _LeanDropout() if lean else nullcontext():
        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout=dropout, **named)


def set_lean(model: PreTrainedModel) -> None:
    """Let a model whose attention is transformers' `sdpa`, or can be, train with lean dropout; in place."""
    if model.config._attn_implementation != LEAN and model._supports_sdpa:
        model.set_attn_implementation(LEAN)


ALL_ATTENTION_FUNCTIONS.register(LEAN, lean_attention)
ALL_MASK_ATTENTION_FUNCTIONS.register(LEAN, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])


class _LeanDropout(TorchFunctionMode):
    """What transformers prepares for torch's attention goes to `dropped_attention` instead, where weights are dropped."""

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        named = kwargs or {}
        if func is F.scaled_dot_product_attention and _can_be_lean(*args, **named):
            return dropped_attention(*args, **named)
        return func(*args, **named)


def _can_be_lean(query: Tensor, key: Tensor, *_: Any, attn_mask: Tensor | None = None, **named: Any) -> bool:
    learned = attn_mask is not None and attn_mask.requires_grad  # T5's bias by position
    return not learned and len(query) == len(key)


def dropped_attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
    is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
) -> Tensor:  # fmt: skip
    """softmax(scale · QKᵀ + mask) V with weights dropped: (batch, heads, tokens, width) each, as torch's function of the same
    arguments; the mask is added, or says where to look (bool), and gets no gradient.

    A weight stays with probability 1 - p, rounded to the next of 65,536 parts, and is divided by that. In float32 where query
    is in fewer bits, as torch does it.
    """
    if enable_gqa:
        key, value = (part.repeat_interleave(query.shape[1] // key.shape[1], dim=1) for part in (key, value))
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    if is_causal:
        attn_mask = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool).tril()
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        attn_mask = torch.zeros(attn_mask.shape).masked_fill_(~attn_mask, -torch.inf)
    dtype = torch.promote_types(query.dtype, torch.float32)
    with torch.autocast("cpu", enabled=False):
        exact = (part.to(dtype) for part in (query, key, value))
        mask = None if attn_mask is None else attn_mask.to(dtype).expand(*query.shape[:-1], key.shape[-2])
        seed = int(torch.randint(2**63 - 1, ()))
        return _Dropped.apply(*exact, mask, float(scale), round(dropout_p * _DRAWS), seed).to(query.dtype)


class _Dropped(torch.autograd.Function):
    """`dropped_attention` and its derivative; `gone` of 65,536 draws drop a weight."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float, gone: int, seed: int
    ) -> Tensor:
        ctx.how = scale, gone, seed
        left = 1 - gone / _DRAWS
        mixed = query.new_empty(*query.shape[:-1], value.shape[-1])
        for at, weights, stays in _weights(query, key, mask, *ctx.how):
            mixed[at] = weights.mul_(stays) @ value[at]
        mixed.mul_(1 / left if left else 0.0)
        ctx.save_for_backward(query, key, value, mask, mixed)
        return mixed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        query, key, value, mask, mixed = ctx.saved_tensors
        scale, gone, _ = ctx.how
        inner = (gradient * mixed).sum(-1, keepdim=True)  # of a query, Σ weight · its gradient
        gradient = gradient * (_DRAWS / (_DRAWS - gone) if gone < _DRAWS else 0.0)
        of_query, of_key, of_value = (torch.empty_like(part) for part in (query, key, value))
        for at, weights, stays in _weights(query, key, mask, *ctx.how):
            of_scores = (gradient[at] @ value[at].mT).mul_(stays).sub_(inner[at]).mul_(weights)
            of_value[at] = weights.mul_(stays).mT @ gradient[at]
            of_query[at] = of_scores @ key[at]
            of_key[at] = of_scores.mT @ query[at]
        return of_query.mul_(scale), of_key.mul_(scale), of_value, None, None, None, None


def _weights(
    query: Tensor, key: Tensor, mask: Tensor | None, scale: float, gone: int, seed: int
) -> Iterator[tuple[tuple[int, slice], Tensor, Tensor]]:
    """A block at a time: (text, heads), weights (heads, tokens, tokens), and in the same shape 1 where these stay, else 0."""
    texts, heads, length, _ = query.shape
    size, bits = length * key.shape[-2], np.random.SFC64(seed)
    step = max(1, _BLOCK // max(size, 1))
    whole = query.new_empty(3, min(step, heads), length, key.shape[-2])
    for text in range(texts):
        for first in range(0, heads, step):
            at = text, slice(first, min(first + step, heads))
            scores, weights, stays = whole[:, : at[1].stop - first]
            torch.bmm(query[at] * scale, key[at].mT, out=scores)
            if mask is not None:
                scores.add_(mask[at])
            torch.softmax(scores, -1, out=weights)
            if mask is not None:  # a query that sees nothing
                weights.masked_fill_((mask[at] == -torch.inf).all(-1, keepdim=True), 0)
            drawn = torch.from_numpy(bits.random_raw(-(-weights.numel() // 4))).view(torch.int16)[: weights.numel()]
            torch.ge(drawn.view(weights.shape), gone - _DRAWS // 2, out=stays)  # as numbers: four times as fast as from bool
            yield at, weights, stays
