"""The pictures of the page `Weights`: every row as a bar, the pattern of one matrix, and two masks over each other."""

from collections.abc import Sequence

import pandas as pd
import streamlit as st
from torch import Tensor

from analysis import overlay, pattern, row_masks, theme
from analysis.names import counted, matrix_title, split_matrix
from analysis.weights import heat
from app.web import caching, components, visitor_jobs
from app.web import settings_fields as kind
from app.web.choices import draw, offer, panel, sparsity_slider
from app.web.glossary import TERMS
from app.web.jobs import Job
from app.web.offered import over_choices, over_first, over_recipe
from app.web.panels.score_view import FIRST_LOOK, under_way
from app.web.settings import FIELDS, Settings
from app.web.visitor import visitor
from app.web.waiting import follow
from app.web.weighing import recipe_of_weights
from vp_core.ground.errors import VPError
from vp_core.ground.names import WORD_EMBEDDINGS
from vp_core.model.projections import Layer, find_layers
from vp_core.ranking.plan import Plan, Ranking
from vp_core.recipes import Recipe
from vp_core.study import Study
from vp_core.weights.masks import Masks
from vp_core.weights.matrices import view

_POLL_MS = 400


@panel
def pictures_panel(study: Study) -> None:
    """The slider, every row as a bar, and of single weights the pattern of one matrix."""
    settings = visitor().settings
    job = _masks(study, settings, "masks", study, settings.recipe)
    slider, said = st.columns([5, 8], gap="large", vertical_alignment="center")
    with slider:
        sparsity_slider(components.ticket(job), _POLL_MS)
    said.markdown(_summary(job.items[0]) if job.items else "&nbsp;")
    st.markdown("##### Every row", help=TERMS["row masks"])
    if not job.items:
        _wait(study, job, "row-masks", 620)
        return
    masks = job.items[0]
    if isinstance(masks, Masks):
        shares = row_masks.share_gone(masks)
        drawn = components.still(row_masks.draw_shares(shares, "How much of every row is gone"))
        components.figure("row-masks", drawn, "rows-gone", settings.position)
        components.csv_button("rows-gone", lambda: row_masks.table(shares))
    else:
        _rows(study, settings, masks)
    _matrix(study, settings, masks)


def _rows(study: Study, settings: Settings, plan: Plan) -> None:
    """The rows of a recipe that prunes rows: by their order, which the slider follows, or of this plan alone."""
    order = caching.order_job(study, settings.recipe, visitor().name)
    order.wait(0, FIRST_LOOK)
    found = order.items[0] if order.items and settings.steps == 1 else None
    if found:
        assert isinstance(found.ranking, Ranking)  # of rows
        rows = row_masks.gone_at(found.ranking, study.projections(), found.shares)
        rows = row_masks.exact_at(rows, plan, settings.position)
    else:
        rows = row_masks.gone_by(plan)
    drawn = row_masks.draw(rows, settings.sparsity)
    components.figure("row-masks", drawn if found else components.still(drawn.figure), "rows-gone", settings.position)
    components.csv_button("rows-gone", lambda: row_masks.table(rows, visitor().settings.position))


def _summary(masks: Masks | Plan) -> str:
    """What is kept and gone, in one line."""
    if isinstance(masks, Plan):
        rows = sum(len(keep) for keep in masks.keep.values())
        gone = rows - sum(int(keep.sum()) for keep in masks.keep.values())
        return f"**{gone:,}** of {rows:,} rows are gone ({gone / rows:.1%})."
    gone, all_ = masks.weights_removed, masks.weights
    return f"**{gone:,}** of {all_:,} weights are gone ({gone / all_:.1%}), in {len(masks.bits)} matrices."


