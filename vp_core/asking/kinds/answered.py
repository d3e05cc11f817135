"""What a model's answer is to those who measure it: what of it is differentiated, and how far two answers are apart.

Classes have a few outputs, each of which can be looked at. A word is one of a vocabulary, at every position: there the words y
are drawn from what the model itself says, y ~ softmax(z), and the gradient of Σ log p(y) over a window's positions is taken.
Its outer product has the Fisher information as its mean (no label is needed): the score of a drawn word has mean zero given
the text, so what positions draw apart from each other adds up without cross terms. Two answers are apart by KL(dense ‖ other).
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from vp_core.asking.batches import Batch
from vp_core.asking.forward import forward, name_of, told
from vp_core.asking.kinds.heads import head_of, head_states, logits_of
from vp_core.ground.errors import VPError

DRAWS = 2
"""Words drawn at every position: so many backward passes."""
AT_ONCE = 64
"""Positions whose logits are there at the same time, also in float64."""
_DRAWN, _CHOSEN = 1, 2
"""Beside a window's number, the seeds of what is drawn and of which positions are chosen."""


def of_classes(model: PreTrainedModel, logits: Tensor) -> Tensor:
    """The same logits (examples, outputs); VPError if they are of no classes, such as those of a T5 that writes."""
    if logits.dim() != 2:
        raise VPError(
            f"The model {name_of(model)!r} puts out neither classes nor the next tokens of its text, so there is no effect on "
            "its outputs to measure: choose a criterion without gradients and a replacement other than refit."
        )
    return logits


def to_differentiate(model: PreTrainedModel, batch: Batch, draws: int = DRAWS) -> Tensor:
    """Columns (examples, outputs) whose gradients say what a model's answer depends on; raises as `told` does.

    Of classes their logits. Of spans (examples, draws): Σ log p(y) / √draws of a drawn beginning and a drawn end. Of tokens
    (examples, draws): gradients, by whatever lies below the head, are those of Σ log p(y) / √draws over the positions that are
    `asked`, so that squares summed over columns are means over draws. The values themselves mean nothing.
    """
    if head_of(model) == "classes":
        return of_classes(model, forward(model, batch).logits)
    if head_of(model) == "spans":
        return _drawn_spans(spans_of(forward(model, batch), batch), batch.examples, draws)
    with told(model, batch):
        states = head_states(model, batch.inputs)
        gradient = _of_drawn(model, states.detach(), asked(model, batch), batch.examples, draws)
        return torch.einsum("etn,detn->ed", states, gradient)


def asked(model: PreTrainedModel, batch: Batch) -> Tensor:
    """(examples, tokens) bool: positions whose states tell a word that counts.

    Of next tokens every position but the last real one, whose next token the window does not hold; of masked tokens every
    word, which are all but the first and the last: these are special. Of tags the first token of each word, where the batch
    says which these are (`Batch.counted`), else as of masked tokens. Of target tokens, which a decoder reads as they were
    shifted, every real one.
    """
    if head_of(model) == "tags" and batch.counted is not None:
        return batch.counted.clone()
    if head_of(model) == "target tokens":
        own = "decoder_" if "decoder_input_ids" in batch.inputs else ""  # BART's reads the source where there is no target
        given = batch.inputs.get(f"{own}attention_mask")
        return torch.ones_like(batch.inputs[f"{own}input_ids"], dtype=torch.bool) if given is None else given.bool()
    mask = batch.inputs.get("attention_mask")
    real = torch.ones_like(batch.inputs["input_ids"], dtype=torch.bool) if mask is None else mask.bool()
    nothing = real.new_zeros(len(real), 1)
    before_a_token = real & torch.cat([real[:, 1:], nothing], dim=1)
    if head_of(model) == "next tokens":
        return before_a_token
    return before_a_token & torch.cat([nothing, real[:, :-1]], dim=1)


def chosen(model: PreTrainedModel, batch: Batch, most: int) -> Tensor:
    """(examples, tokens) bool: of the positions that are `asked` `most` of each window, drawn by the window's number."""
    where = asked(model, batch)
    for row, number in zip(where, batch.examples, strict=True):
        places = row.nonzero().squeeze(1)
        order = np.random.default_rng([_CHOSEN, int(number)]).permutation(len(places))
        row[places[torch.from_numpy(order[most:].copy()).to(places.device)]] = False
    return where


