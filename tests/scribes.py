"""Tiny models that write about a text, in words that ROUGE knows, and pairs of texts for them."""

import numpy as np
import tiny
import torch

from vp_core.asking.sequences.pairs import encode_pairs

FAMILIES = ("bart", "t5", "mbart")
SOURCES, TARGETS = tiny.sentences(14, 1, 12), tiny.sentences(14, 2, 7)


def scribe(family, seed=0, beams=1, **settings):
    """A random model whose generation_config keeps it to whole words and says each pair of them once, and its tokeniser."""
    model, tok = tiny.scribe(family, seed, **settings)
    words = {tok(word, add_special_tokens=False)["input_ids"][0] for word in tiny.WORDS} | {tok.eos_token_id}
    model.generation_config.suppress_tokens = sorted(set(range(model.config.vocab_size)) - words)
    model.generation_config.no_repeat_ngram_size = 2
    if beams > 1:
        model.generation_config.num_beams, model.generation_config.length_penalty = beams, 2.0
    return model, tok


def pairs(model, tok, longest=tiny.POSITIONS):
    return encode_pairs(model, tok, SOURCES, TARGETS, longest, longest)


def plain_losses(model, data):
    """(loss (pairs,), tokens (pairs,)) by transformers' own labels=, one pair at a time, in float64."""
    model, losses = model.double(), []
    with torch.no_grad():
        for ids, wanted in zip(data.ids, data.wanted, strict=True):
            losses.append(float(model(input_ids=torch.tensor([ids]), labels=torch.tensor([wanted])).loss))
    return np.array(losses), np.array([len(wanted) for wanted in data.wanted])


def write_table(path, sources=SOURCES, targets=TARGETS):
    return tiny.write_tsv(path, ["source", "target"], list(zip(sources, targets, strict=True)))
