"""Files that are whole or not there: safetensors and parquet, written to a temporary name and moved into place."""

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import platformdirs
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from vp_core.ground.errors import VPError
from vp_core.ground.hub import quiet_transformers
from vp_core.ground.names import PRUNED

DEMO_DIR = Path(__file__).parents[1] / "demo"
"""The embedded default: models and sentences that come with the package."""


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path` to write to; it takes the place of `path` when all went well, else it is removed.

    Raises VPError if the folder is not there or the disk cannot be written to.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise VPError(f"The folder {str(path.parent)!r} is not there: make it first, or choose another place.")
    temporary = None
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(path)
    except Exception as error:  # a full disk has several classes
        if (reason := write_failure(error)) is None:
            raise
        raise VPError(f"{str(path)!r} could not be written ({reason}); what was there is as before.") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_failure(error: BaseException | None) -> str | None:
    """Why a file could not be written, in the system's words; None if that is not what an exception says.

    safetensors and tokenizers do not raise OSError, they only cite it.

    >>> write_failure(Exception("I/O error: No space left on device (os error 28)")), write_failure(KeyError("x"))
    ('No space left on device', None)
    """
    if isinstance(error, VPError):
        return write_failure(error.__cause__)
    if isinstance(error, OSError):
        return error.strerror or str(error)
    cited = re.search(r"([^:]*) \(os error \d+\)", str(error))
    if cited:
        return cited[1].strip()
    return str(error) if isinstance(error, SafetensorError) else None


def save_tensors(path: str | Path, tensors: Mapping[str, Tensor], kind: str, about: Mapping[str, str]) -> None:
    """Write tensors (any shape) with their `kind` and a few strings about them to safetensors; raises as `atomic` does."""
    whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
    with atomic(path) as temporary:
        save_file(whole, temporary, metadata={**about, "kind": kind, "format": "variance-pruning 1"})


@contextmanager
def _opened(path: str | Path, kind: str) -> Iterator[tuple[Any, dict[str, str]]]:
    """(an open safetensors file, the strings about it); VPError if it is missing, broken or of another kind."""
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            if about.get("kind") != kind:
                raise VPError(f"{str(path)!r} holds no {kind}: choose a file that was saved as {kind}.")
            yield file, about
    except (OSError, SafetensorError) as error:
        raise VPError(f"{str(path)!r} cannot be read as safetensors ({error}): write it again.") from error


def load_tensors(path: str | Path, kind: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """(tensors of any shape, strings about them) that `save_tensors` wrote.

    Raises VPError if the file is missing, broken or of another kind.
    """
    with _opened(path, kind) as (file, about):
        # clone: the tensors of a memory-mapped file would break with the file, and lie at addresses where matrix products
        # round otherwise than elsewhere
        return {name: file.get_tensor(name).clone() for name in file.keys()}, about  # noqa: SIM118 (not a dict)


def load_about(path: str | Path, kind: str) -> dict[str, str]:
    """The strings alone, no tensor read; raises as `load_tensors` does."""
    with _opened(path, kind) as (_, about):
        return about


def digest(*parts: object) -> str:
    """A short fingerprint of JSON-able values.

    >>> digest("a", 1) == digest("a", 1) != digest("a", 2)
    True
    """
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def cache_dir() -> Path:
    """The cache folder of finished curves, made if it is not there: `VP_CACHE_DIR`, or the user's cache folder."""
    path = _cache()
    path.mkdir(parents=True, exist_ok=True)
    return path


def shelf_dir() -> Path:
    """The folder in it for what was measured (`Shelf`), which makes it itself."""
    return _cache() / "measured"


def _cache() -> Path:
    return Path(os.environ.get("VP_CACHE_DIR") or platformdirs.user_cache_dir("variance-pruning"))


def is_pruned(folder: str | Path) -> bool:
    """Whether a folder was written by `save_pruned`."""
    return os.path.isfile(Path(folder) / PRUNED)  # noqa: PTH113 (a Path would raise for names no file can have)


@contextmanager
def new_folder(folder: str | Path) -> Iterator[Path]:
    """A temporary folder beside `folder` to write to; it takes its place when all went well, else it is removed.

    An empty folder, or one with a model that was saved here before, is replaced. Raises VPError for another one, and if the
    disk cannot be written to; then what was there is as before.
    """
    folder = Path(folder)
    check_new_folder(folder)
    temporary = None
    try:
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.absolute().parent))
        place = temporary / "new"
        place.mkdir()
        with quiet_transformers():
            yield place
        old = temporary / "old"
        if folder.exists():
            folder.rename(old)
        try:
            place.rename(folder)
        except BaseException:
            if old.exists():
                old.rename(folder)
            raise
    except Exception as error:  # a full disk has several classes
        if (reason := write_failure(error)) is None:
            raise
        raise VPError(f"{str(folder)!r} could not be written ({reason}); what was there is as before.") from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def check_new_folder(folder: Path) -> None:
    """VPError if `new_folder` would refuse this place."""
    if folder.exists() and not folder.is_dir():
        raise VPError(f"{str(folder)!r} is a file: choose a folder to write the model to.")
    if folder.is_dir() and any(folder.iterdir()) and not is_pruned(folder):
        raise VPError(f"The folder {str(folder)!r} is not empty: choose a new one.")
    if not folder.absolute().parent.is_dir():
        raise VPError(f"The folder {str(folder.parent)!r} is not there: make it first, or choose another place.")
