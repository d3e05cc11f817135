"""The runs of the page `Training`: the one that is shown, which are compared with it, and what to do with it."""

import pandas as pd
import streamlit as st

from analysis import training
from analysis.names import metric_name, score_format
from app.web import caching, components, trainings
from app.web.choices import offer, panel
from app.web.glossary import TERMS
from app.web.jobs import Job
from app.web.panels.score_view import FIRST_LOOK
from app.web.panels.training.start import begin
from app.web.panels.training.watch import show_figures, show_progress
from app.web.settings import Settings
from app.web.trainings import Log
from app.web.visitor import remember, visitor
from vp_core.ground.errors import VPError
from vp_core.running.run import Row
from vp_core.study import Study

_POLL_MS = 700
_OF_THE_QUESTION = ("task", "data", "text", "label", "labels", "separator", "max_length", "calibration")


@panel
def runs_panel(study: Study) -> None:
    """The run that is shown as it goes on, those it is compared with, and a table of all."""
    me = visitor()
    logs = logs_of(study)
    if not logs:
        st.caption("There is no run of this task yet: the button above begins one.")
        return
    name = shown_of(me.settings, logs)
    job = caching.trainings().job(name)
    if job is not None:
        job.wait(len(job.items), 0 if job.done else FIRST_LOOK)
    rows = rows_of(name, logs)
    pick, compared = st.columns([1, 1], gap="large")
    with pick:
        offer("training", list(logs), name)
    with compared:
        if len(logs) > 1:
            offer("compared", [one for one in logs if one != name])
    with st.container(key="training-run"):
        line, *buttons = st.columns([8, 1.3, 1.7, 1.2], vertical_alignment="center")
        with line:
            show_progress(study, name, rows, job)
        with buttons[0]:
            _stop_or_go_on(name, rows, job)
        with buttons[1]:
            _open_button(name)
        with buttons[2]:
            if st.button("Remove", width="stretch", disabled=name == caching.trainings().running(), help=TERMS["remove"]):
                caching.trainings().remove(name)
                remember(training="", compared=tuple(one for one in me.settings.compared if one != name))
                st.rerun()
    lines = [name, *(one for one in me.settings.compared if one in logs and one != name)]
    show_figures(name, {one: rows_of(one, logs) for one in logs if one in lines}, logs[name])
    _show_table(logs)
    poll = "" if job is None else components.ticket(job)
    components.poller("training-poll", poll, _POLL_MS)
    ended, me.under_way = bool(me.under_way) and not poll, name if poll else ""
    if ended:
        st.rerun()  # the button above can start the next


def logs_of(study: Study) -> dict[str, Log]:
    """The records of the task's runs; of one that has none yet, or failed before it had, an empty one."""
    task, here = study.question.task.name, caching.trainings()
    found, name = trainings.logs(task), here.running() or here.failed()
    begun = trainings.begun_with(name) if name and name not in found else None
    if begun is not None and begun.task == visitor().settings.task:
        found[name] = {"settings": {"method": begun.method, "until": begun.until}, "rows": []}
    return found


def shown_of(settings: Settings, logs: dict[str, Log]) -> str:
    """The run that is shown: the chosen one, the one under way, or the last that was begun."""
    running = caching.trainings().running()
    return settings.training if settings.training in logs else running if running in logs else list(logs)[-1]


def rows_of(name: str, logs: dict[str, Log]) -> list[Row]:
    """A run's rows so far."""
    job = caching.trainings().job(name)
    rows: list[Row] = list(job.items) if job is not None and not job.done else list(logs[name]["rows"])
    return rows


def _stop_or_go_on(name: str, rows: list[Row], job: Job[Row] | None) -> None:
    if job is not None and not job.done:
        here = caching.trainings()
        st.button("Stop", width="stretch", disabled=here.stopping(), on_click=here.stop, args=(name,))
        return
    begun = trainings.begun_with(name)
    if (rows and rows[-1].get("done")) or begun is None:
        return
    if st.button("Go on", width="stretch", disabled=bool(caching.trainings().running())):
        try:
            begin(name, begun)
        except VPError as error:
            st.error(str(error), icon=":material/error:")


def _open_button(name: str) -> None:
    """The model that came of a run becomes the model in hand, with the task of the run."""
    model, begun = trainings.result(name), trainings.begun_with(name)
    if model is None:
        return
    if st.button("Open on Explore", width="stretch", type="primary", help=TERMS["open result"]):
        same = {} if begun is None else {one: getattr(begun, one) for one in _OF_THE_QUESTION}
        remember(model=str(model), **same)
        st.switch_page("views/explore.py")


def _show_table(logs: dict[str, Log]) -> None:
    """All runs with their settings and what they came to."""
    found = training.summary({name: {**log, "rows": rows_of(name, logs)} for name, log in logs.items()})
    scale, format_ = score_format(found["metric"].iloc[0])
    metric = metric_name(found["metric"].iloc[0])
    steps = [f"{done:,} of {of:,.0f}" if of else "" for done, of in zip(found["step"], found["steps"].fillna(0), strict=True)]
    shown = pd.DataFrame({"run": found["run"], "method": found["method"], "to be gone": 100 * found["until"]})
    shown = shown.assign(teacher=found["teacher"], steps=steps, rate=found["lr"], seed=found["seed"])
    shown = shown.assign(before=scale * found["before"], score=scale * found["score"], gone=100 * found["share"])
    shown = shown.assign(seconds=found["seconds"])
    config = {
        "run": st.column_config.TextColumn(width=180),
        "steps": st.column_config.TextColumn(width=90),
        "method": st.column_config.TextColumn(width=90),
        "to be gone": st.column_config.NumberColumn(format="%.0f %%"),
        "rate": st.column_config.NumberColumn("rate", format="%.1e"),
        "before": st.column_config.NumberColumn(f"{metric} before", format=format_),
        "score": st.column_config.NumberColumn(f"{metric} last", format=format_),
        "gone": st.column_config.NumberColumn("weights gone", format="%.1f %%", help=TERMS["would go"]),
        "seconds": st.column_config.NumberColumn(format="%.0f s"),
    }
    st.markdown("##### Runs", help=TERMS["training runs"])
    st.dataframe(shown, column_config=config, hide_index=True, height="content", key="training-runs")


def take_away(study: Study) -> None:
    """Tables to take away. No part of the fragment that polls: each poll would renew the buttons."""
    logs = logs_of(study)
    if not logs:
        return
    name = shown_of(visitor().settings, logs)
    task = study.question.task.name
    steps, film, runs, _ = st.columns([1, 1, 1, 4])
    with steps:
        components.csv_button(
            "training",
            lambda: training.table({name: log["rows"] for name, log in trainings.logs(task).items()}),
            "Steps as CSV",
        )
    with film:
        components.csv_button("training-film", lambda: training.film_table(trainings.logs(task)[name]["rows"]), "Film as CSV")
    with runs:
        components.csv_button("training-runs", lambda: training.summary(trainings.logs(task)), "Runs as CSV")
