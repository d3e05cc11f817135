"""Texts that a model with an encoder and a decoder writes: deterministic, as its generation_config says, but never drawn."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from vp_core.asking.sequences.pairs import shifted

_NEVER_DRAWN: Mapping[str, Any] = {
    "do_sample": False, "temperature": None, "top_k": None, "top_p": None, "num_return_sequences": 1, "max_length": None,
    "max_time": None, "stop_strings": None, "cache_implementation": None, "use_cache": True,
    "return_dict_in_generate": False, "output_scores": False,
}  # fmt: skip
"""What of a generation_config is not taken over."""


@dataclass(frozen=True)
class How:
    """How a text is written: at most `most` tokens behind `start`, the first of them `forced` where the tokeniser begins a
    target with the code of its language (mBART-50)."""

    start: int
    most: int
    forced: int | None = None

    @classmethod
    def of(cls, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, most: int) -> "How":
        """As the model's targets begin."""
        target = tokenizer(text_target="a")["input_ids"]
        codes = getattr(tokenizer, "lang_code_to_id", {}).values()
        return cls(shifted(model, target)[0], most, target[0] if target[0] in codes else None)


def generated(model: PreTrainedModel, inputs: dict[str, Tensor], how: How) -> list[list[int]]:
    """The tokens that a model writes about each source (`input_ids` and `attention_mask` (sources, tokens)), without the start
    and without what pads them."""
    own: Any = model
    source = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    config = config_of(model, how)
    found = own.generate(**source, generation_config=config)
    ends = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
    return [_ended(row, ends, config.pad_token_id) for row in found[:, 1:].tolist()]


def facts_of(model: PreTrainedModel, how: How) -> dict[str, Any]:
    """What, beside weights and sources, decides which texts are written: JSON-able."""
    silent = ("transformers_version", "_from_model_config")
    return {name: value for name, value in config_of(model, how).to_diff_dict().items() if name not in silent}


def config_of(model: PreTrainedModel, how: How) -> GenerationConfig:
    """The model's own, with beams if it says so, a penalty of length and words that must not come again; nothing is drawn."""
    config = copy.deepcopy(model.generation_config)
    settings = dict(_NEVER_DRAWN) | {"max_new_tokens": how.most, "decoder_start_token_id": how.start}
    for name in ("pad_token_id", "eos_token_id"):
        if getattr(config, name, None) is None:
            settings[name] = getattr(model.config, name, None)
    if (config.min_length or 0) > how.most:
        settings["min_length"] = how.most
    if how.forced is not None:
        settings["forced_bos_token_id"] = how.forced
    for name, value in settings.items():
        setattr(config, name, value)
    return config


def _ended(row: Sequence[int], ends: Sequence[int | None], pad: int | None) -> list[int]:
    """A row of tokens up to the one that ends it, without padding behind it."""
    last = next((i for i, token in enumerate(row) if token in ends), None)
    kept = list(row) if last is None else list(row[: last + 1])
    while last is None and kept and kept[-1] == pad:
        kept.pop()
    return kept


def read_out(tokenizer: PreTrainedTokenizerBase, rows: Sequence[Sequence[int]]) -> list[str]:
    """Tokens as texts, without special tokens."""
    return [text.strip() for text in tokenizer.batch_decode(list(rows), skip_special_tokens=True)]
