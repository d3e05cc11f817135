"""What the page Sub-layers measures of the model in hand, and of the one that is drawn beside it."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from transformers import PreTrainedModel

from analysis.spectral import as_table, spectral_table
from app.web.settings import BESIDE, Settings
from vp_core.asking.batches import make_batches
from vp_core.demo import norms as kept_norms
from vp_core.ground.work import say
from vp_core.identity.spectral import LAMBDA, rescaled
from vp_core.measuring.function_norms import FunctionNorms, collect_norms
from vp_core.opening.study import open_study
from vp_core.study import Study

TWINS = {"demo": "demo-sn", "demo-sn": "demo"}
"""The demo, and what was trained under spectral normalisation towards its hidden states and outputs (and so has its norms)."""
_NAMES = {"demo": "plain", "demo-sn": "spectrally normalised"}


@dataclass(frozen=True, eq=False)
class Norms:
    """Function norms of a model, its name in figures, and its spectral norms (layer, type, sigma) once they are known."""

    name: str
    norms: FunctionNorms
    sigmas: pd.DataFrame | None = None


def model_name(model: str) -> str:
    """What a model is called in the figures.

    >>> model_name("demo"), model_name("models/my-bert")
    ('plain', 'my-bert')
    """
    return _NAMES.get(model, model.rstrip("/").rsplit("/", 1)[-1])


def choices(settings: Settings) -> tuple[str, ...]:
    """What can be drawn beside the model in hand, the first of them unless the visitor chooses."""
    return BESIDE if settings.model in TWINS else BESIDE[1:]


def shown_beside(settings: Settings) -> str:
    """What is drawn beside the model in hand."""
    return settings.beside if settings.beside in choices(settings) else choices(settings)[0]


def title(settings: Settings, which: str) -> str:
    """What a choice is called on screen."""
    twin = model_name(TWINS.get(settings.model, ""))
    return {"twin": f"its {twin} twin", "rescaled": "weights only rescaled (not trained)"}.get(which, which)


def norms_of(study: Study) -> Iterator[Norms]:
    """Norms of the model in hand: function norms first, since they can be shown without the rest."""
    say("measuring function norms")
    yield from _parts(model_name(study.loaded.name), study.measured().norms(), study.model)


def norms_beside(study: Study, settings: Settings, which: str) -> Iterator[Norms]:
    """Norms of what is drawn beside the model in hand: the twin, on the same texts, or the weights divided by σ/λ."""
    if which == "rescaled":
        model = rescaled(study.model)
        norms = collect_norms(model, make_batches(study.calibration, np.arange(len(study.calibration))))
        yield from _parts(f"weights only rescaled to λ = {LAMBDA:g}", norms, model)
        return
    kept = kept_norms.read(TWINS[settings.model], study.calibration_id)
    if kept is not None:  # the demo's own texts: nothing has to be loaded
        yield Norms(model_name(TWINS[settings.model]), kept[0], as_table(kept[1]))
        return
    twin = open_study(
        TWINS[settings.model], settings.task, settings.data or None, text=settings.columns, label=settings.label,
        labels=settings.classes, separator=settings.separator, max_length=settings.max_length, calibration=settings.calibration,
    )  # fmt: skip
    yield from _parts(model_name(twin.loaded.name), twin.measured().norms(), twin.model)


def _parts(name: str, norms: FunctionNorms, model: PreTrainedModel) -> Iterator[Norms]:
    yield Norms(name, norms)
    yield Norms(name, norms, spectral_table(model))
