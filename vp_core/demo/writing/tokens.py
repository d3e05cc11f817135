"""The tokenizer of the stories, byte-level pairs trained on them, and a text as tokens."""

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerBase

END, PAD = "<|endoftext|>", "<|padding|>"
MAX_LENGTH = 512  # tokens that the model has positions for


def train_tokenizer(text: str, size: int, folder: Path) -> PreTrainedTokenizerBase:
    """Writes tokenizer.json and tokenizer_config.json with `size` tokens; gives the tokenizer read back.

    Byte-level pairs (Sennrich et al. 2016; Radford et al. 2019): every text has tokens, and they give it back exactly.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=[END, PAD], initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(text.splitlines(keepends=True), trainer)
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": MAX_LENGTH,
        "bos_token": END,
        "eos_token": END,
        "pad_token": PAD,
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer.json").write_text(tokenizer.to_str(pretty=True) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    return AutoTokenizer.from_pretrained(folder)


def encode(tokenizer: PreTrainedTokenizerBase, text: str) -> Tensor:
    """The tokens (tokens,) of a whole text, however long; one warning less than the tokenizer itself gives."""
    return torch.tensor(tokenizer.backend_tokenizer.encode(text).ids)
