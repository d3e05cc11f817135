"""What the figures are drawn from: the tiny BERT's scores and rankings."""

from functools import cache

import numpy as np
import pytest

from analysis.live import STEPS
from vp_core.curves import curve, sweep
from vp_core.ground.names import SCOPES
from vp_core.recipes import Recipe

CASES = [(criterion, scope) for criterion in ("variance", "magnitude", "random") for scope in SCOPES]


@pytest.fixture(scope="session", params=CASES, ids=[f"{c}, {s}" for c, s in CASES])
def any_case(request, studies):
    """(scores, ranking) of each criterion and scope."""
    study, recipe = studies["bert"], Recipe(*request.param)
    return study.scores(recipe), study.ranking(recipe)


DRAWN = [("variance", "per type"), ("random", "global"), ("magnitude", "scaled")]
"""What is drawn takes the order as it is, whatever it comes from."""


@pytest.fixture(scope="session", params=DRAWN, ids=[f"{c}, {s}" for c, s in DRAWN])
def case(request, studies):
    """(criterion, scores, ranking) of each criterion, and of three scopes."""
    study, recipe = studies["bert"], Recipe(*request.param)
    return recipe.criterion, study.scores(recipe), study.ranking(recipe)


ORDERED = [(criterion, scope) for criterion, scope in CASES if criterion != "random"]


@pytest.fixture(scope="session", params=ORDERED, ids=[f"{c}, {s}" for c, s in ORDERED])
def ordered_case(request, studies):
    """The same as `any_case` without `random`, whose rows are not the lowest of anything."""
    study, recipe = studies["bert"], Recipe(*request.param)
    return study.scores(recipe), study.ranking(recipe)


@pytest.fixture(scope="session")
def kept():
    """What the plans of a ranking keep at every position of the slider: by projection (101, d_out)."""

    @cache
    def of(ranking):
        plans = [ranking.plan(sparsity).keep for sparsity in STEPS]
        return {name: np.stack([keep[name].numpy() for keep in plans]) for name in plans[0]}

    return of


@pytest.fixture(scope="session")
def points(studies):
    """The table of a finished sweep."""
    return curve(list(sweep(studies["bert"], ["variance", "random", "magnitude"], [0.0, 0.2, 0.5, 0.9]))).table


def shown(figure):
    """All that a figure's traces show, as plain values."""
    return [trace.to_plotly_json() for trace in figure.data]


def plain(value):
    """Arrays and tuples as lists, numbers rounded to what a screen could show."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items() if k != "uid"}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return round(value, 9) if isinstance(value, float) else value


@pytest.fixture(scope="session")
def same_picture():
    """Whether two figures show the same traces."""

    def compare(one, other):
        assert plain(shown(one)) == plain(shown(other))

    return compare


@pytest.fixture(scope="session")
def labelled():
    """Whether a figure has a title and both axes say what they are."""

    def check(figure):
        layout = figure.layout
        for text in (layout.title.text, layout.xaxis.title.text, layout.yaxis.title.text):
            assert text and text.strip(), figure.layout.title.text

    return check
