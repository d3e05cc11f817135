"""How a visitor's settings stand in the address of the page, so that it can be kept and sent."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from app.web.settings import FIELDS, Settings
from vp_core.ground.chosen import of_weights, units_today
from vp_core.ground.errors import VPError

_UNITS = ("units", "show")
"""Settings that name kinds of units: addresses of version 0.4 may say it in its words."""


def to_query(settings: Settings) -> dict[str, str]:
    """The parameters of the address: what differs from its default, or from what goes with the units.

    >>> to_query(Settings(sparsity=0.3, units=("heads",), gate=True))
    {'sparsity': '0.3', 'units': 'heads', 'gate': 'on'}
    >>> to_query(Settings().with_units(("2:4",)))
    {'units': '2:4'}
    """
    usual = Settings().with_units(settings.units)
    chosen = {name: getattr(settings, name) for name in FIELDS}
    said = {name: value for name, value in chosen.items() if name == "units" or value != getattr(usual, name)}
    return {name: FIELDS[name].format(value) for name, value in said.items() if (name, value) != ("units", Settings.units)}


def from_query(query: Mapping[str, str]) -> tuple[Settings, list[str]]:
    """Settings from an address, and one sentence for each value that could not be used (its default is taken).

    What the address does not say is as it goes with its units.
    """
    chosen: dict[str, Any] = {}
    problems: list[str] = []
    for name, declared in FIELDS.items():
        if name not in query:
            continue
        text = units_today(query[name]) if name in _UNITS else query[name]
        if text != query[name]:
            problems.append("In the address: the unit 'ffn' is now called 'ffn neurons', and was taken as that.")
        try:
            chosen[name] = declared.parse(name, text)
        except VPError as error:
            default = declared.format(declared.default)
            problems.append(_said(error, f"The default, {default}, is used instead." if default else "Its default is used."))
    usual = Settings().with_units(chosen.get("units", Settings.units))
    settings = replace(usual, **chosen)
    try:
        _ = settings.recipe
    except VPError as error:
        settings, instead = _possible(settings)
        problems.append(_said(error, instead))
    problems += [f"In the address: {name!r} is no setting and is ignored." for name in query if name not in FIELDS]
    return settings, problems


def _possible(settings: Settings) -> tuple[Settings, str]:
    """Settings of a recipe that can be, in place of those of one that cannot, and a sentence that says what was changed."""
    if not of_weights(settings.units):
        rows = replace(settings, units=Settings.units, basis=Settings.basis)
        try:
            _ = rows.recipe
            return rows, "The defaults of units and basis are used instead."
        except VPError:
            pass
    fits = replace(settings.with_units(settings.units), sparsity=settings.sparsity)
    return fits, f"What goes with {' + '.join(settings.units)} is used instead."


def _said(error: VPError, instead: str) -> str:
    return f"In the address: {str(error)[:-1]}. {instead}"
