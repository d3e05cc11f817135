"""Tiny language models with byte-level tokenisers, saved as real ones are, and plain texts for them."""

import numpy as np
import tiny
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

VOCABULARY = 420
LENGTH = 24
"""Tokens of a window."""


def tokenizer(begins=False, pads=True, masks=False, length=tiny.POSITIONS):
    """Byte pairs as GPT-2 and Llama 3 have them; `begins`: a text begins with <s>, and ends with </s> where it `masks`."""
    names = ["<s>", "</s>", *(["<pad>"] if pads else []), *(["<mask>"] if masks else [])]
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        [" ".join(tiny.WORDS)], trainers.BpeTrainer(vocab_size=400, special_tokens=names, initial_alphabet=alphabet)
    )
    if begins:
        made.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>" if masks else "<s> $A", special_tokens=[("<s>", 0), ("</s>", 1)]
        )
    special = {"bos_token": "<s>", "eos_token": "</s>"}
    special |= {"pad_token": "<pad>"} if pads else {}
    special |= {"mask_token": "<mask>", "cls_token": "<s>", "sep_token": "</s>"} if masks else {}
    return PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=length, **special)


def writer(family="llama", seed=0, **settings):
    """A random decoder language model in float32 whose predictions depend on all that is before a token."""
    ends = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
    return tiny.transformer(family, seed, torch.float32, vocab_size=VOCABULARY, **ends | settings)


def filler(family="bert", seed=0):
    """A random masked language model in float32."""
    torch.manual_seed(seed)
    sizes = tiny.sizes(family, 32, 40, 2) | tiny.NO_DROPOUT | {"vocab_size": VOCABULARY, "initializer_range": 0.2}
    return tiny.build(family, "ForMaskedLM", **sizes | {"pad_token_id": 2})


def text(words=600, seed=0):
    """Lines of words, with a letter of two bytes and one of four here and there."""
    rng = np.random.default_rng(seed)
    lines = [" ".join(rng.choice([*tiny.WORDS, "naïve", "𝛼"], rng.integers(4, 12))) for _ in range(-(-words // 8))]
    return "\n".join(lines) + "\n"


def save_all(base):
    """name → folder or file: tiny models of each kind, a text, and a folder with two of them."""
    found = {}
    for family, begins in (("gpt2", False), ("llama", True)):
        found[family] = tiny.save(base / family, writer(family), tokenizer(begins))
    found["bert"] = tiny.save(base / "bert-words", filler(), tokenizer(True, masks=True))
    found["text"] = base / "text.txt"
    found["text"].write_text(text(), encoding="utf-8")
    found["texts"] = base / "texts"
    found["texts"].mkdir()
    for name, seed in (("train", 1), ("test", 2)):
        (found["texts"] / f"{name}.txt").write_text(text(900, seed), encoding="utf-8")
    return found
