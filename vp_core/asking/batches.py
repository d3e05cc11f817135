"""What a model is given, example by example, and batches of it: those of like length together, so that little is padding.

`Inputs` is what all kinds of examples have; `Encoded`, texts as tokens, is the one that most kinds of questions ask with.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase
from transformers.image_processing_utils import BaseImageProcessor

from vp_core.ground.errors import VPError

Reader: TypeAlias = PreTrainedTokenizerBase | BaseImageProcessor
"""What makes inputs for a model, and is kept beside it: its tokeniser, or its image processor."""


@dataclass(frozen=True, eq=False)
class Batch:
    """`inputs` for the model, each (examples, tokens), and `examples`, the positions of its rows in the data set.

    `texts` are those of the rows, where they are known; `counted` (examples, tokens) bool are the tokens at which an answer
    counts, where not all do.
    """

    inputs: dict[str, Tensor]
    examples: np.ndarray
    texts: Sequence[tuple[str, ...]] = ()
    counted: Tensor | None = None

    @property
    def seen(self) -> bool:
        """Whether its rows are pictures."""
        return "pixel_values" in self.inputs

    def real_tokens(self, decoder: bool = False) -> Tensor | None:
        """1 for a token and 0 for padding, (examples·tokens,); None without padding (images).

        A `decoder` without tokens of its own reads those of the encoder (BART as a classifier).
        """
        own = decoder and "decoder_input_ids" in self.inputs
        mask = self.inputs.get("decoder_attention_mask" if own else "attention_mask")
        return None if mask is None else mask.flatten()


class Inputs(ABC):
    """Examples as a model is given them.

    `texts` are what whoever asks calls them, for sentences about them and for those who look (None: nobody knows); `truncated`
    counts those that were longer than `max_length` tokens and lost something.
    """

    texts: Sequence[tuple[str, ...]] | None
    truncated: int
    max_length: int

    @abstractmethod
    def __len__(self) -> int:
        """How many there are."""

    @abstractmethod
    def length(self, i: int) -> int:
        """How many tokens example i is in a model: of two with like lengths little is padding."""

    @abstractmethod
    def together(self, members: Sequence[int]) -> Batch:
        """The examples at these positions as one batch, padded to the longest of them."""

    @abstractmethod
    def facts(self) -> tuple[object, ...]:
        """All that a model's answers depend on, for `vp_core.ground.store.digest`."""

    def apart(self, i: int) -> int:
        """Only examples with the same number here share a batch."""
        return 0

    @property
    def tokens(self) -> int:
        """Tokens of all examples."""
        return sum(self.length(i) for i in range(len(self)))

    @property
    def longest(self) -> int:
        """Tokens of the longest example."""
        return max(self.length(i) for i in range(len(self)))


@dataclass(frozen=True, eq=False)
class Encoded(Inputs):
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

    def length(self, i: int) -> int:
        """Tokens of text i."""
        return len(self.ids[i])

    def apart(self, i: int) -> int:
        """How many tokens that end a text it has."""
        return 0 if self.end_id is None else list(self.ids[i]).count(self.end_id)

    def facts(self) -> tuple[object, ...]:
        """Tokens and segments."""
        return self.ids, self.type_ids

    def together(self, members: Sequence[int]) -> Batch:
        """`input_ids`, `attention_mask` and, of a model with segments, `token_type_ids` (examples, tokens)."""
        ids, mask = padded([self.ids[i] for i in members], self.pad_id)
        inputs = {"input_ids": ids, "attention_mask": mask}
        if self.type_ids is not None:
            inputs["token_type_ids"], _ = padded([self.type_ids[i] for i in members], 0)
        return Batch(inputs, np.array(members), [self.texts[i] for i in members] if self.texts is not None else ())


def padded(rows: Sequence[Sequence[int]], with_id: int) -> tuple[Tensor, Tensor]:
    """(numbers, 1 where they are real) (rows, longest) of rows that are filled up at their end."""
    width = max(map(len, rows))
    numbers = torch.full((len(rows), width), with_id, dtype=torch.long)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    for i, row in enumerate(rows):
        numbers[i, : len(row)] = torch.tensor(row)
        mask[i, : len(row)] = 1
    return numbers, mask


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


def make_batches(data: Inputs, examples: Sequence[int] | np.ndarray, max_tokens: int = 768) -> list[Batch]:
    """The examples at these positions (n,), sorted by length, in batches of at most `max_tokens` tokens with padding.

    Those that are to be `apart` are in batches of their own.
    """
    of_its_own = {int(i): data.apart(int(i)) for i in examples}
    order = sorted((int(i) for i in examples), key=lambda i: (of_its_own[i], data.length(i)))
    batches: list[Batch] = []
    members: list[int] = []
    for i in order:
        if members and (of_its_own[i] != of_its_own[members[0]] or (len(members) + 1) * data.length(i) > max_tokens):
            batches.append(data.together(members))
            members = []
        members.append(i)
    if members:
        batches.append(data.together(members))
    return batches


def ends_in_padding(data: Encoded) -> int:
    """How many texts end in the token that also pads, as GPT-2's end of text does: its classifier reads the one before."""
    return sum(len(ids) > 1 and ids[-1] == data.pad_id for ids in data.ids)
