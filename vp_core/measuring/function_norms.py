"""Function norms: per token max_i |F(x)_i| of every block, over real tokens (SNIP, section 3.2 and fig. 2).

`collect_norms(model, batches) -> FunctionNorms`. Nothing grows with the number of tokens: the distribution is a histogram,
and of each text only the largest norm of each block stays, from which the share of mini-batches in which a block would
have been the identity follows for every ε at once.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from vp_core.asking.batches import Batch
from vp_core.asking.forward import forward
from vp_core.ground.errors import VPError
from vp_core.ground.store import load_tensors, save_tensors
from vp_core.measuring.histogram import Histogram
from vp_core.measuring.tally import each_batch
from vp_core.model.blocks import Block, Sublayers, find_sublayers, scale_of
from vp_core.model.projections import as_rows
from vp_core.model.scatter import ScatterLinear
from vp_core.model.sites import Site, observed

MINI_BATCH = 32
"""Texts in a mini-batch, as in the paper's fine-tuning (table 3)."""
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
_CHUNK = 128
"""Tokens whose contributions, (heads, tokens, d), are made at once: they stay in the level-2 cache."""


@dataclass(frozen=True, eq=False)
class FunctionNorms:
    """`histogram` of the norms of all `blocks` in their order, and `maxima` (texts, blocks), the largest norm in each text.

    `model` and `data` are the fingerprints of what was measured. `sums` and `counts` (texts, blocks) are the sum of the norms
    in each text and how many they are (None in files of 0.7 and before).
    """

    blocks: tuple[Block, ...]
    histogram: Histogram
    maxima: Tensor
    model: str = ""
    data: str = ""
    sums: Tensor | None = None
    counts: Tensor | None = None

    def means(self) -> dict[Block, float]:
        """Block → mean norm over tokens, exact."""
        return dict(zip(self.blocks, self.histogram.mean().tolist(), strict=True))

    def of(self, kind: str) -> list[int]:
        """Positions of the blocks of a kind."""
        return [i for i, block in enumerate(self.blocks) if block.kind == kind]

    def batch_maxima(self, seed: int = 0) -> Tensor:
        """(mini-batches, blocks): the largest norm in each of random mini-batches of MINI_BATCH texts."""
        return torch.stack([self.maxima[part].amax(dim=0) for part in self._mini_batches(seed)])

    def batch_means(self, seed: int = 0) -> Tensor:
        """(mini-batches, blocks): the mean norm over all tokens of each of the same mini-batches; VPError where `sums` lack."""
        if self.sums is None or self.counts is None:
            raise VPError("These function norms do not say what each text's mean is: measure them again.")
        parts = self._mini_batches(seed)
        return torch.stack([self.sums[part].sum(dim=0) / self.counts[part].sum(dim=0) for part in parts])

    def _mini_batches(self, seed: int) -> tuple[Tensor, ...]:
        return torch.from_numpy(np.random.default_rng(seed).permutation(len(self.maxima))).split(MINI_BATCH)

    def shut(self, epsilon: Mapping[str, float]) -> Tensor:
        """(mini-batches, blocks) bool: whether S_ε makes the block the identity there; `epsilon` as in `identity_share`."""
        limits = torch.tensor([epsilon.get(block.kind, -1.0) for block in self.blocks])
        return self.batch_maxima() <= limits

    def identity_share(self, epsilon: Mapping[str, float]) -> Tensor:
        """(blocks,): the share of mini-batches in which S_ε makes the block the identity: no token's norm is above ε.

        `epsilon` gives ε by kind; blocks of other kinds are never the identity.
        """
        return self.shut(epsilon).double().mean(dim=0)

    def closed_share(self, epsilon: Mapping[str, float]) -> Tensor:
        """(blocks,): the share of tokens at which S_ε puts out zero, to within a bin of the histogram."""
        shares = {kind: self.histogram.share_below(value) for kind, value in epsilon.items()}
        nothing = torch.zeros(len(self.blocks), dtype=torch.float64)
        return torch.stack([shares.get(block.kind, nothing)[i] for i, block in enumerate(self.blocks)])

    def smallest_mean(self, kinds: Sequence[str], k: int = 1) -> float:
        """ε by the paper's rule: the k-th smallest mean norm among the blocks of these kinds (section 3.4)."""
        means = sorted(mean for block, mean in self.means().items() if block.kind in kinds)
        return means[min(k, len(means)) - 1]

    def merge(self, other: "FunctionNorms") -> "FunctionNorms":
        """The norms of both together, text after text; VPError for different blocks or models."""
        if self.blocks != other.blocks or self.model != other.model:
            raise VPError("These function norms belong to different models: collect both on the same one.")
        both = Histogram.empty(len(self.blocks))
        for one in (self, other):
            both.merge(one.histogram)
        parts = ((self.sums, other.sums), (self.counts, other.counts))
        sums, counts = (None if a is None or b is None else torch.cat([a, b]) for a, b in parts)
        maxima = torch.cat([self.maxima, other.maxima])
        return FunctionNorms(self.blocks, both, maxima, self.model, f"{self.data}+{other.data}", sums, counts)

    def save(self, path: str | Path) -> None:
        """Write to a safetensors file, atomically."""
        s = self.histogram
        tensors = {"counts": s.counts, "total": s.total, "low": s.low, "high": s.high, "maxima": self.maxima}
        if self.sums is not None and self.counts is not None:
            tensors |= {"sums": self.sums, "counts_of_texts": self.counts}
        about = {"blocks": " ".join(block.name for block in self.blocks), "model": self.model, "data": self.data}
        save_tensors(path, tensors, kind="function norms", about=about)

    @classmethod
    def load(cls, path: str | Path) -> "FunctionNorms":
        """Read what `save` wrote; VPError if the file is broken or something else."""
        t, about = load_tensors(path, kind="function norms")
        blocks = tuple(Block.named(name) for name in about["blocks"].split())
        histogram = Histogram(t["counts"], t["total"], t["low"], t["high"])
        more = (t.get("sums"), t.get("counts_of_texts"))
        return cls(blocks, histogram, t["maxima"], about["model"], about["data"], *more)


