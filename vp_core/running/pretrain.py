"""Pre-training goes on: a text cut into windows, an encoder under the head that predicts masked words, and a classifier of it.

model, tokenizer = open_masked_lm("minilm", tell=print)
data = windows(tokenizer, "wikitext-2/train.txt")
train(model, MaskedWords(data, tokenizer), schedule, callbacks=[GradualRows(Cuts())])
classifier_of(model, like=study.model)
"""

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForMaskedLM, PreTrainedModel, PreTrainedTokenizerBase
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

from vp_core.asking.batches import Encoded
from vp_core.asking.reading.files import read_lines
from vp_core.asking.words.windows import LEAST, around, check_room
from vp_core.ground.errors import VPError
from vp_core.ground.hub import quiet_transformers
from vp_core.ground.store import is_pruned
from vp_core.loading.checkpoint import check_finite, check_left_over, check_prefix, own_weights
from vp_core.loading.load import EMBEDDED, load_model, on_the_hub, read_checked
from vp_core.loading.readers.tokeniser import check_tokeniser
from vp_core.loading.sentences import as_one_sentence
from vp_core.loading.weights import load_tokeniser

LENGTH = 128
"""Tokens of a window (BERT's first phase, Devlin et al. 2019, appendix A.2)."""
_LINES = 1000
"""Lines that are tokenised together."""
_MARKS = {" @-@ ": "-", " @,@ ": ",", " @.@ ": "."}
"""How WikiText writes marks within a word."""


def windows(tokenizer: PreTrainedTokenizerBase, path: str | Path, length: int = LENGTH, most: int | None = None) -> Encoded:
    """A text file (UTF-8) as windows of `length` tokens, one after another, each with a text's first and last special tokens.

    At most the first `most` of them, of which no more is read than it takes. Lines are tokenised one by one, without empty
    ones; WikiText's `<unk>` becomes the tokeniser's own, which is never masked. Raises VPError for a file that is not there, is
    no text, or has too little of it, and for a length that is too small or too large.
    """
    before, after = around(tokenizer)
    room = check_room(length, len(before) + len(after))
    if length > tokenizer.model_max_length:
        raise VPError(f"Windows cannot have {length} tokens: this model takes {int(tokenizer.model_max_length)} at most.")
    found: list[list[int]] = []
    rest: list[int] = []
    lines = _lines(Path(path), tokenizer.unk_token)
    while part := list(islice(lines, _LINES)):
        for ids in tokenizer(part, add_special_tokens=False, verbose=False)["input_ids"]:
            rest += ids
        whole = len(rest) // room * room
        found += [[*before, *rest[i : i + room], *after] for i in range(0, whole, room)]
        rest = rest[whole:]
        if most is not None and len(found) >= most:
            break
    if len(rest) >= LEAST:
        found.append([*before, *rest, *after])
    found = found[:most]
    if len(found) < 2:
        raise VPError(f"The text {str(path)!r} has fewer than two windows of {length} tokens: give a longer one.")
    return Encoded(found, None, tokenizer.pad_token_id, 0, length)


def _lines(path: Path, unknown: str | None) -> Iterator[str]:
    """Lines that are not empty, WikiText's marks taken out; raises as `vp_core.asking.reading.files.read_lines` does."""
    for line in read_lines(path):
        for mark, plain in _MARKS.items():
            line = line.replace(mark, plain)
        if line.strip():
            yield line.strip().replace("<unk>", unknown or "<unk>")


