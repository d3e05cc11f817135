"""Files of unknown origin: what they say of their size is held against what can be true, before anything is made by it.

A link is followed wherever it leads (the Hub's cache is made of links, and people link large weights to another disk): what
is read stays data, nothing is written through it, and only a regular file of bounded size is opened, no device and no pipe.
"""

import json
import math
import re
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vp_core.ground.errors import VPError

MIB = 2**20
CONFIG_LIMIT = 10 * MIB
TOKENISER_LIMIT = 200 * MIB
_MOST_LAYERS = 1000
_BITS = (
    dict.fromkeys(("F64", "I64", "U64", "C64"), 64)
    | dict.fromkeys(("F32", "I32", "U32"), 32)
    | dict.fromkeys(("F16", "BF16", "I16", "U16"), 16)
    | dict.fromkeys(("I8", "U8", "BOOL", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 8)
    | {"F6_E2M3": 6, "F6_E3M2": 6, "F4": 4}
)
"""The types of the format, in bits."""
_SIZES = re.compile(r"size|dim|embd|inner|d_model|d_ff|d_kv|position|layer|label|head|group")


@dataclass(frozen=True)
class Weight:
    """What a safetensors header says of one tensor: its type by safetensors' name, its shape."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)


def check_file(path: Path, limit: int | None = None) -> int:
    """The size of a file in bytes; VPError unless it is a regular file of at most `limit` bytes, and no Git-LFS pointer."""
    try:
        about = path.stat()
    except OSError as error:
        raise VPError(f"The file {str(path)!r} cannot be read ({error.strerror}): get it again.") from error
    if not stat.S_ISREG(about.st_mode):
        raise VPError(f"{str(path)!r} is no regular file: put the file itself there.")
    if limit is not None and about.st_size > limit:
        raise VPError(
            f"The file {str(path)!r} has {about.st_size / MIB:,.0f} MiB, where {limit / MIB:,.0f} are the most: it is not what "
            "its name says, get it again."
        )
    with path.open("rb") as file:
        if file.read(40).startswith(b"version https://git-lfs.github.com/spec"):
            raise VPError(
                f"The file {str(path)!r} is a Git-LFS pointer, not the file itself: run `git lfs pull` in that folder."
            )
    return about.st_size


def read_json(path: Path, limit: int = CONFIG_LIMIT) -> dict[str, Any]:
    """The object in a JSON file; VPError if it is none, or larger than `limit` bytes."""
    check_file(path, limit)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _broken(path, f"no JSON: {str(error).splitlines()[0][:100]}") from error
    if not isinstance(found, dict):
        raise _broken(path, "no JSON object")
    return found


def read_header(path: Path) -> dict[str, Weight]:
    """Name → what the header of a safetensors file says of it, in time and memory of the header alone.

    Raises VPError if the header is longer than the file or than 10 MiB, or unless its tensors, each as long as its shape and
    type say, fill the rest of the file with neither gap nor overlap.
    """
    size = check_file(path)
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > size - 8:
            raise _broken(path, f"its header says {length:,} bytes, the file has {size:,}")
        if length > CONFIG_LIMIT:
            raise _broken(path, f"its header has {length:,} bytes")
        raw = file.read(length)
    try:
        header = json.loads(raw)
        header.pop("__metadata__", None)
        spans = sorted((start, stop, name) for name, (start, stop) in ((n, e["data_offsets"]) for n, e in header.items()))
        weights = {name: Weight(entry["dtype"], tuple(entry["shape"])) for name, entry in header.items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise _broken(path, "its header is no list of tensors") from error
    end = 0
    for start, stop, name in spans:
        weight = weights[name]
        if not _plausible(weight) or (start, stop) != (end, end + weight.elements * _BITS[weight.dtype] // 8):
            raise _broken(path, f"its header lies about {name[:80]!r}")
        end = stop
    if end != size - 8 - length:
        raise _broken(path, f"its header says {end:,} bytes of weights, the file has {size - 8 - length:,}")
    return weights


def check_sizes(name: str, config: Mapping[str, Any], weights: Iterable[Weight]) -> None:
    """VPError if a configuration describes more than weights like these can be: layers, sizes, labels.

    `config` is as it stands in config.json. Every size is that of a side of some weight, so that none is larger than all
    weights together; a layer has weights, except where layers share them, and then there are at most 1,000.
    """
    weights = list(weights)
    elements = sum(weight.elements for weight in weights)
    for key, value in config.items():
        if isinstance(value, bool) or not isinstance(value, int) or not _SIZES.search(key):
            continue
        limit = _MOST_LAYERS if re.search("layers?$|group", key) else elements
        if value > limit or (value < 1 and "heads" in key):
            raise VPError(
                f"The config.json of {name!r} says {key} = {str(value)[:24]}, which the weights cannot have: take the "
                "config.json that belongs to them."
            )
    groups = math.prod(value for key, value in config.items() if "group" in key and isinstance(value, int))
    if groups > max(len(weights), 1):
        raise VPError(
            f"The config.json of {name!r} makes {groups:,} groups of layers from {len(weights):,} weights: get it again."
        )


def _plausible(weight: Weight) -> bool:
    sides = all(isinstance(n, int) and not isinstance(n, bool) and 0 <= n < 2**48 for n in weight.shape)
    return isinstance(weight.dtype, str) and weight.dtype in _BITS and len(weight.shape) <= 16 and sides


def _broken(path: Path, reason: str) -> VPError:
    return VPError(f"The file {str(path)!r} could not be loaded ({reason}): it is broken or incomplete, get it again.")
