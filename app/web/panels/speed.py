"""The parts of the page `Speed`: what is measured, how far it is, what it found, and the squeezed model to take away."""

from collections.abc import Sequence

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from analysis import names, precision, speed
from app.web import caching, components, downloads
from app.web.choices import offer, panel, sparsity_slider
from app.web.glossary import TERMS
from app.web.jobs import Job
from app.web.measuring import Found, Wanted
from app.web.panels import speed_tables
from app.web.panels.score_view import FIRST_LOOK
from app.web.settings import Settings
from app.web.visitor import visitor
from app.web.waiting import follow, forget, leave, progress_line
from vp_core.ground.errors import VPError
from vp_core.ground.parallel import WORKERS
from vp_core.speed import SpeedRow, no_semi_structured
from vp_core.squeezing.timing import length_of
from vp_core.study import Study

_POLL_MS = 1000
_RESTLESS = 1.3


def wanted_by(study: Study, settings: Settings) -> Wanted:
    """What the visitor's settings ask to be measured."""
    return Wanted(
        study=study,
        recipe=settings.recipe,
        precision=settings.precision,
        batch=settings.batch,
        length=length_of(study.model.config, settings.length),
        repeats=settings.repeats,
        sparsities=settings.measured_sparsities,
        here=settings.sparsity,
    )


@panel
def speed_panel(study: Study) -> None:
    """What to measure, the measurement under way, and what was found so far."""
    settings, row = visitor().settings, _inputs(study)
    wanted = wanted_by(study, settings)
    found = caching.measurements().found(wanted)
    going_on = _controls(wanted, found, row)
    table = speed.table([row for row in found.all_speeds() if row["precision"] == settings.precision])
    ready = caching.order_job(study, wanted.recipe, visitor().name)
    ready.wait(0, FIRST_LOOK)
    # The limit wants the order of removal, which may have to be measured first.
    limits = caching.limits(study, wanted.recipe, wanted.length) if ready.items else speed.no_limit()
    going_on = going_on or components.ticket(ready)
    removed = names.removed(wanted.recipe)
    left, right = st.columns(2, gap="large")
    with left:
        drawn = speed.draw_time(table, limits, wanted.here, removed, wanted.example)
        components.figure("time", drawn, "time-per-text", settings.position, going_on, _POLL_MS)
    with right:
        drawn = speed.draw_speedup(table, limits, wanted.here, removed)
        components.figure("speed-up", drawn, "speed-up", settings.position)
    unrest = speed.unrest(table)
    if unrest > _RESTLESS:
        st.info(
            f"The dense model took {unrest:.1f} times as long at one sparsity as at another, so other programs were using this "
            "machine: compare forms at one sparsity only, or measure again when it is quiet.",
            icon=":material/speed:",
        )
    if len(table):
        st.markdown("##### Numbers", help=TERMS["form"])
        speed_tables.show_speeds(table, wanted.example)
    st.markdown(f"##### Fewer bits at {settings.position} %", help=TERMS["precisions"])
    bits = precision.table(found.precisions.get(wanted.here, []))
    if len(bits):
        speed_tables.show_precisions(bits, study.question.task.metric)
    else:
        st.caption("Not measured yet at this sparsity.")
    _zeros(wanted, found)


def _zeros(wanted: Wanted, found: Found) -> None:
    """What single zeros save, in a layer's linear maps: a button of its own, a figure, a table."""
    st.markdown(f"##### {speed.SPARSE_TITLE}", help=TERMS["single zeros"])
    measured = speed.sparse_table(found.all_zeros())
    _, job = caching.measurements().last() or ("", None)
    busy = (job is not None and not job.done) or bool(_problem(wanted)) or not wanted.some_gone
    button, beside = st.columns([1.4, 8], vertical_alignment="center")
    if button.button("Time single zeros", width="stretch", disabled=busy, key="measure-zeros", help=TERMS["time zeros"]):
        caching.measurements().start_zeros(wanted, visitor().name)
        st.rerun(scope="fragment")
    what = "One layer's linear maps with a share of their weights gone, in each form that torch has for it."
    beside.caption(f"{what} {no_semi_structured()}")
    if len(measured):
        drawn = speed.draw_sparse(measured, wanted.here)
        components.figure("zeros", drawn, "single-zeros", visitor().settings.position)
        speed_tables.show_zeros(measured)


