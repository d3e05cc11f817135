"""What a metric of one's own returned, made into sums; and what it is known by, so that no score of another one is taken for
its own."""

import builtins
import dis
import hashlib
import types
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import numpy as np
import torch
from torch import Tensor

from vp_core.ground.errors import VPError

Metric = Callable[..., Any]
"""A function of a model and a batch (a dict of tensors), which returns a value for each example, or (value, n) of them all."""
PART, WHOLE, TOGETHER = range(3)
"""Sums of an example: its value times what it counts, what it counts, and whether a batch counts as one."""


def sums_of(found: Any, examples: int, name: str, batch: int) -> np.ndarray:
    """(examples, 3) float64 of what a metric returned for a batch of so many examples: see PART, WHOLE, TOGETHER.

    Of (value, n) the first example carries all. VPError for what is neither, and for what is NaN or infinite.
    """
    which = f"The metric {name!r} returned"
    if isinstance(found, tuple) and len(found) == 2 and all(_single(one) is not None for one in found):
        value, n = (float(_single(one) or 0.0) for one in found)
        if not (np.isfinite(n) and n >= 0 and (np.isfinite(value) or n == 0)):
            raise VPError(f"{which} {value:g} of {n:g} for batch {batch:,}: return finite numbers, and an n from 0 on.")
        sums = np.zeros((examples, 3))
        sums[0], sums[:, TOGETHER] = (value * n if n else 0.0, n, 1), 1
        return sums
    values = _values(found)
    if values is None:
        raise VPError(f"{which} {_described(found)} for batch {batch:,}: return a number for each example, or (value, n).")
    if values.shape != (examples,):
        shape = f"{len(values):,} values" if values.ndim == 1 else f"an array of the shape {values.shape}"
        if values.ndim == 0:
            shape = "a single number"
        raise VPError(f"{which} {shape} for the {examples:,} examples of batch {batch:,}: return one for each, or (value, n).")
    if not np.isfinite(values).all():
        row = int(np.flatnonzero(~np.isfinite(values))[0])
        raise VPError(f"{which} {values[row]:g} for example {row + 1:,} of batch {batch:,}: return finite numbers.")
    return np.stack([values, np.ones(examples), np.zeros(examples)], axis=1)


def _single(value: Any) -> float | None:
    """A number, or what holds a single one; None for anything else."""
    if isinstance(value, Tensor) and value.numel() == 1 and not value.is_complex():
        return float(value)
    if isinstance(value, np.ndarray | np.generic) and value.size == 1 and value.dtype.kind in "biuf":
        return float(value.reshape(()))
    return float(value) if isinstance(value, int | float) else None


def _values(found: Any) -> np.ndarray | None:
    """Numbers as an array, None for what holds none."""
    if isinstance(found, Tensor):
        return None if found.is_complex() else found.detach().to("cpu", torch.float64).numpy()
    if not isinstance(found, list | tuple | np.ndarray | np.generic | int | float):
        return None
    if isinstance(found, list | tuple):
        singles = [_single(one) for one in found]
        return None if any(one is None for one in singles) else np.array(singles, dtype=float)
    made = np.asarray(found)
    return made.astype(float) if made.dtype.kind in "biuf" else None


def _described(found: Any) -> str:
    return "nothing" if found is None else f"a {type(found).__name__} without numbers"


def known_by(function: Any) -> str:
    """What a function computes, as far as its code says it: the same for the same code with the same constants, in another
    process too. What hangs on objects that cannot be compared is new each time, so that no kept score is taken for it."""
    sha = hashlib.sha256()
    _tell(function, sha.update, set())
    return sha.hexdigest()[:16]


def _tell(value: Any, say: Callable[[bytes], object], seen: set[int]) -> None:
    if isinstance(value, str | bytes | int | float | complex | bool | None | types.EllipsisType):
        say(repr(value).encode())
    elif isinstance(value, tuple | list | frozenset):
        say(type(value).__name__.encode())
        for one in sorted(value, key=repr) if isinstance(value, frozenset) else value:
            _tell(one, say, seen)
    elif isinstance(value, types.ModuleType):
        say(value.__name__.encode())
    elif isinstance(value, types.CodeType):
        say(value.co_code + repr(value.co_names).encode())
        _tell(value.co_consts, say, seen)
    elif isinstance(value, types.FunctionType):
        _of_function(value, say, seen)
    elif isinstance(value, type | types.BuiltinFunctionType):
        say(f"{value.__module__}.{value.__qualname__}".encode())
    else:
        say(uuid4().bytes)


def _of_function(function: types.FunctionType, say: Callable[[bytes], object], seen: set[int]) -> None:
    """Its code, its defaults, and what it reads from around it; of a library's function the name is enough."""
    if id(function) in seen:
        return
    seen.add(id(function))
    say(function.__qualname__.encode())
    if (function.__module__ or "").partition(".")[0] in ("torch", "transformers", "numpy", "scipy", "sklearn"):
        return
    _tell(function.__code__, say, seen)
    _tell((function.__defaults__ or (), tuple((function.__kwdefaults__ or {}).items())), say, seen)
    for cell in function.__closure__ or ():
        try:
            _tell(cell.cell_contents, say, seen)
        except ValueError:  # nothing is in it yet
            say(b"empty")
    for name in _names(function.__code__):
        if name in function.__globals__:
            _tell(function.__globals__[name], say, seen)
        else:
            say(f"{name} {hasattr(builtins, name)}".encode())


def _names(code: types.CodeType) -> list[str]:
    """The globals that a function's code reads, and the code inside of it."""
    inner = [name for one in code.co_consts if isinstance(one, types.CodeType) for name in _names(one)]
    own = [step.argval for step in dis.get_instructions(code) if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")]
    return sorted({*own, *inner})
