"""The last part of the page `Sub-layers`: score and map of finished runs of iterative identity pruning."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import streamlit as st

from analysis import identity
from analysis.names import metric_name, score_format
from app.web import components
from app.web.beside import TWINS
from app.web.choices import offer, panel, typed
from app.web.glossary import TERMS
from app.web.settings import Settings
from app.web.visitor import remember
from vp_core.ground.errors import VPError
from vp_core.ground.store import DEMO_DIR
from vp_core.study import Study
from vp_core.training.run_folder import read_log

SHIPPED = DEMO_DIR / "runs"
"""Logs of runs of the demo model that come with the package."""


@panel
def runs_panel(study: Study) -> None:
    """Runs of the demo that come with the package, or those of the folders that the visitor names."""
    st.markdown("##### What iterative pruning keeps", help=TERMS["runs"])
    settings = remember(run=typed("run").strip())
    try:
        logs = open_runs(settings.run, settings.model in TWINS)
        if not logs:
            st.caption("There is no run to show: `vp snip MODEL --task T --out DIR` makes one; type its folder here.")
            return
        _show_runs(logs, settings)
    except VPError as error:
        st.error(str(error), icon=":material/error:")


def open_runs(typed: str, demo: bool) -> dict[str, identity.Log]:
    """The logs of folders, separated by semicolons, by name; without any, of the demo, those that come with it.

    Raises VPError for a folder that holds no run.
    """
    folders = [Path(part.strip()).expanduser() for part in typed.split(";") if part.strip()]
    shipped = sorted(SHIPPED.glob("*.json")) if demo else []
    return identity.named([read_log(path) for path in folders or shipped])


def _show_runs(logs: Mapping[str, identity.Log], settings: Settings) -> None:
    shown, metric = identity.summary(logs), _metric(logs)
    drawn = identity.draw_score(logs)
    names = list(logs)
    components.figure("runs-score", components.still(drawn), "identity-pruning", 0)
    _show_summary(shown, metric)
    points, table, _ = st.columns([1, 1, 4])
    with points:
        components.csv_button("identity-pruning", lambda: identity.table(logs), "Iterations as CSV")
    with table:
        components.csv_button("identity-pruning-summary", lambda: shown, "Table as CSV")
    name = settings.run_shown if settings.run_shown in names else names[0]
    if len(names) > 1:
        offer("run_shown", names, name)
    components.figure("runs-map", components.still(identity.draw_map(logs[name])), "pruning-map", 0)
    components.csv_button("pruning-map", lambda: identity.map_table(logs[name]))


def _metric(logs: Mapping[str, identity.Log]) -> str:
    return next((row["metric"] for log in logs.values() for row in log["rows"]), "accuracy")


def _show_summary(summary: pd.DataFrame, metric: str) -> None:
    name, (scale, format_) = metric_name(metric), score_format(metric)
    score = st.column_config.NumberColumn(format=format_)
    titles = {f"{name} given": "given", "… of that model": "its score"} | {f"{name} at {at:.0%}": at for at in identity.AT}
    shares = {"within a point": "within a point", "pruned to": "pruned to"}
    order = ["run", f"{name} given", "within a point", "… of that model", *list(titles)[2:], "pruned to"]
    shown = pd.DataFrame({"run": summary["run"]})
    shown = shown.assign(**{title: scale * summary[column] for title, column in titles.items()})
    shown = shown.assign(**{title: 100 * summary[column] for title, column in shares.items()})
    config = {title: score for title in titles} | {
        "within a point": st.column_config.NumberColumn(format="%.1f %%", help=TERMS["pruned within a point"]),
        "pruned to": st.column_config.NumberColumn(format="%.1f %%"),
    }
    st.dataframe(shown[order], column_config=config, hide_index=True, height="content", key="runs-summary")