def head_norms(context: Tensor, weight: Tensor, heads: int) -> Tensor:
    """max_i |(head_h · W_O_h)_i| of every head: (heads, tokens) from `context` (tokens, heads·w) and W_O (d, heads·w).

    Costs as many multiplications as W_O itself, since each head meets its own columns only.
    """
    width = weight.shape[1] // heads
    by_head = weight.view(len(weight), heads, width).permute(1, 2, 0).contiguous()  # (heads, w, d)
    found = context.new_empty(heads, len(context))
    for start in range(0, len(context), _CHUNK):
        part = context[start : start + _CHUNK].view(-1, heads, width).transpose(0, 1)  # (heads, tokens, w)
        torch.amax(torch.bmm(part, by_head).abs_(), dim=2, out=found[:, start : start + _CHUNK])
    return found


def live_heads(module: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """(the part (…, n) of `x` (…, d_in) that comes from heads which are there, the columns (d, n) of W_O that read it).

    `module` is W_O, squeezed or not.
    """
    if not isinstance(module, ScatterLinear):
        return x, as_rows(module, cast(Tensor, module.weight))
    return x[..., module.in_index] if module.shape.gathers else x, module.compact()[0]


def scaled_rows(module: nn.Module, weight: Tensor, scale: Tensor | None) -> Tensor:
    """Rows (rows, n) of W_O as `live_heads` gives them, each times its number of `scale` (d,)."""
    if scale is None:
        return weight
    rows = module.out_index if isinstance(module, ScatterLinear) and module.shape.width is not None else slice(None)
    return weight * scale[rows, None]


def collect_norms(
    model: PreTrainedModel, batches: Iterable[Batch], sublayers: Sequence[Sublayers] | None = None, *,
    model_id: str = "", data_id: str = "",
) -> FunctionNorms:  # fmt: skip
    """Function norms of every head, attention block and feed-forward network over the real tokens of `batches`.

    `sublayers` says where they are, for a model that blocks have left already (`vp_core.model.blocks`). Blocks that are used
    several times (ALBERT) count each use. Raises VPError for an empty set, a family without these residual blocks, and
    norms that are NaN or infinite.
    """
    sublayers = tuple(find_sublayers(model) if sublayers is None else sublayers)
    blocks = tuple(block for one in sublayers for block in one.blocks)
    at = {site: there for one in sublayers for site, there in _sites(one)}
    places = {site: one.places if site.inputs else None for one in sublayers for site, _ in _sites(one)}
    scales = {
        site: one.ffn_scale if site.path == one.ffn else one.attention_scale for one in sublayers for site, _ in _sites(one)
    }
    decoder = {block: site.decoder for site, there in at.items() for block in there}

    def one(copy: PreTrainedModel, batch: Batch) -> _OfBatch:
        uses: dict[Block, list[Tensor]] = {}

        def see(site: Site, values: Tensor) -> None:
            module, scale = copy.get_submodule(site.path), scale_of(copy, scales[site])
            norms = _norms(module, site, values, places[site] or len(at[site]), scale)
            live = norms if places[site] is None else norms[[block.head or 0 for block in at[site]]]
            for block, row in zip(at[site], live, strict=True):
                uses.setdefault(block, []).append(row)

        with torch.inference_mode(), observed(copy, at, see):
            forward(copy, batch)
        return _of_batch(batch, blocks, decoder, uses)

    total, parts, texts = Histogram.empty(len(blocks)), list[tuple[Tensor, Tensor, Tensor]](), []
    for found in each_batch(model, batches, one):
        total.merge(found.histogram)
        parts.append((found.maxima, found.sums, found.counts))
        texts.append(found.texts)
    if not parts:
        raise VPError("There are no tokens to measure function norms on: give at least one sentence.")
    order = torch.from_numpy(np.argsort(np.concatenate(texts), kind="stable"))  # whatever the batches, text by text
    maxima, sums, counts = (torch.cat(one)[order] for one in zip(*parts, strict=True))
    return FunctionNorms(blocks, total, maxima, model_id, data_id, sums, counts)


@dataclass(frozen=True, eq=False)
class _OfBatch:
    """One batch: the histogram of its norms, `maxima`, `sums` and `counts` of them (examples, blocks), and `texts` (examples,),
    their places in the data."""

    histogram: Histogram
    maxima: Tensor
    sums: Tensor
    counts: Tensor
    texts: np.ndarray


def _sites(one: Sublayers) -> Iterator[tuple[Site, tuple[Block, ...]]]:
    """Where the blocks of a layer are seen: its heads in what W_O reads, the others in what their last module puts out."""
    if one.attention and one.heads:
        heads = tuple(Block(one.layer, "head", head) for head in one.heads)
        yield Site(f"{one.layer}.head", one.attention, inputs=True, decoder=one.decoder), heads
    for path, kind in ((one.attention, "attention"), (one.ffn, "ffn")):
        if path:
            yield Site(f"{one.layer}.{kind}", path, inputs=False, decoder=one.decoder), (Block(one.layer, kind),)


def _norms(module: nn.Module, site: Site, values: Tensor, blocks: int, scale: Tensor | None) -> Tensor:
    """The norms (blocks, tokens) of a site's blocks, from what passed at `module`, (examples, tokens, n), then scaled."""
    if not site.inputs:
        return (values if scale is None else values * scale).abs().amax(dim=-1).flatten()[None]
    x, weight = live_heads(module, values.flatten(0, -2))
    return head_norms(x, scaled_rows(module, weight, scale), blocks)


def _of_batch(
    batch: Batch, blocks: Sequence[Block], decoder: Mapping[Block, bool], uses: Mapping[Block, Sequence[Tensor]]
) -> _OfBatch:
    """What `uses` add up to: for each block its norms (examples·tokens,), once for each use; those of padding are left out.

    `decoder` says of each block whether its tokens are a decoder's. Raises VPError for norms that are NaN or infinite.
    """
    histogram = Histogram.empty(len(blocks))
    maxima, sums, counts = (torch.zeros(len(batch.examples), len(blocks)) for _ in range(3))
    for side in sorted(set(decoder.values())):
        mask = batch.real_tokens(side)
        chosen = [i for i, block in enumerate(blocks) if decoder[block] == side]
        for use in zip(*(uses[blocks[i]] for i in chosen), strict=True):
            norms = torch.stack(use).float().cpu()  # (blocks, examples·tokens)
            if mask is not None:
                norms *= mask
            _check_finite([blocks[i] for i in chosen], norms)
            by_text = norms.view(len(chosen), len(batch.examples), -1)
            maxima[:, chosen] = torch.maximum(maxima[:, chosen], by_text.amax(dim=2).T)
            sums[:, chosen] += by_text.sum(dim=2).T
            tokens = (
                torch.full((len(batch.examples),), float(by_text.shape[2]))
                if mask is None
                else mask.view(len(batch.examples), -1).sum(dim=1).float()
            )
            counts[:, chosen] += tokens[:, None]
            histogram.add(chosen, norms if mask is None else norms[:, mask.bool()])
    return _OfBatch(histogram, maxima, sums, counts, batch.examples)


def _check_finite(blocks: Sequence[Block], norms: Tensor) -> None:
    """VPError that names the first block whose norms (blocks, tokens) are NaN or infinite."""
    sums = norms.sum(dim=1)
    if not torch.isfinite(sums).all():
        block = blocks[int((~torch.isfinite(sums)).nonzero()[0])]
        raise VPError(
            f"The function norm of {block.name} is not finite: this model cannot be measured; check its weights, or run it in "
            "float32."
        )
