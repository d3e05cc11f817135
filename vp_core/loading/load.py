"""Loading models: `demo`, a directory written by `save_pretrained`, a GGUF file, or a Hub id. Float32, nothing pickled, no
remote code.

A classifier of texts, unless something else is asked of it (`vp_core.loading.asked`).
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.image_processing_utils import BaseImageProcessor

from vp_core.asking.kinds.heads import head_of
from vp_core.ground.bounded import check_sizes, read_json
from vp_core.ground.errors import VPError, one_line, one_of
from vp_core.ground.hub import quiet_transformers, require_hub
from vp_core.ground.names import ASKED, DTYPES
from vp_core.ground.store import is_pruned
from vp_core.loading.asked import Way, asked_of, check_asked, check_family, way_of
from vp_core.loading.checkpoint import (
    check_amount,
    check_finite,
    check_numbers,
    check_weights,
    missing_head,
    own_weights,
)
from vp_core.loading.config import check_config, check_dropped, mend
from vp_core.loading.folder import (
    CONFIG,
    check_folder,
    check_hub_id,
    check_tokeniser_files,
    class_of,
    fetch,
    has_tokeniser,
    read_weights,
    result_of,
)
from vp_core.loading.gguf import as_folder, is_gguf
from vp_core.loading.readers.images import check_processor, read_processor, tokens_with
from vp_core.loading.readers.tokeniser import check_file, check_tokeniser, incomplete
from vp_core.loading.sentences import as_one_sentence
from vp_core.model.families import longest_input
from vp_core.model.precision import bytes_of, find_device
from vp_core.model.projections import Projection, find_projections
from vp_core.squeezing.folder import load_pruned

_LENGTH_LIMIT = 512
"""More tokens than that cost minutes a score on a processor, whatever the model has positions for."""
_WINDOW_LIMIT = 4096
"""The same of a window of a long text, of which few are enough."""
_NO_NOTES: tuple[str, ...] = ()
EMBEDDED: Mapping[str, str] = MappingProxyType({
    "demo": "classes", "demo-sn": "classes", "demo-text": "tokens", "demo-images": "images",
})  # fmt: skip
"""Models that come with the package, and what they are asked: the demo, its twin, trained under spectral normalisation towards
the demo's hidden states and outputs, a small language model, and a small image classifier."""


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model in eval mode with what reads for it, its tokeniser or image processor. `fingerprint` identifies its weights and
    configuration.

    `projections` is empty for a model that is squeezed already. `notes` are what its user should know of how it was read.
    """

    model: PreTrainedModel
    reader: PreTrainedTokenizerBase | BaseImageProcessor | None
    name: str
    fingerprint: str
    projections: tuple[Projection, ...]
    notes: tuple[str, ...] = ()

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The model's tokeniser; VPError for one that sees."""
        if isinstance(self.reader, BaseImageProcessor):
            raise VPError(f"The model {self.name!r} sees images, and has no tokeniser: give it a folder of images.")
        if self.reader is None:
            raise VPError(f"The model {self.name!r} came without a tokeniser: load it by name from a folder that has one.")
        return self.reader

    @property
    def processor(self) -> BaseImageProcessor:
        """The image processor of a model that sees; VPError for one that reads."""
        if not isinstance(self.reader, BaseImageProcessor):
            raise VPError(f"The model {self.name!r} reads texts, and has no image processor: give it texts.")
        return self.reader

    @property
    def layers(self) -> int:
        """Number of layers; 0 for a squeezed model, whose projections are not listed."""
        return 1 + max((p.layer for p in self.projections), default=-1)

    @property
    def max_length(self) -> int:
        """The longest input that the model is given, in tokens: of one that sees every picture is as long."""
        if isinstance(self.reader, BaseImageProcessor):
            return tokens_with(self.model, self.reader)
        if self.reader is None:
            return int(min(longest_input(self.model.config), _LENGTH_LIMIT))
        most = _WINDOW_LIMIT if head_of(self.model) in ("next tokens", "masked tokens") else _LENGTH_LIMIT
        return int(min(self.tokenizer.model_max_length, longest_input(self.model.config), most))


