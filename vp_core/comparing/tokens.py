"""What a language model makes of a text of one's own: the loss of each token, what it would have written, how it goes on.

The loss of a token is −log of the probability that the model gave it after all that stands before, in nats. A masked language
model is asked for the words in the mask's place.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from vp_core.asking.batches import Batch
from vp_core.asking.forward import told
from vp_core.asking.kinds.heads import head_of, head_states, logits_of
from vp_core.asking.words.tokens import AT_ONCE
from vp_core.asking.words.windows import around
from vp_core.ground.errors import VPError
from vp_core.ground.work import checkpoint
from vp_core.model.families import longest_input
from vp_core.model.sharing import share

TOP = 5
"""How many of the likeliest tokens are told."""
NEW_TOKENS = 20

Guesses = tuple[tuple[str, float], ...]
"""Tokens, as they are written, with their probabilities, the likeliest first."""


@dataclass(frozen=True, eq=False)
class Reading:
    """A text of n tokens as a model reads it: `pieces` (n,) add up to what was read of it.

    `losses` (n,) are nats, NaN for a token that is not predicted, since nothing stands before it or it is no mask's place.
    `guesses` (n + 1,) are the likeliest tokens at each place, none where nothing is predicted; the last ones would follow the
    text. `cut`: the text is longer.
    """

    pieces: tuple[str, ...]
    losses: np.ndarray
    guesses: tuple[Guesses, ...]
    cut: bool = False


def read(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, text: str, longest: int, top: int = TOP) -> Reading:
    """What a model that predicts tokens makes of the first `longest` tokens of a text.

    Raises VPError for a text without a word, one without a mask that a masked language model is asked about, outputs that are
    NaN or infinite, and for a model that predicts no tokens.
    """
    if head_of(model) == "classes":
        raise VPError(f"A {type(model).__name__} predicts no tokens: give a language model, or a masked one.")
    masked = head_of(model) == "masked tokens"
    before, ids, pieces, after, cut = _split(tokenizer, text, longest, masked)
    if masked and tokenizer.mask_token_id not in ids:
        raise VPError(f"There is nothing to guess in this text: write {tokenizer.mask_token} in the place of a word.")
    if masked:  # a state says what stands where it is
        state_of = {i: i + len(before) for i, token in enumerate(ids) if token == tokenizer.mask_token_id}
    else:  # … what comes next
        state_of = {i: i + len(before) - 1 for i in range(len(ids) + 1) if i + len(before) > 0}
    losses, guesses = np.full(len(ids), np.nan), list[Guesses]([()]) * (len(ids) + 1)
    wanted = {} if masked else dict(enumerate(ids))
    for i, (loss, guess) in _told(model, tokenizer, [*before, *ids, *after], state_of, wanted, top).items():
        guesses[i] = guess
        if i < len(ids):
            losses[i] = loss
    return Reading(tuple(pieces), losses, tuple(guesses), cut)


def go_on(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, text: str, longest: int, new_tokens: int = NEW_TOKENS
) -> str:
    """How a language model goes on behind a text, of which it reads the first `longest` tokens: always the likeliest token.

    It ends earlier where the model ends its text, and where it has no more positions. Keys and values are kept, so that each
    token costs one step. Raises VPError as `read` does, and for a masked language model.
    """
    if head_of(model) != "next tokens":
        raise VPError(f"A {type(model).__name__} does not go on with a text: give a language model (...ForCausalLM).")
    before, ids, *_ = _split(tokenizer, text, longest, False)
    start = [*before, *ids]
    own, ends = share(model), _ends(model, tokenizer)
    step, kept, new = _batch(start), None, list[int]()
    with told(model, step), torch.inference_mode():
        given = step.inputs["input_ids"].to(model.device)
        for _ in range(min(new_tokens, longest_input(model.config) - len(start))):
            checkpoint()
            found: Any = own(input_ids=given, past_key_values=kept, use_cache=True)
            token = int(_finite(found.logits[0, -1]).argmax())
            if token in ends:
                break
            new.append(token)
            given, kept = given.new_tensor([[token]]), found.past_key_values
    whole, shown = (_written(tokenizer, some) for some in ([*start, *new], start))
    return whole[len(shown) :] if whole.startswith(shown) else _written(tokenizer, new)


def _split(
    tokenizer: PreTrainedTokenizerBase, text: str, longest: int, ends: bool
) -> tuple[list[int], list[int], list[str], list[int], bool]:
    """(the tokens before a text, its own, what each stands for in it, those behind it, whether its end was cut off)."""
    before, after = around(tokenizer, ends)
    found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=tokenizer.is_fast, verbose=False)
    ids: list[int] = found["input_ids"]
    if not ids or not text.strip():
        raise VPError("There is nothing to read: write a sentence.")
    if tokenizer.is_fast:
        upto = np.maximum.accumulate([0, *(end for _, end in found["offset_mapping"])])
        upto[-1] = len(text)
        pieces = [text[begin:end] for begin, end in pairwise(upto)]
    else:
        pieces = [tokenizer.decode([token]) for token in ids]
    room = max(longest - len(before) - len(after), 1)
    return before, ids[:room], pieces[:room], after, len(ids) > room


def _batch(ids: list[int]) -> Batch:
    given = torch.tensor([ids])
    return Batch({"input_ids": given, "attention_mask": torch.ones_like(given)}, np.zeros(1, dtype=int))


def _told(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, ids: list[int], state_of: dict[int, int],
    wanted: dict[int, int], top: int,
) -> dict[int, tuple[float, Guesses]]:  # fmt: skip
    """For each key of `state_of` (loss of its wanted token, likeliest tokens), from the state at that position."""
    batch, made = _batch(ids), {}
    with told(model, batch), torch.inference_mode():
        states = head_states(model, {name: value.to(model.device) for name, value in batch.inputs.items()})[0]
        keys = list(state_of)
        for some in (keys[i : i + AT_ONCE] for i in range(0, len(keys), AT_ONCE)):
            checkpoint()
            logs = _finite(logits_of(model, states[[state_of[i] for i in some]])).log_softmax(dim=1)
            best = logs.topk(min(top, logs.shape[1]), dim=1)
            for row, i in enumerate(some):
                loss = -float(logs[row, wanted[i]]) if i in wanted else float("nan")
                words = (_word(tokenizer, token) for token in best.indices[row].tolist())
                made[i] = loss, tuple(zip(words, best.values[row].exp().tolist(), strict=True))
    return made


def _finite(logits: Tensor) -> Tensor:
    if not torch.isfinite(logits).all():
        raise VPError("The model's outputs are NaN or infinite: check its weights, or read the text in float32.")
    return logits


def _word(tokenizer: PreTrainedTokenizerBase, token: int) -> str:
    """A token as it is written, with the space before it where it has one."""
    written = str(tokenizer.decode([token], clean_up_tokenization_spaces=False))
    # a decoder that joins words by spaces (SentencePiece) leaves out the first one
    return f" {written}" if str(tokenizer.convert_ids_to_tokens(token)).startswith("▁") and written[:1] != " " else written


def _written(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> str:
    return str(tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))


def _ends(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """The tokens that end a text."""
    said = getattr(model.config, "eos_token_id", None)
    return {token for token in (*(said if isinstance(said, list) else [said]), tokenizer.eos_token_id) if token is not None}