@panel
def pattern_panel(study: Study) -> None:
    """The pattern of one matrix alone, as the page Explore shows it."""
    settings = visitor().settings
    components.poller("pattern-poll", "", _POLL_MS, settings.position)
    job = _masks(study, settings, "masks", study, settings.recipe)
    if job.items and isinstance(job.items[0], Masks):
        st.markdown("##### The pattern of a matrix", help=TERMS["pattern"])
        name = choose_matrix(list(job.items[0].bits))
        left, right = st.columns([8, 5], gap="large")
        with left:
            table = _pattern(study, job.items[0], name)
        with right:
            _show_parts(table, name)
    else:
        st.markdown("##### The pattern of a matrix", help=TERMS["pattern"])
        _wait(study, job, "pattern", 500)


def _matrix(study: Study, settings: Settings, masks: Masks | Plan) -> None:
    """One matrix: which of its weights survive, and how large they are."""
    st.markdown("##### One matrix", help=TERMS["pattern"])
    matrices = {matrix.name: matrix for matrix in study.weights().matrices(recipe_of_weights(settings.recipe))}
    matrix = matrices[choose_matrix(list(matrices))]
    left, right = st.columns(2, gap="large")
    with right:
        cells = heat.matrix_table(view(study.model, matrix).cpu(), matrix)
        components.figure("magnitudes", components.still(heat.draw_matrix(cells, matrix)), f"magnitudes-{matrix.name}", 0)
        components.csv_button("magnitudes", lambda: cells)
    if matrix.name in (masks.bits if isinstance(masks, Masks) else masks.keep):
        with left:
            _pattern(study, masks, matrix.name)


def _pattern(study: Study, masks: Masks | Plan, name: str) -> pd.DataFrame:
    """Which weights of a matrix survive; what is left of it and of its heads."""
    layer, type_ = split_matrix(name)
    heads = None if layer is None else pattern.heads_of(find_layers(study.model)[layer], type_)
    keep = masks.keep(name) if isinstance(masks, Masks) else _whole_rows(masks, find_layers(study.model)[layer or 0], type_)
    drawn = components.still(pattern.draw(name, keep, heads))
    components.figure("pattern", drawn, f"pattern-{name}", visitor().settings.position)
    table = pattern.table(name, keep, heads)
    components.csv_button("pattern", lambda: table)
    return table


def _whole_rows(plan: Plan, layer: Layer, type_: str) -> Tensor:
    """The mask (rows, columns) of a matrix whose rows go whole."""
    projection = layer.projections[type_]
    return plan.keep[projection.name][:, None].expand(-1, projection.d_in)


def _show_parts(table: pd.DataFrame, name: str) -> None:
    """What is left of a matrix and of each of its heads."""
    percent = st.column_config.NumberColumn(format="%.1f %%")
    shown = {
        matrix_title(name): table["part"], "kept": 100 * table["share_kept"],
        "rows gone": table["rows_gone"], "columns gone": table["columns_gone"],
    }  # fmt: skip
    st.dataframe(pd.DataFrame(shown), hide_index=True, column_config={"kept": percent})


def choose_matrix(names: Sequence[str]) -> str:
    """The widgets for a layer and a matrix of it, of those that are there; the name of the matrix that is chosen."""
    settings = visitor().settings
    types = list(dict.fromkeys(split_matrix(name)[1] for name in names))
    type_ = settings.matrix if settings.matrix in types else types[0]
    layers = [layer for name in names if (layer := split_matrix(name)[0]) is not None and split_matrix(name)[1] == type_]
    which, where, _ = st.columns([2, 1, 5], gap="small")
    with which:
        offer("matrix", types, type_)
    if type_ == WORD_EMBEDDINGS:
        return WORD_EMBEDDINGS
    layer = settings.layer if settings.layer in layers else min(max(settings.layer, layers[0]), layers[-1])
    with where:
        offer("layer", now=layer, max_value=layers[-1])
    return f"{layer}.{type_}"