def load_model(
    name: str,
    asked: str = ASKED[0],
    *,
    device: str = "cpu",
    dtype: str = DTYPES[0],
    fresh_head: bool = False,
    outputs: Sequence[str] = (),
) -> LoadedModel:
    """Load and check a model for what it is `asked`, one of ASKED, and its tokeniser or image processor; `own` is a model
    without a head, and these may be missing.

    Its weights lie on `device` (`vp_core.model.precision.find_device`) in `dtype`, one of DTYPES. That is another model than
    in float32 if its weights were not of that type already, and `notes` say so; `fingerprint` is that of what was read, on
    whatever device. Weights need half the memory in bfloat16 or float16, and are multiplied as they are kept unless a
    precision says otherwise. With `fresh_head` the map from its states to what is asked is not read but drawn, the same every
    time, for whoever trains it; `outputs` are then what its outputs are called (none: as its configuration says).

    Raises VPError, one sentence that says what to give or mend, for an unknown or unreachable id, for a folder that is
    something else, for a checkpoint that is broken, pickled, quantised or of an unsupported family, for weights that are
    missing, left over inside the model, of other sizes, NaN or infinite, and for a tokeniser that is missing or another's.
    """
    notes, place = _NO_NOTES, find_device(device)
    kept = _dtype(dtype, place)
    name = result_of(name)
    if name in EMBEDDED:
        model, reader = _embedded(name, asked)
    elif is_gguf(name):
        check_asked(name, "ForCausalLM", asked)
        folder, notes = as_folder(name)
        model, reader, more = _load_pretrained(str(folder), asked)
        notes = (*notes, *more)
    else:
        model, reader, notes = _load_pretrained(name, asked, fresh_head, outputs)
    model.eval().requires_grad_(False)
    if kept != torch.float32:
        model = model.to(kept)
        notes = (*notes, f"Weights are kept in {dtype}, and multiplied so unless another precision is chosen.")
    check_finite(model, name)
    if isinstance(reader, PreTrainedTokenizerBase):
        notes = (*notes, *check_tokeniser(name, model, reader))
    elif reader is not None:
        check_processor(name, model, reader)
    projections = () if hasattr(model, "squeezed") else find_projections(model)
    known = fingerprint(model)
    return LoadedModel(to_device(model, place), reader, name, known, projections, notes)


def to_device(model: PreTrainedModel, device: torch.device) -> PreTrainedModel:
    """The model, moved; VPError that says how much was needed if there is no room for it."""
    if device.type == "cpu":
        return model
    try:
        return model.to(device)
    except RuntimeError as error:  # torch.OutOfMemoryError is one
        if not isinstance(error, torch.OutOfMemoryError) and "out of memory" not in str(error).lower():
            raise
        raise VPError(
            f"The device {str(device)!r} has no room for a model of {bytes_of(model) / 1e9:.2f} GB: take a smaller one, the "
            "device cpu, or keep its weights in bfloat16 (--dtype bfloat16)."
        ) from error


def _dtype(name: str, device: torch.device) -> torch.dtype:
    """The type of that name; VPError if there is none, and for float16 on the processor, which has no kernels for it."""
    one_of("dtype", name, DTYPES)
    if name == "float16" and device.type == "cpu":
        raise VPError("Weights in float16 are for accelerators: choose float32 or bfloat16 on the processor.")
    found: torch.dtype = getattr(torch, name)
    return found


def load_any(name: str, *, device: str = "cpu", dtype: str = DTYPES[0]) -> LoadedModel:
    """A model as what it was saved as, a text classifier where nobody says; takes and raises what `load_model` does."""
    name = result_of(name)
    return load_model(name, what_is_asked(name) or ASKED[0], device=device, dtype=dtype)


def what_is_asked(name: str) -> str | None:
    """What a model says of itself that it is asked, one of ASKED; None where nobody says."""
    if name in EMBEDDED:
        return EMBEDDED[name]
    if is_gguf(name):
        return "tokens"
    is_folder = bool(name) and os.path.isdir(name)  # noqa: PTH112 (a Path would raise for names no folder can have)
    with quiet_transformers(), as_one_sentence(name, is_folder):
        return asked_of(class_of(Path(name) if is_folder else on_the_hub(name)))


def _embedded(name: str, asked: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase | BaseImageProcessor]:
    from vp_core.demo.load import load_demo, load_demo_images, load_demo_text, load_twin

    if asked != EMBEDDED[name]:
        own = {
            "classes": "classifies texts (--task demo)", "tokens": "is a language model (--task demo-text)",
            "images": "classifies images (--task demo-images)",
        }  # fmt: skip
        raise VPError(f"The model {name!r} {own[EMBEDDED[name]]}: give a model of your own for this task.")
    if name == "demo-text":
        return load_demo_text()
    if name == "demo-images":
        return load_demo_images()
    return load_demo() if name == "demo" else load_twin()


def fingerprint(model: PreTrainedModel) -> str:
    """SHA-256 over the configuration and the names and bytes of all weights, shortened to 16 digits."""
    sha = hashlib.sha256(json.dumps(_behaviour(model.config), sort_keys=True, default=str).encode())
    for key, tensor in sorted(model.state_dict().items()):
        sha.update(key.encode())
        sha.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return sha.hexdigest()[:16]


def _behaviour(config: PretrainedConfig) -> dict[str, object]:
    """The configuration without what says nothing about the model's answers."""
    silent = {"_name_or_path", "transformers_version", "architectures", "dtype", "id2label", "label2id"}
    return {key: value for key, value in config.to_dict().items() if key not in silent}


