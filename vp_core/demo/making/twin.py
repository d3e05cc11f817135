"""Builds the demo's spectrally normalised twin: `python -m vp_core.demo.making.twin [--out DIR]`.

Needs nothing but the demo itself.

It starts from the weights of spectral norm λ that are nearest to the demo's (`training.spectral_start`), which alone would
cost 15 points of accuracy, and is then really trained under spectral normalisation, towards the demo's hidden states and
outputs on its training reviews. There a part of the words is drawn at random, so that it also learns to read those that no
training review contains.

Its hidden states, and with them its function norms, are the demo's as nearly as it could learn them. So it shows what a model
with normalised matrices computes, and at what cost; not what normalisation does to norms.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import kl_div, log_softmax, mse_loss
from torch.nn.utils import parametrize
from transformers import (
    BertForSequenceClassification,
    PreTrainedTokenizerBase,
)

from vp_core.asking.batches import encode as encode_all
from vp_core.asking.batches import make_batches
from vp_core.demo.load import TWIN, load_demo
from vp_core.demo.making.build import begin, measure_demo, store
from vp_core.demo.making.train import Rows, TrainSettings, descend, encode
from vp_core.identity.spectral import LAMBDA, fold, normalise
from vp_core.identity.spectral_start import nearest

STRANGE_WORDS = 0.3
"""Mean share of words that are drawn at random, between none and twice as many in a review."""
CALIBRATION = 512


def start(
    teacher: BertForSequenceClassification, tokenizer: PreTrainedTokenizerBase, rows: Rows
) -> BertForSequenceClassification:
    """The nearest weights of spectral norm λ, with the normalisation in force."""
    data = encode_all(tokenizer, [(text,) for text, _ in rows[:CALIBRATION]], 128)
    model = nearest(teacher, make_batches(data, np.arange(len(data)), 2048))
    model.requires_grad_(True).bert.embeddings.requires_grad_(False)
    normalise(model, LAMBDA)
    return model


def with_strange_words(inputs: dict[str, Tensor], tokenizer: PreTrainedTokenizerBase, generator: torch.Generator) -> None:
    """Replaces words of a batch (sentences, tokens) by random ones, in place; the tokens that frame a text stay."""
    ids = inputs["input_ids"]
    share = 2 * STRANGE_WORDS * torch.rand(len(ids), 1, generator=generator)
    swap = (torch.rand(ids.shape, generator=generator) < share) & ~torch.isin(ids, torch.tensor(tokenizer.all_special_ids))
    first = max(tokenizer.all_special_ids) + 1
    inputs["input_ids"] = torch.where(swap, torch.randint(first, len(tokenizer), ids.shape, generator=generator), ids)


def lesson(model: BertForSequenceClassification, teacher: BertForSequenceClassification, inputs: dict[str, Tensor]) -> Tensor:
    """The loss (): divergence of the outputs, plus the squared distance of each layer's hidden states over their variance.

    `inputs` are (sentences, tokens) each.
    """
    with torch.autocast("cpu", torch.bfloat16), parametrize.cached():
        with torch.no_grad():
            wanted = teacher(**inputs, output_hidden_states=True)
        found = model(**inputs, output_hidden_states=True)
    real = inputs["attention_mask"].bool()
    loss = kl_div(
        log_softmax(found.logits.float(), 1), log_softmax(wanted.logits.float(), 1), log_target=True, reduction="batchmean"
    )
    for mine, theirs in zip(found.hidden_states[1:], wanted.hidden_states[1:], strict=True):
        goal = theirs.float()[real]
        loss = loss + mse_loss(mine.float()[real], goal) / goal.var()
    return loss


def learn(
    model: BertForSequenceClassification, teacher: BertForSequenceClassification, tokenizer: PreTrainedTokenizerBase,
    rows: Rows, settings: TrainSettings,
) -> None:  # fmt: skip
    """Trains `model` in place as `vp_core.demo.making.train.fine_tune` does, but towards the teacher.

    Dropout is off but for that on the attention weights, which the attention module applies by itself.
    """
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.eval()

    def loss_of(chosen: Rows, generator: torch.Generator) -> Tensor:
        inputs = encode(tokenizer, [sentence for sentence, _ in chosen])
        with_strange_words(inputs, tokenizer, generator)
        return lesson(model, teacher, inputs)

    descend(model, rows, settings, loss_of, "learning")


def build(folder: Path, settings: TrainSettings) -> dict[str, object]:
    """Start, training, storage, measurement; gives the figures that metrics.json keeps."""
    started = time.perf_counter()
    rows = begin(folder, settings)
    teacher, tokenizer = load_demo()
    teacher.requires_grad_(False)
    model = start(teacher, tokenizer, rows["train"])
    learn(model, teacher, tokenizer, rows["train"], settings)
    fold(model)
    model.config.save_pretrained(folder)
    store(model, folder)
    return measure_demo(folder, model, tokenizer, rows["eval"], settings, started, {"lambda": LAMBDA})


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Rebuild the demo's spectrally normalised twin.")
    parser.add_argument("--out", type=Path, default=TWIN, help="folder to write to (default: the package's own)")
    build(parser.parse_args().out, replace(TrainSettings(), epochs=4))


if __name__ == "__main__":
    main()
