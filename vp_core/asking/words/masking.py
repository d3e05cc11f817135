"""Words of a text masked: as BERT was pre-trained (Devlin et al. 2019, section 3.1)."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from vp_core.asking.batches import Batch, Encoded, encode, make_batches
from vp_core.ground.errors import VPError

SHARE = 0.15
"""Of each text's words so many are predicted (Devlin et al. 2019, section 3.1)."""
_MASKED, _RANDOM = 0.8, 0.1
"""What stands in a chosen word's place: the mask, another word, and else the word itself."""


@dataclass(frozen=True, eq=False)
class Masked:
    """A batch with words masked: where (`rows`, `columns`), and what stood there (`ids`), (chosen,) each."""

    batch: Batch
    rows: Tensor
    columns: Tensor
    ids: Tensor


def check_masked_lm(model: PreTrainedModel) -> None:
    """VPError unless the model predicts masked words."""
    if not type(model).__name__.endswith("ForMaskedLM"):
        raise VPError(f"A {type(model).__name__} predicts no masked words: load the model as a ...ForMaskedLM.")


def mask_words(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], *, seed: int = 0, share: float = SHARE, max_length: int = 128
) -> list[Masked]:
    """Batches of `texts` in which words are masked as BERT was trained: the same for the same seed.

    Of each text's tokens that are not special round(share·n) are chosen, one at least; 80 % of the chosen become the mask,
    10 % another token at random, 10 % stay. Raises VPError for a tokeniser without a mask, and if there is no word to mask.
    """
    check_share(tokenizer, share)
    data = encode(tokenizer, [(text,) for text in texts], max_length) if texts else None
    special = set(tokenizer.all_special_ids)
    chosen = {} if data is None else {i: choose_words(ids, special, share, [seed, i]) for i, ids in enumerate(data.ids)}
    there = [i for i, places in chosen.items() if len(places)]
    if data is None or not there:
        raise VPError("There are no words to mask in these texts: give texts with words.")
    return [masked_batch(tokenizer, batch, chosen, (seed,)) for batch in make_batches(data, there)]


def check_share(tokenizer: PreTrainedTokenizerBase, share: float) -> None:
    """VPError for a tokeniser without a mask, and a share of words that is none."""
    if tokenizer.mask_token_id is None:
        raise VPError("This tokeniser has no mask token: take that of the masked language model.")
    if not 0 < share <= 1:
        raise VPError(f"The share of words to mask must be above 0 and at most 1, not {share:g}: BERT's is {SHARE:g}.")


def mask_batch(tokenizer: PreTrainedTokenizerBase, data: Encoded, batch: Batch, share: float, seed: Sequence[int]) -> Masked:
    """A batch of `data` masked as `mask_words` does; what is masked depends on the seed's numbers and the text alone.

    Raises VPError if no text of it has a word.
    """
    special = set(tokenizer.all_special_ids)
    chosen = {int(i): choose_words(data.ids[int(i)], special, share, [*seed, int(i)]) for i in batch.examples}
    if not any(len(places) for places in chosen.values()):
        raise VPError("There are no words to mask in these texts: give texts with words.")
    return masked_batch(tokenizer, batch, chosen, seed)


def choose_words(ids: Sequence[int], special: Collection[int], share: float, seed: Sequence[int]) -> np.ndarray:
    """The positions that are masked in a text, in order."""
    words = np.array([place for place, token in enumerate(ids) if token not in special], dtype=int)
    if not len(words):
        return words
    return np.sort(np.random.default_rng(seed).choice(words, max(1, round(share * len(words))), replace=False))


def masked_batch(
    tokenizer: PreTrainedTokenizerBase, batch: Batch, chosen: dict[int, np.ndarray], seed: Sequence[int]
) -> Masked:
    """A batch masked at the `chosen` places of its examples."""
    others = np.setdiff1d(np.arange(len(tokenizer)), tokenizer.all_special_ids)
    ids = batch.inputs["input_ids"].clone()
    rows = np.concatenate([np.full(len(chosen[int(i)]), row) for row, i in enumerate(batch.examples)])
    columns = np.concatenate([chosen[int(i)] for i in batch.examples])
    # drawn text by text, so that it does not matter which texts share a batch
    rngs = [np.random.default_rng([*seed, int(i), 1]) for i in batch.examples]
    draws = [
        (rng.random(len(chosen[int(i)])), rng.choice(others, len(chosen[int(i)])))
        for rng, i in zip(rngs, batch.examples, strict=True)
    ]
    kind, word = (np.concatenate(part) for part in zip(*draws, strict=True))
    there = ids[rows, columns].clone()
    new = np.where(kind < _MASKED, tokenizer.mask_token_id, np.where(kind < _MASKED + _RANDOM, word, there.numpy()))
    ids[rows, columns] = torch.from_numpy(new)
    inputs = batch.inputs | {"input_ids": ids}
    return Masked(Batch(inputs, batch.examples, batch.texts), torch.from_numpy(rows), torch.from_numpy(columns), there)
