"""Classes beside those of transformers: they run its forward passes, which see other maps or sizes than the module has."""

from collections.abc import Mapping
from functools import cache
from typing import Any, ClassVar

from torch import nn


class Beside(nn.Module):
    """A class beside one of transformers: made at run time, so that copies and pickles are told of what."""

    of_transformers: ClassVar[Any]

    def __reduce_ex__(self, _protocol: Any) -> tuple[Any, ...]:
        return _blank, (type(self).__mro__[1], self.of_transformers), self.__dict__


class Seen:
    """A module, or a configuration, as a forward pass sees it: some of its attributes are others, all else is its own.

    One for each pass, so that several threads can use one module.
    """

    def __init__(self, module: Any, others: Mapping[str, Any]) -> None:
        self._module = module
        self.__dict__ |= others

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


@cache
def class_beside(kind: Any, base: Any) -> Any:
    """A class of ours, `kind`, with all that `base` of transformers has, which it knows as `of_transformers`."""
    about = {"__doc__": kind.__doc__, "__module__": base.__module__, "of_transformers": base}
    return type(f"{kind.__name__}{base.__name__}", (kind, base), about)


def _blank(kind: Any, base: Any) -> nn.Module:
    """A module of the class `kind` beside `base`, its state still to be set."""
    found = class_beside(kind, base)
    blank: nn.Module = found.__new__(found)
    return blank
