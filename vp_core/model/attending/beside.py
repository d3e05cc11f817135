"""Classes beside those of transformers: they run its forward passes, which see other maps or sizes than the module has."""

from collections.abc import Mapping
from functools import cache
from typing import Any


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
