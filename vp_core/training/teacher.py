"""A model whose answers another one learns: distillation's teacher."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from vp_core.asking.batches import Batch, Inputs, Reader, make_batches
from vp_core.asking.forward import alone, inputs_for, told
from vp_core.asking.kinds.heads import head_of, head_states, logits_of
from vp_core.asking.outputs import listing, match, outputs_of
from vp_core.ground.errors import VPError
from vp_core.model.sharing import share

_TOGETHER = 32
"""Texts of like length that a teacher is asked about at once."""


@dataclass(frozen=True, eq=False)
class Teacher:
    """A model in evaluation mode, for one set of texts: its logits for an example are computed once and kept.

    `order[j]` is its output for the student's output j. One that predicts tokens has no order, and is asked anew each time,
    for a vocabulary is wide. With `segments` it tells the first of two texts from the second by
    segment ids. `make` checks that both belong together.
    """

    model: PreTrainedModel
    order: tuple[int, ...]
    segments: bool = False
    _known: dict[int, Tensor] = field(default_factory=dict, repr=False)
    _texts: list[Inputs] = field(default_factory=list, repr=False)
    _company: dict[int, np.ndarray] = field(default_factory=dict, repr=False)

    @classmethod
    def make(
        cls,
        model: PreTrainedModel,
        tokenizer: Reader,
        student: PreTrainedModel,
        student_tokenizer: Reader,
    ) -> "Teacher":
        """The model that is given is not changed (transformers leaves hooks where it is asked for hidden states).

        Raises VPError for a teacher with other labels than the student's, one that predicts other things, or has another
        tokeniser or image processor.
        """
        _check_readers(tokenizer, student_tokenizer)
        if (their_head := head_of(model)) != (my_head := head_of(student)):
            raise VPError(f"The teacher predicts {their_head}, the student {my_head}: take a teacher that does the same.")
        if my_head not in ("classes", "tags"):
            # of answers in a paragraph, texts are pairs: a question and its paragraph
            pairs = my_head == "spans" and "token_type_ids" in tokenizer.model_input_names
            return cls(share(model).eval(), (), pairs)
        theirs, mine = outputs_of(model), outputs_of(student)
        if theirs.kind != mine.kind or len(theirs) != len(mine):
            raise VPError(
                f"The teacher answers with {listing(theirs.names)}, the student with {listing(mine.names)}: take a teacher of "
                "the same task."
            )
        order = _order(theirs.names, mine.names, theirs.numbered or mine.numbered)
        return cls(share(model).eval(), order, "token_type_ids" in getattr(tokenizer, "model_input_names", ()))

    def answers(self, data: Inputs) -> None:
        """Bind it to the texts that it is asked about; VPError if it was to others, whose answers it would give."""
        if self._texts and self._texts[0] is not data:
            raise VPError("This teacher has answered other texts: make one of its own for each training set.")
        self._texts[:] = [data]

    def expect(self, examples: np.ndarray) -> None:
        """Which examples (n,) of its texts a training will ask about: those of like length are asked together.

        Each always in the same company, so that what is kept does not depend on the mini-batch in which it is first asked
        for: a training that is gone on with meets its examples in others than one that was not stopped.
        """
        [data] = self._texts
        order = sorted(np.unique(examples).tolist(), key=data.length)
        company = {
            i: part for part in np.split(np.array(order), range(_TOGETHER, len(order), _TOGETHER)) for i in part.tolist()
        }
        if [part.tolist() for part in company.values()] != [part.tolist() for part in self._company.values()]:
            self._known.clear()
            self._company.clear()
            self._company.update(company)

    def logits(self, batch: Batch, device: torch.device) -> Tensor:
        """Its logits (examples, outputs) for a batch, float32, in the student's order of outputs.

        Each is asked with others as `expect` says, else by itself.
        """
        for row, i in enumerate(batch.examples.tolist()):
            if i in self._known:
                continue
            together = make_batches(self._texts[0], self._company[i]) if i in self._company else [_one(batch, row)]
            for part in together:
                found = self._ask(part, False).logits.float().cpu()[:, list(self.order)]
                self._known.update(zip(part.examples.tolist(), found, strict=True))
        return torch.stack([self._known[int(i)] for i in batch.examples]).to(device)

    def hidden(self, batch: Batch, device: torch.device) -> tuple[Tensor, ...]:
        """Its hidden states (examples, tokens, d) for a batch, the embeddings' first; never kept."""
        return tuple(state.to(device) for state in self._ask(batch, True).hidden_states)

    def answer(self, batch: Batch) -> Any:
        """Its answer to a batch with hidden states, where it lies; never kept."""
        return self._ask(batch, True)

    def spans(self, batch: Batch) -> Any:
        """Its answer to a batch, with logits of where answers begin and end, of one that marks them; never kept."""
        return self._ask(batch, False, whole=True)

    def states(self, batch: Batch) -> Tensor:
        """The states (examples, tokens, width) that its map to words reads, of one that predicts tokens; never kept."""
        with torch.no_grad(), told(self.model, batch):
            return head_states(self.model, self._inputs(batch))

    def logits_of(self, states: Tensor) -> Tensor:
        """Its logits (n, outputs), float32, of some of these states (n, width), tags in the student's order of outputs."""
        with torch.no_grad():
            logits = logits_of(self.model, states.to(self.model.device))
        return logits[:, list(self.order)] if self.order else logits

    def _ask(self, batch: Batch, hidden: bool, whole: bool = False) -> Any:
        inputs = self._inputs(batch)
        if self.segments and "token_type_ids" not in batch.inputs and any(len(text) > 1 for text in batch.texts):
            raise VPError(
                "The teacher tells the first of two texts from the second by segment ids, which the student does not have: "
                "take a teacher of the student's family."
            )
        with torch.no_grad(), told(self.model, batch):
            # of one that predicts tokens, no logits are wanted
            asked = self.model if self.order or whole else self.model.base_model
            return asked(**inputs, **({"output_hidden_states": True} if hidden else {}))

    def _inputs(self, batch: Batch) -> dict[str, Tensor]:
        """A batch's inputs where the teacher is, without what it does not take."""
        inputs = inputs_for(self.model, batch)
        if "token_type_ids" not in inspect.signature(self.model.forward).parameters:
            inputs.pop("token_type_ids", None)  # DistilBERT has BERT's tokens, and no segments
        return inputs


