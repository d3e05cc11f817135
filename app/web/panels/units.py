"""The panels of the page `Explore` that show which units go: they appear when the order of removal has been measured."""

import streamlit as st

from analysis import masks, theme, variance
from analysis.names import split_name
from app.web import caching, components
from app.web.choices import offer, panel
from app.web.glossary import TERMS
from app.web.jobs import Job
from app.web.order import Order
from app.web.panels.score_view import FIRST_LOOK, under_way
from app.web.settings import Settings
from app.web.visitor import visitor
from vp_core.ranking.plan import Ranking
from vp_core.study import Study

_POLL_MS = 2000


@panel
def mask_panel(study: Study) -> None:
    """Heat map of sparsity by layer and projection type, or kind of unit."""
    me = visitor()
    settings = me.settings
    what = "weights" if settings.recipe.pattern else "rows" if settings.recipe.single_rows else "units"
    st.markdown(f"##### Where {what} go", help=TERMS["heat"])
    job = _order(study, settings)
    if not job.items:
        _wait(study, job, "heat-map", theme.map_height(study.loaded.layers))
        return
    found, pattern = job.items[0], settings.recipe.pattern
    if pattern and pattern.of:
        components.poller("heat-poll", "", _POLL_MS, settings.position)
    if pattern and pattern.sparsity and settings.sparsity and abs(settings.sparsity - pattern.sparsity) > 0.005:
        said = f"{pattern.name} removes {pattern.sparsity:.1%} of the weights of every matrix, or none."
        components.figure("heat-map", components.still(theme.placeholder("", said, 160)), "heat-map", 0)
        return
    drawn = masks.draw(found.ranking, settings.sparsity, found.shares)
    components.figure("heat-map", drawn, "sparsity-by-layer-and-type", settings.position)

    def table():
        return masks.table(found.ranking, found.share(me.settings.sparsity))

    components.csv_button("sparsity-by-layer-and-type", table)


@panel
def neuron_panel(study: Study) -> None:
    """Every unit's score by layer, and its distribution with the cut, for one projection type or kind of unit."""
    settings = visitor().settings
    rows = settings.recipe.single_rows
    st.markdown("##### Which neurons go" if rows else "##### Which units go", help=TERMS["sorted"])
    job = _order(study, settings)
    if job.items:
        _show_units(settings, job.items[0])
        return
    left, right = st.columns(2, gap="large")
    with left:
        _wait(study, job, "sorted", 380)
    with right:
        _wait(study, job, "distribution", 380)


def _show_units(settings: Settings, found: Order) -> None:
    ranking = found.ranking
    assert isinstance(ranking, Ranking)  # single weights have a panel of their own
    there = list(dict.fromkeys(split_name(name)[1] for name in ranking.place))
    shown = settings.show if settings.show in there else there[0]
    if len(there) > 1:
        offer("show", there, shown)
    criterion, sparsity = settings.criterion, settings.sparsity
    table = variance.neuron_table(found.scores, ranking, shown, found.shares)
    left, right = st.columns(2, gap="large")
    with left:
        live = variance.draw_sorted(table, criterion, shown, sparsity)
        components.figure("sorted", live, f"{shown}-sorted", settings.position)
        components.csv_button(f"{shown}-neurons", lambda: table)
    with right:
        live = variance.draw_distribution(table, found.scores, ranking, criterion, shown, sparsity, found.shares)
        components.figure("distribution", live, f"{shown}-distribution", settings.position)
        components.csv_button(f"{shown}-distribution", lambda: table[["layer", "neuron", "score"]])


def _order(study: Study, settings: Settings) -> Job[Order]:
    """The recipe's order of removal; what takes a moment only is waited for, so that nothing flickers."""
    job = caching.order_job(study, settings.recipe, visitor().name)
    job.wait(0, FIRST_LOOK)
    return job


def _wait(study: Study, job: Job, key: str, height: int) -> None:
    """An empty figure that says what is being measured, or what is wrong, and asks again."""
    sentence = job.error or under_way(job)
    components.figure(key, components.still(theme.placeholder("", sentence, height)), key, 0, components.ticket(job), _POLL_MS)