def open_masked_lm(
    name: str, tell: Callable[[str], None] = lambda news: None, fresh: bool = False, seed: int = 0
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """(a ...ForMaskedLM in training mode, its tokeniser) of an encoder's checkpoint, by itself or under whatever head.

    A head that the checkpoint does not have is drawn by the `seed`, and `tell` says so; `fresh` draws everything, as the paper
    begins. Raises VPError for a family that predicts no masked words, a squeezed model, weights that are missing inside, and
    what `vp_core.loading.load.load_model` refuses of a folder and a tokeniser.
    """
    folder = Path(name) if name and Path(name).is_dir() else None
    if folder is not None and is_pruned(name):
        raise VPError(f"The model {name!r} is squeezed already: give the model that it was made from.")
    tokenizer = load_tokeniser(name)
    with torch.random.fork_rng(devices=[]), quiet_transformers(), as_one_sentence(name, folder is not None):
        torch.manual_seed(seed)
        model, missing = _of_demo(name) if name in EMBEDDED else _read(name, folder)
        if fresh:
            model, missing = type(model)(model.config), []
            tell("all weights are drawn anew: this is pre-training from the beginning")
    if missing:
        tell(f"the checkpoint has no head for masked words: {len(missing)} of its weights are drawn anew, to be learnt")
    for note in check_tokeniser(name, model, tokenizer):
        tell(note)
    return model.train().requires_grad_(True), tokenizer


def _read(name: str, folder: Path | None) -> tuple[PreTrainedModel, list[str]]:
    """(model, missing weights of its head) of a folder, or an id on the Hub."""
    where = folder or on_the_hub(name)
    model, info = read_checked(name, where, folder is not None, AutoModelForMaskedLM, _check_type)
    missing, unexpected = sorted(info["missing_keys"]), sorted(info["unexpected_keys"])
    inside = [key for key in missing if key.startswith(f"{model.base_model_prefix}.")]
    check_prefix(name, model.base_model_prefix, inside, unexpected)
    wrong = inside + sorted(key for key, *_ in info.get("mismatched_keys", ()))
    if wrong:
        raise VPError(
            f"The checkpoint {name!r} lacks {len(wrong)} of the encoder's weights (such as {wrong[0]}), or has them in another "
            "shape: take the config.json that belongs to it."
        )
    check_left_over(name, model, unexpected)
    check_finite(model, name)
    own_weights(model)
    return model, missing


def _of_demo(name: str) -> tuple[PreTrainedModel, list[str]]:
    classifier = load_model(name).model
    model = AutoModelForMaskedLM.from_config(classifier.config)
    model.base_model.load_state_dict(classifier.base_model.state_dict(), strict=False)
    inside = f"{model.base_model_prefix}."
    return model, [key for key, _ in model.named_parameters() if not key.startswith(inside)]


def _check_type(name: str, model_type: str) -> None:
    if model_type not in MODEL_FOR_MASKED_LM_MAPPING_NAMES:
        raise VPError(
            f"The model {name!r} is of the type {model_type!r}, which predicts no masked words: take an encoder such as BERT."
        )


def classifier_of(pretrained: PreTrainedModel, like: PreTrainedModel, seed: int = 0) -> PreTrainedModel:
    """A classifier as `like` is, with the encoder of `pretrained`, and all that is above it drawn anew by the `seed`.

    In evaluation mode, to be fine-tuned: rows that are zero are held by `vp_core.training.held`, and the plan of a pruning fits
    it as well. Raises VPError if the two are not of one shape.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = type(like)(like.config)
    weights = {name: value.detach().clone() for name, value in pretrained.base_model.state_dict().items()}
    _more_biases(model.base_model, weights)
    there = model.base_model.state_dict()
    if any(name not in there or there[name].shape != value.shape for name, value in weights.items()):
        raise VPError(f"A {type(pretrained).__name__} and a {type(like).__name__} of another shape: take both of one model.")
    model.base_model.load_state_dict(weights, strict=False)
    return model.eval().requires_grad_(False)


def _more_biases(base: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Biases for the maps that a pruning gave one."""
    there: dict[str, Any] = base.state_dict()
    for name, value in weights.items():
        path, _, last = name.rpartition(".")
        if name not in there and last == "bias" and isinstance(base.get_submodule(path), nn.Linear):
            base.get_submodule(path).bias = nn.Parameter(value.clone())
