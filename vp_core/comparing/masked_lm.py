"""The loss of predicting masked words: what BERT was pre-trained by, and pruning is measured by in Compressing BERT's table 1.

The same tokens are masked for every model of a tokeniser, so that losses compare. Of next-sentence prediction, the other half
of BERT's loss, there is nothing here.
"""

from collections.abc import Sequence

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from vp_core.asking.forward import forward
from vp_core.asking.words.masking import SHARE, Masked, check_masked_lm, mask_words
from vp_core.ground.errors import VPError
from vp_core.measuring.tally import each_batch


def masked_lm_loss(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    seed: int = 0,
    share: float = SHARE,
    max_length: int = 128,
) -> float:
    """Mean cross-entropy, in nats, of the masked words of `texts` under a ...ForMaskedLM model.

    Raises VPError for a model without such a head, a tokeniser without a mask, and texts without words.
    """
    check_masked_lm(model)
    masked = mask_words(tokenizer, texts, seed=seed, share=share, max_length=max_length)

    def one(copy: PreTrainedModel, given: Masked) -> tuple[float, int]:
        with torch.inference_mode():
            logits = forward(copy, given.batch).logits[given.rows, given.columns].double()
        return float(torch.nn.functional.cross_entropy(logits, given.ids, reduction="sum")), len(given.ids)

    sums = list(each_batch(model, masked, one))
    loss = sum(loss for loss, _ in sums) / sum(words for _, words in sums)
    if not np.isfinite(loss):
        raise VPError("The model's loss on masked words is NaN or infinite: check its weights.")
    return loss
