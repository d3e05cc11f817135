"""One run of the page `Training`: how far it is, and its lines and its film as they come."""

from collections.abc import Mapping
from typing import Any

import streamlit as st

from analysis import training
from analysis.names import difference_text, metric_name, score_text
from app.web import caching, components
from app.web.glossary import TERMS
from app.web.jobs import Job
from app.web.trainings import Log
from vp_core.running.run import Row
from vp_core.study import Study


def show_progress(study: Study, name: str, rows: list[Row], job: Job[Row] | None) -> None:
    """In one line: how far a run is, or what it came to."""
    last: Mapping[str, Any] = rows[-1] if rows else {}
    if job is not None and not job.done:
        said = job.stages.now or "beginning"
        stopping = "stopping after this step · " if caching.trainings().stopping() else ""
        done = last.get("step", 0) / max(last.get("steps", 1), 1)
        st.progress(min(done, 1.0), stopping + (_so_far(rows) if len(rows) > 1 else f"{said} …"))
    elif job is not None and job.error:
        st.error(job.error, icon=":material/error:")
    elif last.get("done"):
        st.markdown(_found(rows))
    elif last:
        st.markdown(f"Stopped after step {last['step']:,} of {last['steps']:,}; it goes on from what was kept of it.")
    else:
        st.markdown("Stopped before its first step.")


def _so_far(rows: list[Row]) -> str:
    last = rows[-1]
    parts = [f"step {last['step']:,} of {last['steps']:,}"]
    if last["step"]:
        left = (last["steps"] - last["step"]) * (last["seconds"] - rows[0]["seconds"]) / last["step"]
        parts.append(f"about {left:.0f} s left")
    parts += [f"loss {row['loss']:.3f}" for row in _last_with("loss", rows)]
    parts += [f"{row['sparsity']:.0%} gone" for row in _last_with("sparsity", rows)]
    parts += [f"{metric_name(row['metric'])} {score_text(row['value'], row['metric'])}" for row in _last_with("metric", rows)]
    return " · ".join(parts)


def _last_with(key: str, rows: list[Row]) -> list[Row]:
    return [row for row in reversed(rows) if key in row][:1]


def _found(rows: list[Row]) -> str:
    first, last = rows[0], rows[-1]
    metric = last["metric"]
    change = difference_text(last["value"] - first["value"], metric)
    before, now = score_text(first["value"], metric), score_text(last["value"], metric)
    parts = [f"{metric_name(metric)} **{now}**, {change} against {before} before"]
    if "share_pruned" in last:
        parts.append(f"**{last['share_pruned']:.1%}** of the encoder's linear parameters gone")
    parts.append(f"{last['steps']:,} steps in {last['seconds']:.0f} s")
    return " · ".join(parts)


def show_figures(name: str, runs: Mapping[str, list[Row]], log: Log) -> None:
    """Lines of the runs that are compared, and the film of the one that is shown."""
    left, right = st.columns([7, 6], gap="large")
    with left:
        components.figure("training-lines", components.still(training.draw(runs)), "training", 0)
    with right:
        what = training.what_goes(log["settings"].get("method", "variance"))
        film = training.draw_film(training.film_table(runs[name]), what)
        components.figure("training-film", components.still(film), "training-film", 0)
        st.caption("What has gone of each matrix, after each cut.", help=TERMS["film"])
