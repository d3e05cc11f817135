"""Do texts, tokenised, fit the model: known words, numbers and segments that it has embeddings for?"""

from collections import Counter
from collections.abc import Sequence

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from vp_core.asking.batches import Encoded, ends_in_padding
from vp_core.ground.errors import VPError
from vp_core.loading.readers.tokeniser import rows_of
from vp_core.model.families import family_of

_TOLD, _REFUSED = 0.1, 0.9


def check_segments(model: PreTrainedModel, data: Encoded) -> None:
    """VPError if a text has a segment that the model has no embedding for."""
    kinds = getattr(model.config, "type_vocab_size", None)
    if data.type_ids is None or not kinds:
        return
    highest = max((max(row, default=0) for row in data.type_ids), default=0)
    if highest >= kinds:
        raise VPError(
            f"The tokeniser makes segments up to number {highest}, the model knows {kinds} of them (type_vocab_size), counted "
            "from 0: take the tokeniser that the model was trained with."
        )


def check_numbers(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, data: Encoded) -> None:
    """VPError if a text has a token that the model has no embedding for."""
    rows = rows_of(model)
    for number, row in enumerate(data.ids):
        if max(row) >= rows:
            token = tokenizer.convert_ids_to_tokens(max(row))
            raise VPError(
                f"Text {number + 1} holds {token!r}, which the model has no embedding for: take that out of the text."
            )


def check_known(tokenizer: PreTrainedTokenizerBase, texts: Sequence[tuple[str, ...]], data: Encoded) -> tuple[str, ...]:
    """A note if more than a tenth of the words in these texts are unknown to the tokeniser; VPError if nearly all are.

    A tokeniser that spells any word with bytes knows all.
    """
    unknown = tokenizer.unk_token_id
    special = set(tokenizer.all_special_ids) - {unknown}
    roles = ("bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id", "pad_token_id")
    if unknown is None or unknown in {getattr(tokenizer, role) for role in roles}:
        return ()
    content = [[i for i in row if i not in special] for row in data.ids]
    lost, total = sum(row.count(unknown) for row in content), sum(map(len, content))
    if lost <= _TOLD * total:
        return ()
    first = next(i for i, row in enumerate(content) if unknown in row)
    example = _unknown_word(tokenizer, texts[first])
    if lost > _REFUSED * total:
        raise VPError(
            f"{lost / total:.0%} of the words in the texts are unknown to the tokeniser (such as {example!r}): take a model "
            "for this language, with its own tokeniser."
        )
    return (f"{lost / total:.0%} of the words in the texts are unknown to the tokeniser (such as {example!r}).",)


def notes_of_windows(tokenizer: PreTrainedTokenizerBase, data: Encoded, before: int, after: int) -> tuple[str, ...]:
    """Notes on windows of a text, the first `before` and last `after` tokens of each being the tokeniser's own.

    On special tokens that the text spells out, which are read as such, and on words that the tokeniser does not know, of which
    VPError for nearly all.
    """
    roles = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.cls_token_id, tokenizer.sep_token_id)
    unknown = None if tokenizer.unk_token_id in {*roles, tokenizer.pad_token_id} else tokenizer.unk_token_id
    found = Counter(token for row in data.ids for token in row[before : len(row) - after])
    lost, total, notes = found[unknown] if unknown is not None else 0, found.total(), list[str]()
    if lost > _REFUSED * total:
        raise VPError(
            f"{lost / total:.0%} of the words in the text are unknown to the tokeniser: take a model for this language, with "
            "its own tokeniser."
        )
    if lost > _TOLD * total:
        notes.append(f"{lost / total:.0%} of the words in the text are unknown to the tokeniser.")
    spelt = {token: found[token] for token in set(tokenizer.all_special_ids) - {unknown} if found[token]}
    if spelt:
        example = tokenizer.convert_ids_to_tokens(max(spelt, key=lambda token: spelt[token]))
        notes.append(
            f"The text spells out special tokens (such as {example}, {sum(spelt.values()):,} in all): they are read as such, "
            "not as letters."
        )
    return tuple(notes)


def check_texts(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[tuple[str, ...]], data: Encoded
) -> tuple[str, ...]:
    """Notes on texts and what the tokeniser made of them; raises VPError as the checks above do."""
    check_numbers(model, tokenizer, data)
    check_segments(model, data)
    notes = check_known(tokenizer, texts, data)
    if empty := sum(not all(part.strip() for part in parts) for parts in texts):
        notes += (f"{empty} of {len(data)} texts {'are empty' if len(texts[0]) == 1 else 'have an empty part'}.",)
    if data.truncated:
        lost = "beginning" if tokenizer.truncation_side == "left" else "end"
        notes += (f"{data.truncated} of {len(data)} texts were longer than {data.max_length} tokens and lost their {lost}.",)
    if family_of(model.config.model_type).reads_last and (odd := ends_in_padding(data)):
        token = tokenizer.pad_token
        notes += (f"{odd} of {len(data)} texts end in {token}, which also pads: the classifier reads the token before it.",)
    return notes


def _unknown_word(tokenizer: PreTrainedTokenizerBase, texts: tuple[str, ...]) -> str:
    """The first word in these texts that the tokeniser does not know, at most 30 characters."""
    for text in texts:
        if not tokenizer.is_fast:
            return text[:30]
        found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        for i, (start, end) in zip(found["input_ids"], found["offset_mapping"], strict=True):
            if i == tokenizer.unk_token_id:
                return text[start:end][:30]
    return texts[0][:30]
