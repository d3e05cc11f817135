"""What is minimised of a model that predicts tokens, the loss of the next ones, of a target's, or of masked ones, or that tags
words; with a teacher beside it.

A vocabulary is wide. Next tokens are predicted at every place, so their logits are made some at a time inside of the model's
own forward pass, and made again for the gradient; the head itself then runs on nothing.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div, log_softmax
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from vp_core.asking.batches import Batch, Encoded, Inputs
from vp_core.asking.kinds.heads import logits_of, path_of_head
from vp_core.asking.sequences.pairs import Pairs
from vp_core.asking.tagging.aligned import Words
from vp_core.asking.words.masking import SHARE, check_masked_lm, mask_batch
from vp_core.ground.errors import VPError
from vp_core.ground.names import ALPHA, TEMPERATURE
from vp_core.model.sites import Site, observed
from vp_core.training.teacher import Teacher

Ask = Callable[..., Any]
"""The output of the model in training for `inputs`, a dictionary of tensors (examples, tokens), and further arguments."""
MOST_LOGITS = 2**24
"""So many numbers of a vocabulary's width are there at the same time: 64 MiB, and a few times that for their gradient."""


class Taught:
    """What all objectives of words do where there is a teacher."""

    teacher: Teacher | None
    alpha: float
    temperature: float
    hidden: float

    def __post_init__(self) -> None:
        """Check every number."""
        check_teaching(self.alpha, self.temperature, self.hidden)

    def _more(self) -> dict[str, Any]:
        """What the model is asked for besides."""
        return {"output_hidden_states": True} if self.teacher and self.hidden else {}

    def _with_hidden(self, loss: Tensor, found: Any, batch: Batch) -> Tensor:
        """The loss, and what the hidden states of an answer to a batch have from the teacher's, if that is asked."""
        if not (self.teacher and self.hidden):
            return loss
        return loss + self.hidden * apart(found, self.teacher.answer(batch), batch)