def _inputs(study: Study) -> Sequence[DeltaGenerator]:
    """The slider, and how to measure; returns the places beside it. Images all have their length, which is not offered."""
    slider, sparsities = st.columns([4, 7], gap="medium")
    with slider:
        sparsity_slider()
    with sparsities:
        offer("sparsities")
    batch, length, repeats, *row = st.columns([1, 1, 1, 1.4, 4.6, 1], gap="small", vertical_alignment="bottom")
    for name, place in {"batch": batch, "length": length, "repeats": repeats}.items():
        if name != "length" or study.question.task.kind != "images":
            with place:
                offer(name)
    return row


def _controls(wanted: Wanted, found: Found, row: Sequence[DeltaGenerator]) -> str:
    """The button with what goes on beside it; returns what to poll with while something does."""
    problem = _problem(wanted)
    job, state = _watch(wanted)
    button, beside, cancel = row
    title = "Measure" if any(found.missing(wanted)) else "Measure again"
    busy = job is not None and not job.done
    if button.button(title, type="primary", width="stretch", disabled=busy or bool(problem), help=TERMS["measure"]):
        # Somebody else may have been faster: then the next run says so.
        caching.measurements().start(wanted, caching.store(wanted.study), visitor().name)
        st.rerun(scope="fragment")
    if problem:
        beside.error(problem, icon=":material/error:")
    elif job is None:
        beside.caption(f"On {WORKERS} cores of this machine. Nothing is measured before the button is pressed.")
    elif state == "watched":
        beside.progress(len(job.items) / job.total, progress_line(job, len(job.items), "steps"))
        if cancel.button("Cancel", width="stretch"):
            leave("speed")
            st.rerun(scope="fragment")
    elif state == "another":
        beside.info(
            f"Another measurement runs on this machine ({len(job.items)} of {job.total} steps); two at once would falsify "
            "both, so yours can start after it."
        )
    elif state == "stopping":
        beside.caption("Stopping …")
    elif job.error:
        beside.error(job.error, icon=":material/error:")
    elif len(job.items) < job.total:
        beside.caption(f"Stopped after {len(job.items)} of {job.total} steps; what was measured is kept.")
    else:
        beside.caption(f"Measured on {WORKERS} cores of this machine.")
    return "" if job is None else components.ticket(job)


def _watch(wanted: Wanted) -> tuple[Job[list[SpeedRow]] | None, str]:
    """The measurement that concerns this visitor, and how: watched, stopping, another, or ended.

    Whoever asks the same question watches the measurement that runs; it ends when nobody does any more.
    """
    question, job = caching.measurements().last() or ("", None)
    mine, watched = question == wanted.question, visitor().followed.get("speed")
    if watched is not None and not watched.left and not (mine and watched.job is job):
        forget("speed")  # this visitor asks something else by now
    if job is None or (job.done and not mine):
        return None, "ended"
    if job.done:
        return job, "ended"
    if mine and not follow("speed", job, lambda: job).left:
        return job, "watched"
    return job, "stopping" if job.stopped() else "another"


def _problem(wanted: Wanted) -> str:
    try:
        wanted.check()
    except VPError as error:
        return str(error)
    return ""


def save_panel(study: Study, settings: Settings) -> None:
    """Tables and the squeezed model to take away. No part of a fragment that polls: each poll would renew the buttons."""
    me, measured = visitor(), caching.measurements()

    def found() -> Found:
        return measured.found(wanted_by(study, me.settings))

    st.markdown("##### Take it with you", help=TERMS["squeezed model"])
    model, speeds, bits, zeros = st.columns([2, 1, 1, 1])
    with model:
        st.download_button(
            "Squeezed model at the slider's sparsity", lambda: downloads.squeezed_zip(study, me.settings),
            f"{downloads.folder_name(study)}.zip", "application/zip", key="squeezed-zip", on_click="ignore",
            icon=":material/download:",
        )  # fmt: skip
    with speeds:
        components.csv_button("speed", lambda: speed.table(found().all_speeds()), "Speeds as CSV")
    with bits:
        components.csv_button("precision", lambda: precision.table(found().all_precisions()), "Fewer bits as CSV")
    with zeros:
        components.csv_button("zeros", lambda: speed.sparse_table(found().all_zeros()), "Single zeros as CSV")
    python, command = downloads.how_to_load(study, settings)
    st.code(python, language="python")
    st.code(command, language="bash")