def _load_pretrained(
    name: str, asked: str, fresh_head: bool = False, outputs: Sequence[str] = ()
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase | BaseImageProcessor | None, tuple[str, ...]]:
    """(model, tokeniser or image processor, notes) of a folder, dense or squeezed, or of an id on the Hub."""
    is_folder = bool(name) and os.path.isdir(name)  # noqa: PTH112 (a Path would raise for names no folder can have)
    with quiet_transformers(), as_one_sentence(name, is_folder):
        folder, notes = Path(name) if is_folder else on_the_hub(name), _NO_NOTES
        way = way_of(asked, name, folder, fresh_head)
        if is_folder and is_pruned(name):
            if fresh_head:
                raise _has_head(name)
            model = _squeezed(name, asked)
        else:
            model, notes = _dense(name, folder, is_folder, asked, way, fresh_head, outputs)
        if asked == "own" and not has_tokeniser(folder):
            return model, None, notes
        if asked == "images":
            return model, read_processor(name, folder, is_folder), notes
        check_tokeniser_files(name, folder)
        tokenizer = read_tokeniser(name, is_folder)
        return model, tokenizer, (*notes, *check_file(tokenizer, folder))


def read_tokeniser(name: str, is_folder: bool) -> PreTrainedTokenizerBase:
    """The tokeniser of a folder or an id, whose files were checked; VPError for one that is incomplete."""
    try:
        return AutoTokenizer.from_pretrained(name, local_files_only=is_folder, trust_remote_code=False)
    except Exception as error:  # transformers and tokenizers share no base class
        if not is_folder:
            raise
        reason = one_line(error)
        if "backend tokenizer" in reason:  # what follows is a list of what could be converted, were it there
            raise incomplete(name, "there is nothing to make it from") from error
        raise incomplete(name, reason) from error


def on_the_hub(name: str) -> Path:
    """The folder with the files of an id, fetched if need be."""
    check_hub_id(name)
    require_hub(f"The model {name!r}")
    return fetch(name)


def _squeezed(name: str, asked: str) -> PreTrainedModel:
    model = load_pruned(name).float()
    check_family(name, model.config.model_type, asked, type(model).__name__)
    mend(model.config)
    for module in model.modules():  # they were made by the configuration as it stands in the file
        if getattr(module, "chunk_size_feed_forward", 0):
            module.chunk_size_feed_forward = 0
    return model


def _dense(
    name: str, folder: Path, is_folder: bool, asked: str, way: Way, fresh_head: bool, outputs: Sequence[str] = ()
) -> tuple[PreTrainedModel, tuple[str, ...]]:
    """(model, notes) of what transformers makes of a checkpoint that way."""

    def check(name: str, model_type: str) -> None:
        check_family(name, model_type, asked, way.endings[0])

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # what is missing is drawn
        model, info = read_checked(name, folder, is_folder, way.auto, check, outputs)
    notes = _NO_NOTES
    if fresh_head:
        drawn = missing_head(model, info)
        if not drawn:
            raise _has_head(name)
        info = info | {"missing_keys": set(info["missing_keys"]) - set(drawn)}
        notes = (f"The head of the model is new ({', '.join(drawn)}): it says nothing before it is trained.",)
    found = check_weights(name, model, info, way.trained_for)
    own_weights(model)
    return model, (*notes, *found)


def _has_head(name: str) -> VPError:
    return VPError(f"The model {name!r} has a head for this task already: leave out --fresh-head.")


def read_checked(
    name: str,
    folder: Path,
    is_folder: bool,
    made_by: type,
    check_type: Callable[[str, str], object],
    outputs: Sequence[str] = (),
) -> tuple[PreTrainedModel, dict[str, Any]]:
    """(the float32 model that transformers' auto class `made_by` makes, what it says of keys missing or left over).

    The configuration and the headers are checked before there are weights. `check_type(name, model type)` raises VPError for
    one that is not wanted.
    """
    if is_folder:
        check_folder(folder)
    raw, weights = read_json(folder / CONFIG), read_weights(folder)
    check_config(name, raw)
    check_numbers(name, weights)
    if weights:  # none are in the folder of an id whose weights transformers finds elsewhere
        check_sizes(name, raw, weights.values())
    check_type(name, str(raw["model_type"]))
    options: dict[str, Any] = {"local_files_only": is_folder, "trust_remote_code": False}
    auto: Any = made_by
    with as_one_sentence(name, is_folder, of_config=True):
        config = AutoConfig.from_pretrained(name, **options)
        check_dropped(name, raw, config)
        mend(config)
        if outputs:
            config.id2label, config.label2id = dict(enumerate(outputs)), {one: i for i, one in enumerate(outputs)}
        if weights:
            with torch.device("meta"):
                check_amount(name, auto.from_config(config), weights)
    model, info = auto.from_pretrained(
        name, config=config, dtype=torch.float32, use_safetensors=True, output_loading_info=True,
        ignore_mismatched_sizes=True, **options,
    )  # fmt: skip
    return model, info
