"""Cuts a BERT vocabulary down to the pieces that matter, so that the embedding matrix fits in a small download."""

import json
import re
import string
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerBase

SIZE = 9200  # rows; chosen so that the whole folder stays under its limit
PIECES = 1300  # of them continuation pieces (##...), most frequent first
OPINIONS = 1500  # of them whole words nearest to our opinion words in the embedding space
MAX_LENGTH = 128
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
LATIN = "£€©®°½éèêáàâäöüñçßøåæ–—‘’“”…·«»"
WORD = re.compile(r"[a-z]+")
PIECE = re.compile(r"##[a-z]+")


def read_vocabulary(source: Path) -> dict[str, int]:
    """Token to row of the model in `source`; BERT numbers its tokens from frequent to rare."""
    return json.loads((source / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]


def needed_tokens(source: Path, sentences: list[str]) -> set[str]:
    """Every token of these sentences under the uncut vocabulary."""
    tokenizer = AutoTokenizer.from_pretrained(source)
    return {token for sentence in sentences for token in tokenizer.tokenize(sentence)}


def nearest_words(vocabulary: dict[str, int], embeddings: Tensor, anchors: set[str], count: int) -> list[str]:
    """The whole words whose `embeddings` (tokens, d) are closest (by the largest cosine) to those of the anchor words."""
    words = [token for token in vocabulary if WORD.fullmatch(token)]
    unit = torch.nn.functional.normalize(embeddings, dim=1)
    anchor_rows = [vocabulary[word] for word in sorted(anchors) if word in vocabulary]
    nearness = (unit[[vocabulary[word] for word in words]] @ unit[anchor_rows].T).amax(dim=1)
    return [words[index] for index in nearness.argsort(descending=True, stable=True)[:count]]


def cut(vocabulary: dict[str, int], needed: set[str], near: list[str], size: int = SIZE) -> list[str]:
    """The tokens to keep, in their old order: specials, characters, `needed`, `near`, then the most frequent."""
    letters = string.ascii_lowercase + string.digits + string.punctuation + LATIN
    keep = {token for token in (*SPECIAL, *letters, *(f"##{letter}" for letter in letters)) if token in vocabulary}
    keep |= needed & vocabulary.keys()
    keep |= set(near)
    keep |= set([token for token in vocabulary if PIECE.fullmatch(token)][:PIECES])
    frequent = (token for token in vocabulary if WORD.fullmatch(token) and token not in keep)
    while len(keep) < size:
        keep.add(next(frequent))
    return sorted(keep, key=vocabulary.__getitem__)


def write_tokenizer(source: Path, kept: list[str], folder: Path) -> PreTrainedTokenizerBase:
    """Writes tokenizer.json and tokenizer_config.json for the kept tokens; gives the tokenizer read back."""
    table = json.loads((source / "tokenizer.json").read_text(encoding="utf-8"))
    rows = {token: row for row, token in enumerate(kept)}
    table["model"]["vocab"] = rows
    table["truncation"] = table["padding"] = None  # callers choose; the source pads everything to 128
    for entry in table["added_tokens"]:
        entry["id"] = rows[entry["content"]]
    for token, entry in table["post_processor"]["special_tokens"].items():
        entry["ids"] = [rows[token]]
    config = {
        "tokenizer_class": "BertTokenizer",
        "do_lower_case": True,
        "model_max_length": MAX_LENGTH,
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
    }
    (folder / "tokenizer.json").write_text(json.dumps(table, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    return AutoTokenizer.from_pretrained(folder)
