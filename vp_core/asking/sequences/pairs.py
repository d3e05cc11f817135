"""Pairs of texts as tokens: an encoder reads the source, a decoder the target, one token behind what it is to write."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from vp_core.asking.batches import Batch, Encoded, Inputs, padded
from vp_core.ground.errors import VPError

TARGET_LENGTH = 128
"""Tokens that targets are cut to."""


@dataclass(frozen=True, eq=False)
class Pairs(Inputs):
    """Tokenised pairs: of pair i the encoder reads `ids[i]`, the decoder `given[i]`, and `wanted[i]` are the tokens that it is
    to write, as many: `given` are these shifted by one, as the model's own class does.

    `truncated` counts sources that were longer than `max_length` tokens, `targets_cut` targets that were longer than
    `longest_target`; both lost their end. `texts` are the sources.
    """

    ids: Sequence[Sequence[int]]
    given: Sequence[Sequence[int]]
    wanted: Sequence[Sequence[int]]
    pad_id: int
    truncated: int
    max_length: int
    targets_cut: int = 0
    longest_target: int = TARGET_LENGTH
    texts: Sequence[tuple[str, ...]] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def length(self, i: int) -> int:
        """Tokens of both texts of pair i."""
        return len(self.ids[i]) + len(self.given[i])

    @property
    def longest(self) -> int:
        """Tokens of the longest text, source or target: what needs a position."""
        return max(map(len, (*self.ids, *self.given)))

    @property
    def sources(self) -> Encoded:
        """The sources alone."""
        return Encoded(self.ids, None, self.pad_id, self.truncated, self.max_length, self.texts)

    @property
    def targets(self) -> Encoded:
        """The targets alone, as they are to be written."""
        return Encoded(self.wanted, None, self.pad_id, self.targets_cut, self.longest_target)

    def facts(self) -> tuple[object, ...]:
        """Tokens of sources and targets."""
        return self.ids, self.given, self.wanted

    def together(self, members: Sequence[int]) -> Batch:
        """`input_ids` and `attention_mask` (pairs, source tokens), `decoder_input_ids` and `decoder_attention_mask` (pairs,
        target tokens)."""
        ids, mask = padded([self.ids[i] for i in members], self.pad_id)
        given, real = padded([self.given[i] for i in members], self.pad_id)
        inputs = {"input_ids": ids, "attention_mask": mask, "decoder_input_ids": given, "decoder_attention_mask": real}
        return Batch(inputs, np.array(members), [self.texts[i] for i in members] if self.texts is not None else ())


def encode_pairs(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, sources: Sequence[str], targets: Sequence[str],
    max_length: int, longest_target: int = TARGET_LENGTH,
) -> Pairs:  # fmt: skip
    """Tokenise sources and targets, cut to `max_length` and `longest_target` tokens, targets as the tokeniser has them (mBART's
    end in the code of their language).

    Raises VPError for a target without a word (padding and the like, unknown words), and a model that does not say how its
    targets begin.
    """
    full = tokenizer(list(sources), truncation=False, verbose=False)["input_ids"]
    ids = tokenizer(list(sources), truncation=True, max_length=max_length)["input_ids"]
    whole = tokenizer(text_target=list(targets), truncation=False, verbose=False)["input_ids"]
    wanted = tokenizer(text_target=list(targets), truncation=True, max_length=longest_target)["input_ids"]
    for number, text in enumerate(tokenizer.batch_decode(wanted, skip_special_tokens=True), start=1):
        if not text.strip():
            raise VPError(f"Target {number} ({targets[number - 1][:30]!r}) has no word that the tokeniser knows: take it out.")
    cut = [sum(len(a) > len(b) for a, b in zip(*both, strict=True)) for both in ((full, ids), (whole, wanted))]
    given = [shifted(model, row) for row in wanted]
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
    ids = [row or [pad] for row in ids]
    return Pairs(ids, given, wanted, pad, cut[0], max_length, cut[1], longest_target, [(text,) for text in sources])


def shifted(model: PreTrainedModel, wanted: Sequence[int]) -> list[int]:
    """What a decoder reads to write these tokens: its own class shifts them by one; VPError for one that does not."""
    shift: Any = getattr(model, "prepare_decoder_input_ids_from_labels", None)
    if shift is None:
        raise VPError(f"A {type(model).__name__} has no decoder: give a model that writes about a text.")
    try:
        found: list[int] = shift(torch.tensor([list(wanted)]))[0].tolist()
    except (ValueError, TypeError, RuntimeError) as error:
        raise VPError(
            "The model's configuration does not say how its targets begin: mend decoder_start_token_id and pad_token_id in its "
            "config.json."
        ) from error
    return found
