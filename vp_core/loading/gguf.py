"""GGUF files: a language model and its tokeniser in one file, mostly in few bits, read as float32.

transformers reads them tensor by tensor, which takes as long as a model is large: what comes of it is kept as a folder in the
cache, under the file's own SHA-256.
"""

import hashlib
import importlib.util
import os
from pathlib import Path

import torch
import transformers
from filelock import FileLock
from transformers import AutoModelForCausalLM, AutoTokenizer

from vp_core.ground.errors import VPError, one_line
from vp_core.ground.hub import quiet_transformers
from vp_core.ground.store import cache_dir, new_folder
from vp_core.loading.gguf_header import Header, read_header

ARCHITECTURES = ("gemma2", "gemma3", "gpt2", "llama", "mistral", "phi3", "qwen2", "qwen3")
"""Of those that transformers reads, the ones whose model is of a family here."""
_FORM = "1"
"""How what is kept was made: a later form is made anew."""
_SIZES = ("embedding_length", "feed_forward_length", "attention.head_count", "attention.head_count_kv")
_TOKENS = "tokenizer.ggml.tokens"


def is_gguf(name: str | Path) -> bool:
    """Whether a model's name is that of such a file."""
    return str(name).lower().endswith(".gguf") and os.path.isfile(name)  # noqa: PTH113 (a Path would raise for names no file can have)


def require_gguf() -> None:
    """VPError if the package of the extra `gguf` is not installed."""
    if importlib.util.find_spec("gguf") is None:
        raise VPError("GGUF files need the package gguf: install the extra, pip install -r requirements-gguf.txt.")


def as_folder(name: str) -> tuple[Path, tuple[str, ...]]:
    """(a folder with the model of a file as `save_pretrained` writes it, float32, notes): made now, or kept from before.

    Raises VPError for a file whose header cannot be true, an architecture that is not supported, and a model that is larger
    than this machine's memory.
    """
    require_gguf()
    path = Path(name)
    header = read_header(path, _types())
    _check(path, header)
    bits = 8 * header.bytes / header.elements
    notes = (f"The weights of this GGUF file are of {bits:.2g} bits each ({_usual_type(header)}), and read as float32.",)
    kept = cache_dir() / "gguf"
    kept.mkdir(exist_ok=True)
    with path.open("rb") as file:
        sha = hashlib.file_digest(file, "sha256").hexdigest()
    folder = kept / f"{sha[:32]}-{_FORM}-{transformers.__version__}"
    with FileLock(kept / f".{folder.name}.lock"):  # two that open it at once: one of them makes it
        if not folder.is_dir():
            _convert(path, folder)
    return folder, notes


def _types() -> dict[int, tuple[str, int, int]]:
    """Number → (name, numbers in a block, bytes of a block) of the types of tensors that the package knows."""
    from gguf.constants import GGML_QUANT_SIZES

    return {int(kind): (kind.name, *sizes) for kind, sizes in GGML_QUANT_SIZES.items()}


def _usual_type(header: Header) -> str:
    """The type that most numbers are stored in."""
    elements: dict[str, int] = {}
    for weight in header.tensors.values():
        elements[weight.dtype] = elements.get(weight.dtype, 0) + weight.elements
    return max(elements, key=lambda kind: elements[kind])


def _check(path: Path, header: Header) -> None:
    """VPError for what cannot be read here, told before anything is made."""
    architecture = header.facts.get("general.architecture")
    if architecture not in ARCHITECTURES:
        raise VPError(
            f"The file {str(path)!r} holds a model of the architecture {str(architecture)[:40]!r}, which is not read here: "
            f"give one of {', '.join(ARCHITECTURES)}."
        )
    for key, most in (("block_count", len(header.tensors)), *((size, header.elements) for size in _SIZES)):
        found = header.of_architecture(key)
        if found is not None and not (isinstance(found, int) and 0 < found <= most):
            raise VPError(
                f"The file {str(path)!r} says {key} = {str(found)[:24]}, which its weights cannot have: it is broken, get it "
                "again."
            )
    embeddings = header.tensors.get("token_embd.weight")
    words = header.facts.get(_TOKENS)
    if embeddings is None or not isinstance(words, int) or not 0 < words <= embeddings.shape[0]:
        raise VPError(
            f"The file {str(path)!r} has no vocabulary of its own, or one that does not fit its embeddings: get a whole one."
        )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 2**63
    if 8 * header.elements > memory:  # once as it is read, once as it is written
        raise VPError(
            f"The {header.elements:,} weights of {str(path)!r} take {8 * header.elements / 2**30:,.1f} GiB while they are read "
            f"as float32, and this machine has {memory / 2**30:,.1f}: give a smaller model."
        )


def _convert(path: Path, folder: Path) -> None:
    """Read a file and write the folder, whole or not at all."""
    given = {"gguf_file": path.name, "local_files_only": True, "trust_remote_code": False}
    try:
        with quiet_transformers():
            tokenizer = AutoTokenizer.from_pretrained(str(path.parent), **given)
            read = AutoModelForCausalLM.from_pretrained(str(path.parent), dtype=torch.float32, **given)
            config = read.config
            if hasattr(config, "quantization_config"):
                del config.quantization_config
            model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
            model.load_state_dict(read.state_dict())
            model.tie_weights()
            del read
            with new_folder(folder) as place:
                model.save_pretrained(place)
                tokenizer.save_pretrained(place)
    except VPError:
        raise
    except Exception as error:  # gguf, transformers and torch share no base class
        raise VPError(
            f"The GGUF file {str(path)!r} could not be read ({one_line(error)}): give the model it was made from, as a folder."
        ) from error
