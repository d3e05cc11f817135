"""An encoder's masked tokens: the mean loss of a token that is not shown. The same are masked for every model."""

from dataclasses import dataclass, replace

import numpy as np
from transformers import PreTrainedTokenizerBase

from vp_core.asking.batches import make_batches
from vp_core.asking.tasks import Task
from vp_core.asking.words.masking import SHARE, check_share, choose_words, mask_batch
from vp_core.asking.words.tokens import Tokens
from vp_core.asking.words.windows import Windows, cut
from vp_core.ground.errors import VPError

METRICS = ("masked_loss", "token_accuracy")


@dataclass(frozen=True, eq=False)
class MaskedTokens(Tokens):
    """Each masked token of a window from all that is shown of it."""

    def of_loss(self, loss: float) -> float:
        """The loss itself, in nats."""
        return loss

    @classmethod
    def make(
        cls, tokenizer: PreTrainedTokenizerBase, text: str, task: Task, length: int, seed: int = 0, share: float = SHARE
    ) -> "MaskedTokens":
        """A question about a text in windows of `length` tokens; raises as `windows.cut` and `masking.check_share` do."""
        return cls.of(tokenizer, cut(tokenizer, text, length, ends=True), task, seed, share)

    @classmethod
    def of(
        cls, tokenizer: PreTrainedTokenizerBase, windows: Windows, task: Task, seed: int = 0, share: float = SHARE
    ) -> "MaskedTokens":
        """A question about windows that are there: what is masked of each depends on the seed and on its place alone.

        Raises VPError for a tokeniser without a mask, and for a window without words.
        """
        check_share(tokenizer, share)
        data, special = windows.data, set(tokenizer.all_special_ids)
        read = [choose_words(ids, special, share, [seed, i]) for i, ids in enumerate(data.ids)]
        if any(not len(places) for places in read):
            raise VPError("A window of this text has no words to mask: give a text with words.")
        shown: list[list[int]] = [[]] * len(data)
        for batch in make_batches(data, range(len(data))):
            masked = mask_batch(tokenizer, data, batch, share, (seed,))
            for row, i in enumerate(batch.examples):
                shown[int(i)] = masked.batch.inputs["input_ids"][row, : len(data.ids[int(i)])].tolist()
        wanted = [np.array(ids)[places] for ids, places in zip(data.ids, read, strict=True)]
        return cls(replace(data, ids=shown), replace(task, metrics=METRICS), read, wanted)
