"""What a visitor has chosen, and how it stands in the address of the page."""

from collections.abc import Mapping
from dataclasses import dataclass, fields

from vp_core.criteria import CRITERIA
from vp_core.errors import VPError, one_of
from vp_core.families import TYPES
from vp_core.plan import SCOPES, check_sparsity
from vp_core.precision import PRECISIONS
from vp_core.projections import check_types
from vp_core.replacement import REPLACEMENTS
from vp_core.study import Recipe


@dataclass(frozen=True)
class Settings:
    """Every choice on the pages; each field is a parameter of the address if it differs from its default."""

    model: str = "demo"
    task: str = "demo"
    data: str = ""
    text: str = ""
    label: str = "label"
    criterion: str = "variance"
    scope: str = "per type"
    replacement: str = "mean"
    types: str = ",".join(TYPES)
    precision: str = "float32"
    sparsity: str = "0.2"
    show: str = "ffn_in"
    batch: str = "8"
    length: str = "128"
    repeats: str = "7"
    sparsities: str = "0,0.3,0.5,0.7"

    @property
    def recipe(self) -> Recipe:
        return Recipe(self.criterion, self.scope, self.replacement, tuple(self.types.split(",")))

    @property
    def position(self) -> int:
        """The slider's position, 0..100."""
        return round(float(self.sparsity) * 100)

    @property
    def measured_sparsities(self) -> tuple[float, ...]:
        """Those that the page Speed measures: the chosen ones and the slider's."""
        return tuple(sorted({float(part) for part in [*self.sparsities.split(","), self.sparsity] if part}))

    def to_query(self) -> dict[str, str]:
        """The parameters of the address."""
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}


def from_query(query: Mapping[str, str]) -> tuple[Settings, list[str]]:
    """Settings from an address, and one sentence for each value that could not be used (its default is taken)."""
    chosen: dict[str, str] = {}
    problems: list[str] = []
    for field in fields(Settings):
        if field.name not in query:
            continue
        try:
            chosen[field.name] = _checked(field.name, query[field.name])
        except VPError as error:
            problems.append(f"In the address: {str(error)[:-1]}. The default, {field.default}, is used instead.")
    problems += [f"In the address: {name!r} is no setting and is ignored." for name in query if name not in _NAMES]
    return Settings(**chosen), problems


_NAMES = {field.name for field in fields(Settings)}
_CHOICES = {
    "criterion": tuple(CRITERIA),
    "scope": SCOPES,
    "replacement": REPLACEMENTS,
    "precision": PRECISIONS,
    "show": TYPES,
}
_EXAMPLES = {"batch": "8", "length": "128", "repeats": "7"}


def _checked(name: str, value: str) -> str:
    if name in _CHOICES:
        return one_of(name, value, _CHOICES[name])
    if name == "types":
        return ",".join(check_types(tuple(part for part in value.split(",") if part)))
    if name == "sparsity":
        return _hundredth(value)
    if name == "sparsities":
        return ",".join(sorted({_hundredth(part) for part in value.split(",") if part.strip()}, key=float))
    if name in _EXAMPLES:
        if not (value.isdecimal() and int(value) > 0):
            raise VPError(f"The {name} {value!r} is no whole number above 0: use {_EXAMPLES[name]}.")
        return str(int(value))
    return value


def _hundredth(sparsity: str) -> str:
    """The slider's step is 1 %."""
    return f"{round(check_sparsity(sparsity), 2):g}"
