"""A model whose answers another one learns: distillation's teacher."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from vp_core.asking.batches import Batch
from vp_core.asking.forward import told
from vp_core.asking.outputs import listing, match, outputs_of
from vp_core.ground.errors import VPError


@dataclass(frozen=True, eq=False)
class Teacher:
    """A model in evaluation mode, for one set of texts: its logits for an example are computed once and kept.

    `order[j]` is its output for the student's output j. `make` checks that both belong together.
    """

    model: PreTrainedModel
    order: tuple[int, ...]
    _known: dict[int, Tensor] = field(default_factory=dict, repr=False)

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
        return cls(model.eval(), _order(theirs.names, mine.names, theirs.numbered or mine.numbered))

    def logits(self, batch: Batch, device: torch.device) -> Tensor:
        """Its logits (examples, outputs) for a batch, float32, in the student's order of outputs."""
        new = [int(i) not in self._known for i in batch.examples]
        if any(new):
            found = self._ask(batch, False).logits.float().cpu()
            self._known.update({int(i): row for i, row in zip(batch.examples, found[:, list(self.order)], strict=True)})
        return torch.stack([self._known[int(i)] for i in batch.examples]).to(device)

    def hidden(self, batch: Batch, device: torch.device) -> tuple[Tensor, ...]:
        """Its hidden states (examples, tokens, d) for a batch, the embeddings' first; never kept."""
        return tuple(state.to(device) for state in self._ask(batch, True).hidden_states)

    def _ask(self, batch: Batch, hidden: bool) -> Any:
        inputs = {name: value.to(self.model.device) for name, value in batch.inputs.items()}
        with torch.no_grad(), told(self.model, batch):
            return self.model(**inputs, output_hidden_states=hidden)


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