def spans_of(found: Any, batch: Batch) -> Tensor:
    """log p (examples, 2, tokens) of where a span begins and where it ends, from a model's answer; −∞ at padding."""
    logits = torch.stack([found.start_logits, found.end_logits], dim=1).float()
    mask = batch.inputs.get("attention_mask")
    if mask is not None:
        logits = logits.masked_fill(~mask.bool().to(logits.device)[:, None], -torch.inf)
    return logits.log_softmax(dim=2)


def apart(dense: Tensor, other: Tensor) -> float:
    """Σ over examples of KL(p ‖ q) in nats, of log p and log q (examples, distributions, outcomes)."""
    p, q = dense.double(), other.double()
    return float((p.exp() * (p - q)).nan_to_num(0.0).sum())


def _drawn_spans(logs: Tensor, examples: np.ndarray, draws: int) -> Tensor:
    """(examples, draws): log p of a drawn beginning and end, summed, over √draws."""
    luck = np.stack([np.random.default_rng([_DRAWN, int(i)]).random((2, draws)) for i in examples])
    upto = logs.detach().double().exp().cumsum(dim=2)
    places = torch.searchsorted(upto, torch.from_numpy(luck).to(logs.device) * upto[:, :, -1:])
    return logs.gather(2, places.clamp(max=logs.shape[2] - 1)).sum(dim=1) / draws**0.5


def divergence(model: PreTrainedModel, dense: Tensor, other: Tensor) -> float:
    """Σ over positions of KL(p ‖ q) in nats, of what the model's head says to the states `dense` (n, width) and to `other`."""
    total = 0.0
    with torch.no_grad():
        for one, two in zip(dense.split(AT_ONCE), other.split(AT_ONCE), strict=True):
            p, q = logits_of(model, one).log_softmax(dim=1), logits_of(model, two).log_softmax(dim=1)
            total += float((p.exp() * (p - q)).sum(dtype=torch.float64))
    return total


def _of_drawn(model: PreTrainedModel, states: Tensor, where: Tensor, windows: np.ndarray, draws: int) -> Tensor:
    """∂/∂states of Σ log p(y) / √draws for every draw (draws, examples, tokens, width); y depends on the window's number alone,
    not on those that share its batch."""
    found = states.new_zeros(draws, *states.shape)
    uniform = _uniform(where, windows, draws).to(states.device)
    places = where.nonzero()
    for at, luck in zip(places.split(AT_ONCE), uniform.split(AT_ONCE, dim=1), strict=True):
        rows, columns = at.T
        for draw, gradient in enumerate(_scores(model, states[rows, columns], luck)):
            found[draw, rows, columns] = gradient / draws**0.5
    return found


def _scores(model: PreTrainedModel, states: Tensor, luck: Tensor) -> Iterator[Tensor]:
    """For each draw ∂ log p(y)/∂states (n, width), y the word at which the distribution's sum passes `luck` (draws, n)."""
    with torch.enable_grad():
        own = states.detach().requires_grad_(True)
        told_by = logits_of(model, own).log_softmax(dim=1)
    upto = told_by.detach().double().exp().cumsum(dim=1)
    for number, u in enumerate(luck):
        words = torch.searchsorted(upto, (u * upto[:, -1])[:, None]).clamp(max=upto.shape[1] - 1)
        last = number + 1 == len(luck)
        yield torch.autograd.grad(told_by.gather(1, words).sum(), own, retain_graph=not last)[0]


def _uniform(where: Tensor, windows: np.ndarray, draws: int) -> Tensor:
    """Numbers between 0 and 1 (draws, positions), float64, for the positions of all windows in order."""
    counts = where.sum(dim=1).tolist()
    drawn = [np.random.default_rng([_DRAWN, int(i)]).random((n, draws)) for i, n in zip(windows, counts, strict=True)]
    return torch.from_numpy(np.concatenate(drawn).T.copy())