@dataclass(frozen=True, eq=False)
class _ToldWords(Taught):
    """The mean cross-entropy of words that states before the head tell, some at a time, with a teacher or without."""

    data: Inputs
    teacher: Teacher | None = None
    alpha: float = ALPHA
    temperature: float = TEMPERATURE
    hidden: float = 0.0

    @abstractmethod
    def told(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """(rows, places, words) (n,) of a batch: where the states stand that predict, and what they should."""

    def loss(self, model: PreTrainedModel, batch: Batch, ask: Ask, step: int) -> Tensor:
        """The mean loss () of the words of a batch."""
        rows, places, ids = self.told(batch)
        teacher, theirs = self.teacher, None
        if teacher is not None:
            theirs = teacher.states(batch)[rows.to(teacher.model.device), places.to(teacher.model.device)]
        sums: list[Tensor] = []

        def at_the_head(_site: Site, states: Tensor) -> Tensor | None:
            if sums:  # the head itself, which the loss is made with
                return None
            sums.append(states.new_zeros(()))
            here = states.device
            told = None if theirs is None else theirs.to(here)
            sums.extend(self._parts(model, states[rows.to(here), places.to(here)], ids.to(here), told))
            return states[:, :0]

        with observed(model, [Site("head", path_of_head(model), inputs=True)], at_the_head):
            found = ask(batch.inputs, use_cache=False, **self._more())
        return self._with_hidden(torch.stack([part.float() for part in sums]).sum() / len(rows), found, batch)

    def _parts(self, model: PreTrainedModel, states: Tensor, ids: Tensor, theirs: Tensor | None) -> Iterator[Tensor]:
        """Sums of losses () of some tokens at a time, from states (n, width) of the model and (n, other width) of a teacher."""

        def one(some: Tensor, wanted: Tensor, told: Tensor | None) -> Tensor:
            logits = logits_of(model, some)
            taught = None if told is None or self.teacher is None else self.teacher.logits_of(told)
            return of_words(logits, wanted, taught, self.alpha, self.temperature) * len(wanted)

        at_once = max(1, MOST_LOGITS // model.config.vocab_size)
        for start in range(0, len(ids), at_once):
            part = slice(start, start + at_once)
            given = states[part], ids[part], None if theirs is None else theirs[part]
            yield one(*given) if len(ids) <= at_once else checkpoint(one, *given, use_reentrant=False)


@dataclass(frozen=True, eq=False)
class NextWords(_ToldWords):
    """The mean cross-entropy of all next tokens of a batch of windows, of a ...ForCausalLM.

    With a teacher it is α·loss + (1 − α)·T²·KL(teacher ‖ model), the mean over tokens of the KL of outputs softened by the
    temperature T (Hinton et al. 2015); `hidden` weighs the mean squared error of all hidden states besides. A window's first
    token is not predicted. VPError for α outside 0..1, a temperature or weight that is none.
    """

    def told(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Every token from the one before it."""
        ids, mask = batch.inputs["input_ids"], batch.inputs["attention_mask"].bool()
        rows, places = (mask[:, 1:] & mask[:, :-1]).nonzero(as_tuple=True)
        return rows, places, ids[rows, places + 1]


@dataclass(frozen=True, eq=False)
class TargetWords(_ToldWords):
    """The mean cross-entropy of all tokens of the targets of a batch (Pairs), of a ...ForConditionalGeneration, as transformers
    has it without smoothing. With a teacher it is as `NextWords` says, hidden states of encoder and decoder."""

    def told(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Every token of a target where the decoder stands that writes it."""
        assert isinstance(self.data, Pairs)
        rows, places = batch.inputs["decoder_attention_mask"].bool().nonzero(as_tuple=True)
        wanted = [token for i in batch.examples for token in self.data.wanted[int(i)]]
        return rows, places, torch.tensor(wanted)


@dataclass(frozen=True, eq=False)
class MaskedWords(Taught):
    """The cross-entropy of masked words, masked anew in every step (BERT; RoBERTa's dynamic masking), of a ...ForMaskedLM.

    What is masked depends on the seed, the step and the text, and on nothing else. With a teacher it is as `NextWords` says.
    """

    data: Encoded
    tokenizer: PreTrainedTokenizerBase
    share: float = SHARE
    seed: int = 0
    teacher: Teacher | None = None
    alpha: float = ALPHA
    temperature: float = TEMPERATURE
    hidden: float = 0.0

    def loss(self, model: PreTrainedModel, batch: Batch, ask: Ask, step: int) -> Tensor:
        """The mean loss () of the masked words of a batch."""
        check_masked_lm(model)
        masked = mask_batch(self.tokenizer, self.data, batch, self.share, (self.seed, step))
        teacher, theirs = self.teacher, None
        if teacher is not None:
            places = masked.rows.to(teacher.model.device), masked.columns.to(teacher.model.device)
            theirs = teacher.logits_of(teacher.states(masked.batch)[places])

        def only_masked(_site: Site, states: Tensor) -> Tensor:  # other words are not predicted
            return states[masked.rows.to(states.device), masked.columns.to(states.device)]

        with observed(model, [Site("head", path_of_head(model), inputs=True)], only_masked):
            found = ask(masked.batch.inputs, **self._more())
        logits = found.logits.float()
        loss = of_words(logits, masked.ids.to(logits.device), theirs, self.alpha, self.temperature)
        return self._with_hidden(loss, found, masked.batch)


@dataclass(frozen=True, eq=False)
class WordTags(Taught):
    """The mean cross-entropy of the tags of a batch's words, each at its first token, of a ...ForTokenClassification.

    `gold[i]` (words,) are the numbers of sentence i's tags among the outputs. With a teacher it is as of `NextWords`.
    """

    data: Words
    gold: Sequence[np.ndarray]
    teacher: Teacher | None = None
    alpha: float = ALPHA
    temperature: float = TEMPERATURE
    hidden: float = 0.0

    def loss(self, model: PreTrainedModel, batch: Batch, ask: Ask, step: int) -> Tensor:
        """The mean loss () of the words of a batch."""
        assert batch.counted is not None
        ids = np.concatenate([self.gold[int(i)][self.data.spoken[int(i)]] for i in batch.examples])
        found = ask(batch.inputs, **self._more())
        logits, theirs = found.logits[batch.counted.to(found.logits.device)].float(), None
        if self.teacher is not None:
            states = self.teacher.states(batch)
            theirs = self.teacher.logits_of(states[batch.counted.to(states.device)])
        loss = of_words(logits, torch.from_numpy(ids).to(logits.device), theirs, self.alpha, self.temperature)
        return self._with_hidden(loss, found, batch)


def of_words(logits: Tensor, ids: Tensor, teacher: Tensor | None, alpha: float, temperature: float) -> Tensor:
    """The mean loss () of logits (n, vocabulary) against words (n,), and against a teacher's logits where there are some.

    Two vocabularies of one tokeniser may be padded to different lengths: words that only one of the models has are left out.
    """
    loss = cross_entropy(logits, ids)
    if teacher is None:
        return loss
    shared = min(logits.shape[1], teacher.shape[1])
    mine, theirs = (log_softmax(z[:, :shared].to(logits.device) / temperature, dim=1) for z in (logits, teacher))
    return alpha * loss + (1 - alpha) * temperature**2 * kl_div(mine, theirs, reduction="batchmean", log_target=True)


def check_teaching(alpha: float, temperature: float, hidden: float) -> None:
    """VPError for weights and a temperature that a teacher cannot have."""
    if not 0 <= alpha <= 1:
        raise VPError(f"The weight α {alpha!r} of the task's loss is not between 0 and 1: 0.5 takes both halves.")
    if not (0 < temperature < inf and 0 <= hidden < inf):
        raise VPError("The temperature must be above 0, the weight of hidden states at least 0: 2 and 0 are the defaults.")


def apart(mine: Any, teacher: Any, batch: Batch) -> Tensor:
    """Mean squared error () of the hidden states of two answers to a batch; of two halves, the mean of both."""
    found = [
        between(
            getattr(mine, f"{half}hidden_states"),
            getattr(teacher, f"{half}hidden_states"),
            batch.inputs.get(mask, batch.inputs["attention_mask"]),
        )
        for half, mask in _HALVES.items()
        if getattr(mine, f"{half}hidden_states", None) is not None
    ]
    return torch.stack(found).mean()


_HALVES = {"": "attention_mask", "encoder_": "attention_mask", "decoder_": "decoder_attention_mask"}
"""Beginnings of the names of an answer's hidden states → the mask that says which tokens are real."""


def between(mine: tuple[Tensor, ...], teacher: tuple[Tensor, ...], mask: Tensor) -> Tensor:
    """Mean squared error () of hidden states (examples, tokens, d) over layers, real tokens and coordinates."""
    if len(mine) != len(teacher) or mine[0].shape != teacher[0].shape:
        raise VPError(
            f"The teacher has {len(teacher) - 1} layers of width {teacher[0].shape[-1]}, the student {len(mine) - 1} of "
            f"{mine[0].shape[-1]}: hidden states need equal ones; leave their weight at 0."
        )
    real = mask.to(mine[0].device)[..., None].float()
    count = real.sum() * mine[0].shape[-1]
    losses = [((a.float() - b.float().to(a.device)).square() * real).sum() / count for a, b in zip(mine, teacher, strict=True)]
    return torch.stack(losses).mean()
