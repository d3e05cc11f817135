"""The kinds of settings: which values one takes, how a value stands in the address, and what is called and said of it.

A setting is declared once, as a default in `app.web.settings.Settings`. Its check and its place in the address follow from
the declaration here, its widget in `app.web.choices`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Generic, TypeVar

from vp_core.ground.errors import VPError, one_of
from vp_core.ranking.plan import check_sparsity

Value = TypeVar("Value")


@dataclass(frozen=True)
class Setting(ABC, Generic[Value]):
    """What is declared of a setting.

    `choices`: what is offered, in the spelling of the address; `names`: what a choice is called on the page, where that is
    not its spelling; `label` and `help`: title and explanation of the widget.
    """

    default: Value
    choices: tuple[str, ...] = ()
    _: KW_ONLY
    names: Mapping[str, str] = field(default_factory=dict)
    label: str = ""
    help: str = ""

    @abstractmethod
    def parse(self, name: str, text: str) -> Value:
        """The value that `text` stands for in the address; VPError with one sentence, which calls the setting `name`."""

    @abstractmethod
    def format(self, value: Value) -> str:
        """How a value stands in the address: what `parse` reads back."""

    def shown(self, text: str) -> str:
        """What a choice is called on the page."""
        return self.names.get(text, text)


def setting(declared: Setting[Value]) -> Value:
    """A field of `Settings` with what is declared of it (typed as its value, as `dataclasses.field` is)."""
    return field(default=declared.default, metadata={"setting": declared})


@dataclass(frozen=True)
class Text(Setting[str]):
    """Any text. `placeholder`: what an empty box says."""

    _: KW_ONLY
    placeholder: str = ""

    def parse(self, name: str, text: str) -> str:
        return text

    def format(self, value: str) -> str:
        return value


@dataclass(frozen=True)
class OneOf(Setting[str]):
    """One of a few words; an empty one among them stands for what goes with the other settings.

    `folded`: offered in a list that opens, rather than side by side.

    >>> OneOf("variance", ("variance", "random")).parse("criterion", "random")
    'random'
    """

    _: KW_ONLY
    folded: bool = False

    def parse(self, name: str, text: str) -> str:
        return text if text in self.choices else one_of(name, text, tuple(word for word in self.choices if word))

    def format(self, value: str) -> str:
        return value


@dataclass(frozen=True)
class SomeOf(Setting[tuple[str, ...]]):
    """Any number of a few words, joined by commas. `check` puts them in their order, or refuses them with a sentence;
    `none` is the sentence of a visitor who takes the last of them away, empty where none at all will do.

    >>> types = SomeOf((), ("query", "key"), check=lambda chosen: tuple(sorted(chosen)))
    >>> types.parse("types", "query,key"), types.format(("key",))
    (('key', 'query'), 'key')
    """

    _: KW_ONLY
    check: Callable[[tuple[str, ...]], tuple[str, ...]]
    none: str = ""

    def parse(self, name: str, text: str) -> tuple[str, ...]:
        return self.check(tuple(part for part in text.split(",") if part))

    def format(self, value: Sequence[str]) -> str:
        return ",".join(value)


@dataclass(frozen=True)
class Combination(SomeOf):
    """Words that go together: some combinations are offered, the address takes every one that `check` does."""

    def shown(self, text: str) -> str:
        return super().shown(text).replace(",", " + ")


@dataclass(frozen=True)
class Whole(Setting[int]):
    """A whole number from `least` to `most`, which may be open; any of them where there are no choices.

    >>> Whole(8, least=1).parse("batch", "016")
    16
    """

    _: KW_ONLY
    least: int
    most: int | None = None

    def parse(self, name: str, text: str) -> int:
        if text.isdecimal() and self.least <= int(text) and (self.most is None or int(text) <= self.most):
            return int(text)
        if self.most is None:
            raise VPError(f"The {name} {text!r} is no whole number above {self.least - 1}: use {self.default}.")
        raise VPError(f"The {name} {text!r} is no whole number from {self.least} to {self.most:,}.")

    def format(self, value: int) -> str:
        return str(value)


@dataclass(frozen=True)
class OpenWhole(Setting[int | None]):
    """A whole number from `least` on, or None, an empty text: what goes with the task.

    >>> OpenWhole(None, least=4).parse("max_length", "256"), OpenWhole(None, least=4).format(None)
    (256, '')
    """

    _: KW_ONLY
    least: int
    placeholder: str = ""

    def parse(self, name: str, text: str) -> int | None:
        if not text or (text.isdecimal() and int(text) >= self.least):
            return int(text) if text else None
        raise VPError(f"The {name} {text!r} is no whole number above {self.least - 1}: use one, or leave it empty.")

    def format(self, value: int | None) -> str:
        return "" if value is None else str(value)


@dataclass(frozen=True)
class OpenSize(Setting[int | None]):
    """A whole number from `least` to `most` of which some are offered, or None, an empty text: what goes with the task.

    >>> OpenSize(None, ("64", "128"), least=16, most=256).parse("calibration", "100")
    100
    """

    _: KW_ONLY
    least: int
    most: int

    def parse(self, name: str, text: str) -> int | None:
        if not text or (text.isdecimal() and self.least <= int(text) <= self.most):
            return int(text) if text else None
        raise VPError(f"The {name} {text!r} is no whole number from {self.least} to {self.most:,}.")

    def format(self, value: int | None) -> str:
        return "" if value is None else str(value)


@dataclass(frozen=True)
class Share(Setting[float]):
    """A share from 0 to 1 in hundredths, the steps of the slider.

    >>> Share(0.2).parse("sparsity", "0.297"), Share(0.2).format(0.3)
    (0.3, '0.3')
    """

    def parse(self, name: str, text: str) -> float:
        return round(check_sparsity(text), 2)

    def format(self, value: float) -> str:
        return f"{value:g}"


@dataclass(frozen=True)
class Shares(Setting[tuple[float, ...]]):
    """Any number of shares, the smallest first, each once.

    >>> Shares(()).parse("sparsities", "0.7,0.30,0.3"), Shares(()).format((0.3, 0.7))
    ((0.3, 0.7), '0.3,0.7')
    """

    def parse(self, name: str, text: str) -> tuple[float, ...]:
        return tuple(sorted({round(check_sparsity(part), 2) for part in text.split(",") if part.strip()}))

    def format(self, value: Sequence[float]) -> str:
        return ",".join(f"{share:g}" for share in value)

    def shown(self, text: str) -> str:
        return f"{100 * float(text):.0f} %"


@dataclass(frozen=True)
class Number(Setting[float]):
    """A number that `check` takes, to four digits."""

    _: KW_ONLY
    check: Callable[[str], float]

    def parse(self, name: str, text: str) -> float:
        return float(f"{self.check(text):.4g}")

    def format(self, value: float) -> str:
        return f"{value:.4g}"


@dataclass(frozen=True)
class OpenNumber(Setting[float | None]):
    """A number as `Number` is, or None, an empty text: the page takes what goes with the model."""

    _: KW_ONLY
    check: Callable[[str], float]

    def parse(self, name: str, text: str) -> float | None:
        return float(f"{self.check(text):.4g}") if text else None

    def format(self, value: float | None) -> str:
        return "" if value is None else f"{value:.4g}"


@dataclass(frozen=True)
class Switch(Setting[bool]):
    """On or off: `on`, or nothing, in the address."""

    def parse(self, name: str, text: str) -> bool:
        return one_of(name, text, ("", "on")) == "on"

    def format(self, value: bool) -> str:
        return "on" if value else ""
