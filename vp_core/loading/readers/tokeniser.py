"""Does the tokeniser belong to the model: does it know words, do its numbers fit, does it end and pad as the model expects?"""

from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from vp_core.ground.errors import VPError, number_or_nan
from vp_core.model.families import family_of

_FEWEST, _ODD, _TOY, _SHORTEST = 0.1, 0.75, 1000, 4
_PROBE = "The plot, it's DULL; 3 of 10 Élèves — naïve?"
_MADE_OF = "tokenizer.json (or vocab.txt; vocab.json and merges.txt; or the SentencePiece model)"


def rows_of(model: PreTrainedModel) -> int:
    """How many tokens the model has embeddings for."""
    weight = model.get_input_embeddings().weight
    assert isinstance(weight, torch.Tensor)
    return len(weight)


def check_tokeniser(name: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
    """All checks of a tokeniser, which is made to pad as the model does; notes on what is odd.

    Raises VPError, one sentence each, as the checks do.
    """
    check_length(name, tokenizer)
    return (
        *check_words(name, model, tokenizer),
        *check_ids(name, model, tokenizer),
        *agree_on_padding(model, tokenizer, name),
        *check_special(name, model, tokenizer),
    )


def check_length(name: str, tokenizer: PreTrainedTokenizerBase) -> None:
    """VPError unless the longest text that the tokeniser takes is a length at all."""
    if not number_or_nan(tokenizer.model_max_length) >= _SHORTEST:
        raise VPError(
            f"The tokeniser of {name!r} cuts texts to {str(tokenizer.model_max_length)[:20]} tokens: mend model_max_length in "
            "its tokenizer_config.json."
        )


def check_words(name: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
    """VPError for a tokeniser that knows hardly any words; a note where the model has embeddings for many more."""
    rows, size = rows_of(model), len(tokenizer)
    words = len(tokenizer.get_vocab().keys() - tokenizer.get_added_vocab().keys() - set(tokenizer.all_special_tokens))
    if words < _FEWEST * rows:
        raise incomplete(name, f"it knows {words:,} words where the model has embeddings for {rows:,} tokens")
    if size < _ODD * rows and rows >= _TOY:
        return (
            f"The tokeniser knows {size:,} tokens, the model has embeddings for {rows:,}: check that it is the model's own.",
        )
    return ()


def incomplete(name: str, why: str) -> VPError:
    """What is said of a tokeniser that cannot be the model's."""
    return VPError(f"The tokeniser of {name!r} is missing or incomplete ({why}): put its files beside the weights, {_MADE_OF}.")


def check_ids(name: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
    """VPError if words, or what is put around every text, have numbers without an embedding; a note on added tokens that do."""
    rows, vocabulary = rows_of(model), tokenizer.get_vocab()
    beyond = sorted((token for token, i in vocabulary.items() if i >= rows), key=vocabulary.__getitem__)
    if not beyond:
        return ()
    added = tokenizer.get_added_vocab()
    if any(token not in added for token in beyond) or max(tokenizer("a")["input_ids"], default=0) >= rows:
        raise VPError(
            f"The tokeniser of {name!r} makes numbers up to {max(vocabulary.values()):,}, the model has embeddings for "
            f"{rows:,} tokens: take the tokeniser that the model was trained with."
        )
    shown = ", ".join(beyond[:3])
    return (f"The model has no embedding for the added tokens of its tokeniser ({shown}): texts that hold them are refused.",)


def agree_on_padding(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str) -> tuple[str, ...]:
    """GPT-2 comes without a padding token, and its classifier finds the last word by the one in its configuration.

    Both are set, in place, to the first that the model has an embedding for. A note says when the tokeniser's own has none.
    Raises VPError if there is no such token, and for a RoBERTa, which counts positions from the configuration's, if the
    tokeniser has another.
    """
    own, rows = tokenizer.pad_token_id, rows_of(model)
    counted = model.config.pad_token_id
    if family_of(model.config.model_type).positions_from_pad and own is not None and own != counted:
        raise VPError(
            f"The config.json of {name!r} says pad_token_id = {counted}, from which the model counts positions, but its "
            f"tokeniser pads with {own} ({tokenizer.pad_token}): mend the one that is wrong."
        )
    for pad in (counted, own, tokenizer.eos_token_id):
        if pad is not None and 0 <= pad < min(len(tokenizer), rows):
            model.config.pad_token_id = pad
            if own == pad:
                return ()
            other = tokenizer.convert_ids_to_tokens(pad)
            note = f"The model has no embedding for its tokeniser's {tokenizer.pad_token}: texts are padded with {other}."
            tokenizer.pad_token = other
            return (note,) if own is not None and own >= rows else ()
    raise VPError(f"The model {name!r} names no token to pad with: set pad_token_id in its config.json.")


def check_special(name: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
    """A note where the configuration's first and last token are not the tokeniser's.

    Raises VPError where the model looks for its last token, an encoder with a decoder, and texts do not end in it.
    """
    config = model.config
    last = tokenizer("a")["input_ids"][-1:]
    if config.is_encoder_decoder and last != [config.eos_token_id]:
        raise VPError(
            f"The model {name!r} answers at the token {config.eos_token_id} (eos_token_id in config.json), its tokeniser ends "
            f"texts with {tokenizer.convert_ids_to_tokens(last)}: take the tokeniser that the model was trained with."
        )
    odd = [
        f"{kind}_token_id {wanted} for {has}"
        for kind in ("bos", "eos", "cls", "sep")
        if (wanted := getattr(config, f"{kind}_token_id", None)) is not None
        and (has := getattr(tokenizer, f"{kind}_token_id", None)) is not None
        and wanted != has
    ]
    return (
        (f"config.json and tokeniser disagree ({', '.join(odd)}): check that the tokeniser is the model's own.",) if odd else ()
    )


def check_file(tokenizer: PreTrainedTokenizerBase, folder: Path) -> tuple[str, ...]:
    """A note if the tokeniser reads a text otherwise than its tokenizer.json does by itself: the class of another model, or
    settings that are lost with tokenizer_config.json."""
    path = folder / "tokenizer.json"
    if not path.exists():
        return ()
    alone = Tokenizer.from_file(str(path))
    alone.no_truncation()  # may be left in the file from when it was saved
    alone.no_padding()
    if alone.encode(_PROBE, add_special_tokens=False).ids == tokenizer(_PROBE, add_special_tokens=False)["input_ids"]:
        return ()
    why = "disagrees with it" if (folder / "tokenizer_config.json").exists() else "is missing"
    return (
        f"The tokeniser does not read texts as its tokenizer.json does, since tokenizer_config.json {why}: check its answers.",
    )
