"""What a model makes of a text word by word: pieces of the text as it was written, each with its tag and how sure that is."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from vp_core.asking.batches import make_batches
from vp_core.asking.forward import forward
from vp_core.asking.kinds.heads import head_of
from vp_core.asking.outputs import outputs_of
from vp_core.asking.tagging.aligned import align
from vp_core.ground.errors import VPError
from vp_core.model.sharing import share

_WORD = re.compile(r"\w+(?:[-'’.]\w+)*|[^\w\s]")
"""A word, with hyphens, apostrophes and dots inside of it, or a single sign: as CoNLL's sentences part them, about."""


@dataclass(frozen=True)
class Piece:
    """A part of a text as it was written. `tag` is a word's tag by the model's name for it, with its `probability`; both are
    None of what lies between words, and of words that were cut off."""

    text: str
    tag: str | None = None
    probability: float | None = None


@dataclass(frozen=True)
class Tagged:
    """A text in `pieces`, which make it up together; `names` are the model's tags in order, `cut` says that it was too long."""

    pieces: tuple[Piece, ...]
    names: tuple[str, ...]
    cut: bool = False

    @property
    def words(self) -> tuple[Piece, ...]:
        """The pieces that have a tag."""
        return tuple(piece for piece in self.pieces if piece.tag is not None)


def tag(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    text: str,
    max_length: int = 256,
    names: Sequence[str] = (),
) -> Tagged:
    """Which tag a model gives to every word of a text, of which it reads the first `max_length` tokens.

    `names` are those of its outputs, where they are other than its own (`Tags.names` of a study's question). Words are parted
    at spaces, and signs from words. Raises VPError for a model that tags no words, a slow tokeniser, and a text without words.
    """
    if head_of(model) != "tags":
        raise VPError(f"A {type(model).__name__} tags no words: give a ...ForTokenClassification.")
    found = list(_WORD.finditer(text))
    if not found:
        raise VPError("The text has no words: write a sentence.")
    data = align(tokenizer, [[match[0] for match in found]], max_length)
    [batch] = make_batches(data, [0])
    with torch.inference_mode():
        logits = forward(share(model), batch).logits[0, torch.from_numpy(data.read[0])].float().cpu()
    called = tuple(names) or outputs_of(model).names
    best = logits.softmax(dim=1).max(dim=1)
    said = {
        int(word): (called[int(place)], float(sure))
        for word, place, sure in zip(data.spoken[0], best.indices, best.values, strict=True)
    }
    pieces, at = list[Piece](), 0
    for number, match in enumerate(found):
        if match.start() > at:
            pieces.append(Piece(text[at : match.start()]))
        pieces.append(Piece(match[0], *said.get(number, (None, None))))
        at = match.end()
    if at < len(text):
        pieces.append(Piece(text[at:]))
    return Tagged(tuple(pieces), called, data.truncated > 0)
