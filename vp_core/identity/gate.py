"""The gate S_ε(F(x)) = t_ε(F(x))·F(x) on residual blocks, which are the identity while it is shut (SNIP, section 3.2).

t_ε(v) = 1 − ReLU(1 − L·max_i ReLU(|v_i| − ε)) is 0 where no |v_i| is above ε, 1 from ε + 1/L on. As |v| enters by its
largest coordinate only, t_ε is a function of the block's norm max_i |v_i|, which is what is computed here.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import relu
from transformers import PreTrainedModel

from vp_core.ground.chosen import check_epsilon
from vp_core.ground.errors import VPError
from vp_core.ground.names import KINDS
from vp_core.measuring.function_norms import head_norms, live_heads, scaled_rows
from vp_core.model.blocks import Sublayers, scale_of
from vp_core.model.projections import layer_paths, uses_of
from vp_core.model.sharing import share

SLOPE = 1e5
"""The paper's L."""
Epsilon = Mapping[str, float]
"""ε by kind of block; a kind that is not there has no gate."""


def gate(norm: Tensor, epsilon: float, slope: float = SLOPE) -> Tensor:
    """t_ε of blocks with these norms (any shape), in [0, 1].

    >>> gate(torch.tensor([0.4, 0.5, 0.6]), 0.5)
    tensor([0., 0., 1.])
    """
    return 1 - relu(1 - slope * relu(norm - epsilon))


class HeadNorms(torch.autograd.Function):
    """`vp_core.measuring.function_norms.head_norms` with a gradient, through each token's largest coordinate alone."""

    @staticmethod
    def forward(ctx: Any, context: Tensor, weight: Tensor, heads: int) -> Tensor:
        """(heads, tokens) from `context` (tokens, heads·w) and `weight` (d, heads·w)."""
        width = context.shape[1] // heads
        by_head = weight.view(len(weight), heads, width).permute(1, 2, 0)  # (heads, w, d)
        parts = context.view(len(context), heads, width).transpose(0, 1)  # (heads, tokens, w)
        contributions = torch.bmm(parts, by_head)
        norms, index = contributions.abs().max(dim=2)
        sign = contributions.gather(2, index[..., None])[..., 0].sign()
        ctx.save_for_backward(context, weight, index, sign)
        return norms

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        """Gradients of `context` (tokens, heads·w) and `weight` (d, heads·w), from that of the norms (heads, tokens)."""
        context, weight, index, sign = ctx.saved_tensors
        heads, tokens = index.shape
        by_head = weight.view(len(weight), heads, -1).transpose(0, 1)  # (heads, d, w)
        parts = context.view(tokens, heads, -1).transpose(0, 1)  # (heads, tokens, w)
        flow = (gradients[0] * sign)[..., None]  # (heads, tokens, 1)
        to_context = flow * by_head.gather(1, index[..., None].expand(-1, -1, by_head.shape[2]))
        to_weight = torch.zeros_like(by_head).scatter_add(1, index[..., None].expand_as(parts), flow * parts)
        return to_context.transpose(0, 1).reshape(tokens, -1), to_weight.transpose(0, 1).reshape(weight.shape), None


class Gated(nn.Module):
    """The module at the end of a block, `inner`, with gates: on its heads' shares, on its whole output, or on both. What it
    puts out is times `scale` (d,) before it is added, and so are its norms.

    In training `seen` holds the norms of the model's last forward pass, {kind: (blocks, tokens) of each use}: a module that a
    pass uses so many times (`uses`; ALBERT shares it) keeps as many, the next pass's norms drive them out.
    """

    def __init__(
        self, inner: nn.Module, heads: int, head_epsilon: float | None, kind: str, epsilon: float | None, uses: int = 1,
        scale: Tensor | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.inner, self.heads, self.head_epsilon, self.kind, self.epsilon = inner, heads, head_epsilon, kind, epsilon
        self.uses = uses
        self._scale = (scale,)  # in a tuple: it stays a parameter of the model alone
        self.seen: dict[str, deque[Tensor]] = {}

    @property
    def weight(self) -> Tensor | None:
        """That of the module within: T5 asks its maps for their dtype."""
        return getattr(self.inner, "weight", None)

    def forward(self, x: Tensor) -> Tensor:
        """(…, d_in) → (…, d_out)"""
        if not self.training:
            self.seen = {}
        if self.head_epsilon is not None and self.heads:
            x = self._heads(x, self.head_epsilon)
        y = self.inner(x)
        if self.epsilon is not None:
            [scale] = self._scale
            norms = (y if scale is None else y * scale).abs().amax(dim=-1, keepdim=True).float()
            self._remember(self.kind, norms.view(1, -1))
            y = y * gate(norms, self.epsilon).to(y.dtype)
        return y

    def _heads(self, x: Tensor, epsilon: float) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])
        live, weight = live_heads(self.inner, flat)
        weight = scaled_rows(self.inner, weight, *self._scale).to(x.dtype)
        if torch.is_grad_enabled():
            norms = cast(Tensor, HeadNorms.apply(live, weight, self.heads)).float()
        else:
            norms = head_norms(live, weight, self.heads).float()
        self._remember("head", norms)
        opening = gate(norms, epsilon).T.to(x.dtype)  # (tokens, heads)
        if live is not flat:  # the inner map picks the heads that are left out of all
            by_column = opening.repeat_interleave(live.shape[1] // self.heads, dim=1)
            return (flat * torch.ones_like(flat).index_copy(1, cast(Tensor, self.inner.in_index), by_column)).view_as(x)
        return (flat.view(len(flat), self.heads, -1) * opening[..., None]).view_as(x)

    def _remember(self, kind: str, norms: Tensor) -> None:
        if self.training:
            self.seen.setdefault(kind, deque(maxlen=self.uses)).append(norms)


def gated(model: PreTrainedModel, sublayers: Sequence[Sublayers], epsilon: Epsilon) -> PreTrainedModel:
    """A copy of `model`, its tensors shared, with a gate on every block of the kinds in `epsilon`.

    Raises VPError for ε ≤ 0 and for kinds that are none.
    """
    unknown = set(epsilon) - set(KINDS)
    if unknown:
        raise VPError(f"There are no blocks {sorted(unknown)[0]!r}: ε is for {', '.join(KINDS)}.")
    limits = {kind: check_epsilon(value) for kind, value in epsilon.items()}
    copy = share(model)
    uses = [uses_of(model, stack) for stack, _ in layer_paths(model)]
    for one in sublayers:
        if one.attention and {"head", "attention"} & set(limits):
            inner = copy.get_submodule(one.attention)
            new = Gated(
                inner, one.places or len(one.heads), limits.get("head"), "attention", limits.get("attention"),
                uses[one.layer], scale_of(copy, one.attention_scale),
            )  # fmt: skip
            copy.set_submodule(one.attention, new.train(model.training))
        if one.ffn and "ffn" in limits:
            inner = copy.get_submodule(one.ffn)
            new = Gated(inner, 0, None, "ffn", limits["ffn"], uses[one.layer], scale_of(copy, one.ffn_scale))
            copy.set_submodule(one.ffn, new.train(model.training))
    return copy


def ungate(model: nn.Module) -> None:
    """Take the gates off again, in place."""
    for path, module in list(model.named_modules()):
        if isinstance(module, Gated):
            model.set_submodule(path, module.inner)
