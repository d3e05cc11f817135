"""Tiny random models that tag words, and CoNLL files for them."""

import numpy as np
import tiny
import torch

NAMES = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")


def tagger(family, seed=0, names=NAMES, layers=2, **settings):
    """A random token classifier in float32 whose answers depend on the text."""
    torch.manual_seed(seed)
    spread = {"t5": {"initializer_factor": 1.5}}.get(family, {"initializer_range": 0.25})
    sizes = {"vocab_size": 420, "num_labels": len(names)} | spread | tiny.sizes(family, tiny.HIDDEN, tiny.FFN, layers)
    return tiny.name_labels(tiny.draw_biases(tiny.build(family, "ForTokenClassification", **sizes | settings)), *names)


def tagged(n, seed=0, names=NAMES, longest=12):
    """(words, tags) of word salads, half of the words outside of entities."""
    rng = np.random.default_rng(seed)
    share = [0.5, *[0.5 / (len(names) - 1)] * (len(names) - 1)]
    found = [text.split() for text in tiny.sentences(n, seed, longest)]
    return [(words, rng.choice(names, len(words), p=share).tolist()) for words in found]


def learnable(n, seed=0, names=NAMES):
    """The same with tags that a word alone decides."""
    return [(words, [names[tiny.WORDS.index(word) % len(names)] for word in words]) for words, _ in tagged(n, seed, names)]


def write(path, sentences, between=" "):
    """CoNLL's columns, with one in the middle that nobody reads."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [[between.join((word, "X", tag)) for word, tag in zip(*one, strict=True)] for one in sentences]
    lines = [line for one in rows for line in (*one, "")]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def folders(base, family, names=NAMES, **settings):
    """(folder of a model, folder of data with train.txt and test.txt)"""
    data = base / "data"
    write(data / "train.txt", tagged(40, 1, names))
    write(data / "test.txt", tagged(30, 2, names))
    return tiny.save(base / family, tagger(family, names=names, **settings), tiny.tokenizer(family)), data