def _check_readers(theirs: Reader, mine: Reader) -> None:
    """VPError unless what a teacher is given is what its student is given."""
    if isinstance(theirs, PreTrainedTokenizerBase) != isinstance(mine, PreTrainedTokenizerBase):
        raise VPError("One of teacher and student reads texts, the other sees images: take a teacher that does the same.")
    if isinstance(theirs, PreTrainedTokenizerBase) and isinstance(mine, PreTrainedTokenizerBase):
        if theirs.get_vocab() != mine.get_vocab():
            raise VPError(
                f"The teacher's tokeniser ({len(theirs):,} tokens) is not the student's ({len(mine):,}): take a teacher with "
                "the same vocabulary."
            )
        return
    both = [{name: str(value) for name, value in one.to_dict().items() if name not in _NO_PIXELS} for one in (theirs, mine)]
    if other := sorted(name for name in {*both[0], *both[1]} if both[0].get(name) != both[1].get(name)):
        raise VPError(
            f"The teacher's image processor makes other pixel values than the student's ({', '.join(other)}): take a teacher "
            "with the same one."
        )


_NO_PIXELS = ("image_processor_type", "processor_class", "_processor_class", "data_format", "input_data_format", "device")
"""Settings of an image processor that no pixel depends on."""


def _one(batch: Batch, row: int) -> Batch:
    """One row of a batch, without its padding."""
    return Batch(alone(batch, row), batch.examples[row : row + 1], batch.texts[row : row + 1])


def _order(theirs: Sequence[str], mine: Sequence[str], numbered: bool) -> tuple[int, ...]:
    """Teacher's output for each of the student's; where one of them only numbers its outputs, place by place."""
    if numbered or len(mine) == 1:
        return tuple(range(len(mine)))
    found = match(mine, theirs, prefixes=True)
    if len(found) != len(mine):
        raise VPError(
            f"The teacher's labels are {listing(theirs)}, the student's are {listing(mine)}: take a teacher of the same task."
        )
    return tuple(found[name] for name in mine)
