"""Tokens and batches: sentences of like length together, no more padding than that leaves."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from vp_core.ground.errors import VPError


@dataclass(frozen=True, eq=False)
class Encoded:
    """Tokenised examples: `ids[i]` are the token ids of example i, `type_ids[i]` its segment ids (or none).

    `truncated` counts examples that were longer than `max_length` and lost their end. `texts` are what was tokenised, for
    sentences about them. `end_id` is the token that ends a text, which may stand in one several times: only texts with as
    many of them share a batch, since some classifiers (BART, T5) read the last one and refuse others together.
    """

    ids: Sequence[Sequence[int]]
    type_ids: Sequence[Sequence[int]] | None
    pad_id: int
    truncated: int
    max_length: int
    texts: Sequence[tuple[str, ...]] | None = None
    end_id: int | None = None

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, eq=False)
class Batch:
    """`inputs` for the model, each (examples, tokens), and `examples`, the positions of its rows in the data set.

    `texts` are those of the rows, where they are known.
    """

    inputs: dict[str, Tensor]
    examples: np.ndarray
    texts: Sequence[tuple[str, ...]] = ()

    def real_tokens(self, decoder: bool = False) -> Tensor | None:
        """1 for a token and 0 for padding, (examples·tokens,); None without padding (images).

        A `decoder` without tokens of its own reads those of the encoder (BART as a classifier).
        """
        own = decoder and "decoder_input_ids" in self.inputs
        mask = self.inputs.get("decoder_attention_mask" if own else "attention_mask")
        return None if mask is None else mask.flatten()


def by_text(values: Tensor, batch: Batch) -> Tensor:
    """(examples, tokens, n) of what passed somewhere in a model: OPT's feed-forward networks see (examples·tokens, n)."""
    return values if values.dim() > 2 else values.unflatten(0, (len(batch.examples), -1))


def check_length(max_length: int, longest: int, name: str) -> None:
    """VPError for a number of tokens to cut texts to that is below 4 or more than a model takes."""
    if not 4 <= max_length <= longest:
        raise VPError(f"Texts cannot be cut to {max_length} tokens: for {name!r} choose from 4 to {longest} (--max-length).")


def encode(tokenizer: PreTrainedTokenizerBase, texts: Sequence[tuple[str, ...]], max_length: int) -> Encoded:
    """Tokenise single texts (one string each) or pairs (two), cut to `max_length` tokens, the longer part first."""
    columns = [list(column) for column in zip(*texts, strict=True)]
    # Tokenised whole and cut here, only to know how many were cut: the fast tokeniser would do so in silence.
    full = tokenizer(*columns, truncation=False, add_special_tokens=True, verbose=False)["input_ids"]
    cut = tokenizer(*columns, truncation="longest_first", max_length=max_length)
    truncated = sum(len(a) > len(b) for a, b in zip(full, cut["input_ids"], strict=True))
    # GPT-2 adds no tokens: where there is no word there would be nothing to read.
    ids = [row or [tokenizer.pad_token_id] for row in cut["input_ids"]]
    pad, end = tokenizer.pad_token_id, tokenizer.eos_token_id
    return Encoded(ids, cut.get("token_type_ids"), pad, truncated, max_length, texts, None if end == pad else end)


def make_batches(data: Encoded, examples: Sequence[int] | np.ndarray, max_tokens: int = 768) -> list[Batch]:
    """The examples at these positions (n,), sorted by length, in batches of at most `max_tokens` tokens with padding.

    Those with another number of `data.end_id` are in batches of their own.
    """
    ends = {int(i): _ends(data, int(i)) for i in examples}
    order = sorted((int(i) for i in examples), key=lambda i: (ends[i], len(data.ids[i])))
    batches: list[Batch] = []
    members: list[int] = []
    for i in order:
        if members and (ends[i] != ends[members[0]] or (len(members) + 1) * len(data.ids[i]) > max_tokens):
            batches.append(_pad(data, members))
            members = []
        members.append(i)
    if members:
        batches.append(_pad(data, members))
    return batches


def ends_in_padding(data: Encoded) -> int:
    """How many texts end in the token that also pads, as GPT-2's end of text does: its classifier reads the one before."""
    return sum(len(ids) > 1 and ids[-1] == data.pad_id for ids in data.ids)


def _ends(data: Encoded, i: int) -> int:
    """How many tokens that end a text example i has."""
    return 0 if data.end_id is None else list(data.ids[i]).count(data.end_id)


def _pad(data: Encoded, members: Sequence[int]) -> Batch:
    width = max(len(data.ids[i]) for i in members)
    ids = torch.full((len(members), width), data.pad_id, dtype=torch.long)
    mask = torch.zeros((len(members), width), dtype=torch.long)
    types = torch.zeros((len(members), width), dtype=torch.long)
    for row, i in enumerate(members):
        length = len(data.ids[i])
        ids[row, :length] = torch.tensor(data.ids[i])
        mask[row, :length] = 1
        if data.type_ids is not None:
            types[row, :length] = torch.tensor(data.type_ids[i])
    inputs = {"input_ids": ids, "attention_mask": mask}
    if data.type_ids is not None:
        inputs["token_type_ids"] = types
    return Batch(inputs, np.array(members), [data.texts[i] for i in members] if data.texts is not None else ())