@panel
def overlay_panel(study: Study) -> None:
    """Two masks over each other, at the same sparsity: another criterion, another recipe, or another model."""
    settings = visitor().settings
    st.markdown("##### Two masks over each other", help=TERMS["overlay"])
    components.poller("overlay-poll", "", _POLL_MS, settings.position)
    another = bool(settings.over_model.strip())
    choices = over_choices(settings.recipe, another)
    over = settings.over if settings.over in choices else over_first(settings.recipe, another)
    what, model, task = st.columns([2, 3, 2], gap="small")
    with what:
        offer("over", choices, over)
    for name, place in {"over_model": model, "over_task": task}.items():
        field = FIELDS[name]
        assert isinstance(field, kind.Text)
        how = {"label": field.label, "help": field.help, "placeholder": field.placeholder}
        with place:
            draw(st.text_input, name, getattr(settings, name), **how)
    try:
        beside = caching.study_over(settings) or study
        recipe = over_recipe(settings.recipe, over, another)
    except VPError as error:
        st.error(str(error), icon=":material/error:")
        return
    jobs = [
        _masks(study, settings, "masks", study, settings.recipe),
        _masks(study, settings, "over", beside, recipe),
    ]  # fmt: skip
    if wrong := next((job.error for job in jobs if job.error), None):
        st.error(wrong, icon=":material/error:")
    elif not all(job.items for job in jobs):
        _wait(study, next(job for job in jobs if not job.items), "overlay", 320)
    else:
        one = settings.recipe.criterion if not another else study.loaded.name
        _overlaid(jobs[0].items[0], jobs[1].items[0], *_called(settings, over, one), counted(settings.recipe))


def _called(settings: Settings, over: str, one: str) -> tuple[str, str]:
    """What the two masks are called in the figures."""
    other = over.removeprefix("by ")
    if settings.over_model:
        name = settings.over_model.strip().rstrip("/").rsplit("/", 1)[-1]
        return one.rstrip("/").rsplit("/", 1)[-1], name if over == "the same recipe" else f"{name} {over}"
    return (settings.recipe_name or "mine", other) if not over.startswith("by ") else (one, other)


def _overlaid(one: Masks | Plan, other: Masks | Plan, name: str, beside: str, units: str) -> None:
    try:
        table = overlay.table(one, other)
    except VPError as error:
        st.error(str(error), icon=":material/error:")
        return
    what = "rows" if isinstance(one, Plan) else "weights"
    total = table.iloc[-1]
    if total["one"] or total["other"]:
        st.markdown(
            f"*{name}* removes **{total['one']:,}** of {total['n']:,} {what}, *{beside}* **{total['other']:,}**; both remove "
            f"**{total['both']:,}**. In common **{total['jaccard']:.1%}** of what either removes, by chance "
            f"{total['jaccard_chance']:.1%}; they treat **{total['agreement']:.1%}** of all {what} alike, by chance "
            f"{total['agreement_chance']:.1%}."
        )
    components.figure("overlay", components.still(overlay.draw(table, name, beside, what)), "two-masks", 0)
    if isinstance(one, Plan) and isinstance(other, Plan):
        drawn = overlay.draw_rows(overlay.four(one.keep, other.keep), name, beside)
        components.figure("overlay-rows", components.still(drawn), "two-masks-rows", 0)
    components.csv_button("two-masks", lambda: table)


def _masks(study: Study, settings: Settings, name: str, of: Study, recipe: Recipe) -> Job[Masks | Plan]:
    """This visitor's masks of a recipe at the slider; what takes a moment only is waited for, so that nothing flickers."""
    key, me = of.key(recipe, settings.sparsity), visitor()
    found = follow(name, (key, of is study), lambda: visitor_jobs.masks_job(of, recipe, settings.sparsity, me.name))
    found.job.wait(0, FIRST_LOOK)
    return found.job


def _wait(study: Study, job: Job, key: str, height: int) -> None:
    """An empty figure that says what is being measured, or what is wrong, and asks again."""
    sentence = job.error or under_way(job)
    height = 160 if job.error else height
    components.figure(key, components.still(theme.placeholder("", sentence, height)), key, 0, components.ticket(job), _POLL_MS)
