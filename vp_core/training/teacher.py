"""A model whose answers another one learns: distillation's teacher."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from vp_core.asking.batches import Batch, Encoded
from vp_core.asking.forward import told
from vp_core.asking.outputs import listing, match, outputs_of
from vp_core.ground.errors import VPError


@dataclass(frozen=True, eq=False)
class Teacher:
    """A model in evaluation mode, for one set of texts: its logits for an example are computed once and kept.

    `order[j]` is its output for the student's output j. With `segments` it tells the first of two texts from the second by
    segment ids. `make` checks that both belong together.
    """

    model: PreTrainedModel
    order: tuple[int, ...]
    segments: bool = False
    _known: dict[int, Tensor] = field(default_factory=dict, repr=False)
    _texts: list[Encoded] = field(default_factory=list, repr=False)

    @classmethod
    def make(
        cls,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        student: PreTrainedModel,
        student_tokenizer: PreTrainedTokenizerBase,
    ) -> "Teacher":
        """Raises VPError for a teacher with other labels than the student's, or with another tokeniser."""
        if tokenizer.get_vocab() != student_tokenizer.get_vocab():
            raise VPError(
                f"The teacher's tokeniser ({len(tokenizer):,} tokens) is not the student's ({len(student_tokenizer):,}): take "
                "a teacher with the same vocabulary."
            )
        theirs, mine = outputs_of(model), outputs_of(student)
        if theirs.kind != mine.kind or len(theirs) != len(mine):
            raise VPError(
                f"The teacher answers with {listing(theirs.names)}, the student with {listing(mine.names)}: take a teacher of "
                "the same task."
            )
        order = _order(theirs.names, mine.names, theirs.numbered or mine.numbered)
        return cls(model.eval(), order, "token_type_ids" in tokenizer.model_input_names)

    def answers(self, data: Encoded) -> None:
        """Bind it to the texts that it is asked about; VPError if it was to others, whose answers it would give."""
        if self._texts and self._texts[0] is not data:
            raise VPError("This teacher has answered other texts: make one of its own for each training set.")
        self._texts[:] = [data]

    def logits(self, batch: Batch, device: torch.device) -> Tensor:
        """Its logits (examples, outputs) for a batch, float32, in the student's order of outputs.

        On a processor each example is asked by itself, so that what is kept does not depend on the batch it came in: a
        training that is gone on with meets its examples in other batches than the one that was not stopped.
        """
        new = [row for row, i in enumerate(batch.examples) if int(i) not in self._known]
        parts = [_alone(batch, row) for row in new] if self.model.device.type == "cpu" else [batch] * bool(new)
        for part in parts:
            found = self._ask(part, False).logits.float().cpu()[:, list(self.order)]
            for i, row in zip(part.examples, found, strict=True):
                self._known.setdefault(int(i), row)
        return torch.stack([self._known[int(i)] for i in batch.examples]).to(device)

    def hidden(self, batch: Batch, device: torch.device) -> tuple[Tensor, ...]:
        """Its hidden states (examples, tokens, d) for a batch, the embeddings' first; never kept."""
        return tuple(state.to(device) for state in self._ask(batch, True).hidden_states)

    def _ask(self, batch: Batch, hidden: bool) -> Any:
        inputs = {name: value.to(self.model.device) for name, value in batch.inputs.items()}
        if self.segments and "token_type_ids" not in inputs and any(len(text) > 1 for text in batch.texts):
            raise VPError(
                "The teacher tells the first of two texts from the second by segment ids, which the student does not have: "
                "take a teacher of the student's family."
            )
        if "token_type_ids" not in inspect.signature(self.model.forward).parameters:
            inputs.pop("token_type_ids", None)  # DistilBERT has BERT's tokens, and no segments
        with torch.no_grad(), told(self.model, batch):
            return self.model(**inputs, output_hidden_states=hidden)


def _alone(batch: Batch, row: int) -> Batch:
    """One row of a batch, without its padding."""
    real = batch.inputs["attention_mask"][row].bool()
    inputs = {name: value[row : row + 1, real] for name, value in batch.inputs.items()}
    return Batch(inputs, batch.examples[row : row + 1], batch.texts[row : row + 1])


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
