"""Sentences as tokens, and where in them each word begins: its first token speaks for it, as usual since BERT."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from vp_core.asking.batches import Batch, Encoded
from vp_core.ground.errors import VPError

_PROBE = ("x", "dog")


@dataclass(frozen=True, eq=False)
class Words(Encoded):
    """Tokenised sentences of `counts[i]` words, of which those that are numbered `spoken[i]` (n,) begin at the tokens `read[i]`
    (n,); the others were cut off, or the tokeniser makes nothing of them."""

    read: Sequence[np.ndarray] = ()
    spoken: Sequence[np.ndarray] = ()
    counts: Sequence[int] = ()

    def together(self, members: Sequence[int]) -> Batch:
        """As any tokens, with the first one of every word as those that count."""
        batch = super().together(members)
        counted = torch.zeros_like(batch.inputs["input_ids"], dtype=torch.bool)
        for row, i in zip(counted, members, strict=True):
            row[torch.from_numpy(self.read[i])] = True
        return replace(batch, counted=counted)

    @property
    def lost(self) -> int:
        """Words that no token speaks for."""
        return sum(self.counts) - sum(map(len, self.read))


def align(tokenizer: PreTrainedTokenizerBase, sentences: Sequence[Sequence[str]], max_length: int) -> Words:
    """Tokenise sentences of words, cut to `max_length` tokens. VPError for a slow tokeniser, which does not say what is where.

    A word is read as it is inside of a text: a byte-pair tokeniser that would read it as the text's beginning is given the
    space before it.
    """
    if not tokenizer.is_fast:
        raise VPError(
            f"The tokeniser is a slow one ({type(tokenizer).__name__}) that does not say which word a token is of: give the "
            "model's tokenizer.json."
        )
    space = " " * _wants_spaces(tokenizer)
    words = [[f"{space}{word}" for word in one] for one in sentences]
    full = tokenizer(words, is_split_into_words=True, truncation=False, verbose=False)["input_ids"]
    cut = tokenizer(words, is_split_into_words=True, truncation=True, max_length=max_length)
    truncated = sum(len(a) > len(b) for a, b in zip(full, cut["input_ids"], strict=True))
    firsts = [_firsts(cut.word_ids(i)) for i in range(len(words))]
    pad, end = tokenizer.pad_token_id, tokenizer.eos_token_id
    ids = [row or [pad] for row in cut["input_ids"]]
    texts = [(" ".join(one),) for one in sentences]
    return Words(
        ids, cut.get("token_type_ids"), pad, truncated, max_length, texts, None if end == pad else end,
        [read for read, _ in firsts], [spoken for _, spoken in firsts], [len(one) for one in sentences],
    )  # fmt: skip


def _firsts(word_ids: Sequence[int | None]) -> tuple[np.ndarray, np.ndarray]:
    """(tokens, words) (n,) each: where each word that has a token has its first one."""
    first: dict[int, int] = {}
    for place, word in enumerate(word_ids):
        if word is not None:
            first.setdefault(word, place)
    return np.array(list(first.values()), dtype=np.int64), np.array(list(first), dtype=np.int64)


def _wants_spaces(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a word of its own is other tokens than inside of a text, unless there is a space before it."""
    one, two = _PROBE
    inside = tokenizer(f"{one} {two}")["input_ids"]
    alone, spaced = (tokenizer(words, is_split_into_words=True)["input_ids"] for words in ([one, two], [one, f" {two}"]))
    return bool(alone != inside and spaced == inside)
