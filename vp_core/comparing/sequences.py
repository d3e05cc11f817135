"""What a model writes about a text of one's own, and how sure it was of each word."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from vp_core.asking.batches import Batch, padded
from vp_core.asking.forward import inputs_for, told
from vp_core.asking.kinds.heads import head_of, head_states
from vp_core.asking.sequences.pairs import TARGET_LENGTH, shifted
from vp_core.asking.sequences.writing import How, generated, read_out
from vp_core.asking.words.tokens import losses_of_tokens
from vp_core.ground.errors import VPError
from vp_core.model.families import longest_input
from vp_core.model.sharing import share


@dataclass(frozen=True, eq=False)
class Written:
    """A `text` that a model wrote: its tokens as `pieces` (n,), special ones left out, and the loss of each in nats, `losses`
    (n,): −log of the probability that the model gave it after the ones before.

    `cut`: the source is longer than what was read. `whole`: the model ended the text itself.
    """

    text: str
    pieces: tuple[str, ...]
    losses: np.ndarray
    cut: bool = False
    whole: bool = True


def write(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, text: str, longest: int, new_tokens: int = TARGET_LENGTH
) -> Written:
    """What a model with an encoder and a decoder writes about the first `longest` tokens of a text, in `new_tokens` at most.

    It is written as for a score (`vp_core.asking.sequences.writing`): nothing is drawn. Raises VPError for a model that does
    not write about a text, one without a word, and outputs that are NaN or infinite.
    """
    if head_of(model) != "target tokens":
        raise VPError(f"A {type(model).__name__} writes nothing about a text: give a ...ForConditionalGeneration.")
    if not text.strip():
        raise VPError("There is nothing to read: write a sentence.")
    whole = tokenizer(text, truncation=False, verbose=False)["input_ids"]
    read = tokenizer(text, truncation=True, max_length=longest)["input_ids"]
    own, source = share(model), _batch([read])
    most = min(new_tokens, longest_input(model.config) - 1)
    with told(own, source), torch.inference_mode():
        [ids] = generated(own, inputs_for(own, source), How.of(model, tokenizer, most))
        losses = _losses(own, read, ids)
    special = set(tokenizer.all_special_ids)
    shown = [i for i, token in enumerate(ids) if token not in special]
    pieces = tuple(_pieces(tokenizer, [ids[i] for i in shown]))
    return Written(read_out(tokenizer, [ids])[0], pieces, losses[shown], len(whole) > len(read), len(ids) < most)


def _batch(rows: Sequence[Sequence[int]]) -> Batch:
    ids, mask = padded(rows, 0)
    return Batch({"input_ids": ids, "attention_mask": mask}, np.zeros(1, dtype=int))


def _losses(model: PreTrainedModel, read: Sequence[int], ids: Sequence[int]) -> np.ndarray:
    """The loss of each token that was written, all in one pass; VPError for one that is no number."""
    if not ids:
        return np.zeros(0)
    given = torch.tensor([shifted(model, ids)])
    batch = _batch([read])
    batch.inputs.update({"decoder_input_ids": given, "decoder_attention_mask": torch.ones_like(given)})
    states = head_states(model, inputs_for(model, batch))[0]
    losses, _ = losses_of_tokens(model, states, torch.tensor(ids, device=states.device))
    if not torch.isfinite(losses).all():
        raise VPError("The model's outputs are NaN or infinite: check its weights, or let it write in float32.")
    return losses.double().cpu().numpy()


def _pieces(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> list[str]:
    """What each token adds to the text before it."""
    texts = [str(tokenizer.decode(list(ids[: i + 1]), clean_up_tokenization_spaces=False)) for i in range(len(ids))]
    found, before = [], ""
    for text in texts:
        found.append(text[len(before) :] if text.startswith(before) else "")
        before = text if text.startswith(before) else before
    return found
