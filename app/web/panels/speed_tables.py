"""The tables of the page `Speed`."""

import pandas as pd
import streamlit as st

from analysis.names import metric_name, score_text
from analysis.speed import SPARSE_NAMES
from app.web.glossary import TERMS
from app.web.settings import FIELDS


def show_speeds(table: pd.DataFrame, example: str = "text") -> None:
    """One row for each sparsity and form; `example`: what is given to the model one by one."""
    shown = pd.DataFrame(
        {
            "removed": 100 * table["sparsity"],
            "form": table["form"],
            "parameters": table["parameters"] / 1e6,
            "megabytes": table["megabytes"],
            "MFLOPs per token": table["mflops_per_token"],
            "latency": table["latency_ms"],
            "quartiles": _quartiles(table),
            f"{example}s/s": table["texts_per_second"],
            "speed-up": table["speedup"],
            "FLOP limit": table["flop_limit"],
        }
    )
    columns = {
        "removed": st.column_config.NumberColumn(format="%.0f %%", help=FIELDS["sparsities"].help),
        "form": st.column_config.TextColumn(help=TERMS["form"]),
        "parameters": _number("%.2f M", "parameters"),
        "megabytes": _number("%.1f MB", "megabytes"),
        "MFLOPs per token": _number("%.2f", "FLOPs per token"),
        "latency": _number("%.1f ms", "latency"),
        "quartiles": st.column_config.TextColumn(help=TERMS["quartiles"]),
        f"{example}s/s": _number("%.1f", "texts/s"),
        "speed-up": _number("%.2f ×", "speed-up"),
        "FLOP limit": _number("%.2f ×", "FLOP limit"),
    }
    st.dataframe(shown, column_config=columns, hide_index=True, height="content", key="speeds")


def show_precisions(table: pd.DataFrame, metric: str) -> None:
    """One row for each form and precision; scores come after the speeds."""
    name = metric_name(metric)
    shown = pd.DataFrame(
        {
            "form": table["form"],
            "precision": table["precision"],
            name: [_score(value, metric) for value in table["score"]],
            "95 % interval": [_span(_score(a, metric), _score(b, metric)) for a, b in table[["low", "high"]].to_numpy()],
            "megabytes": table["megabytes"],
            "latency": table["latency_ms"],
            "quartiles": _quartiles(table),
            "speed-up": table["speedup"],
        }
    )
    columns = {
        "form": st.column_config.TextColumn(help=TERMS["form"]),
        "precision": st.column_config.TextColumn(help=FIELDS["precision"].help),
        name: st.column_config.TextColumn(help=TERMS["precisions"]),
        "95 % interval": st.column_config.TextColumn(help=TERMS["interval"]),
        "megabytes": _number("%.1f MB", "megabytes"),
        "latency": _number("%.1f ms", "latency"),
        "quartiles": st.column_config.TextColumn(help=TERMS["quartiles"]),
        "speed-up": _number("%.2f ×", "bits speed-up"),
    }
    st.dataframe(shown, column_config=columns, hide_index=True, height="content", key="precisions")


def show_zeros(table: pd.DataFrame) -> None:
    """One row for each sparsity and form of a layer's linear maps."""
    shown = pd.DataFrame(
        {
            "removed": 100 * table["sparsity"],
            "form": table["form"].map(SPARSE_NAMES),
            "megabytes": table["megabytes"],
            "on disk": table["disk_megabytes"],
            "latency": table["latency_ms"],
            "quartiles": _quartiles(table),
            "speed-up": table["speedup"],
        }
    )
    columns = {
        "removed": st.column_config.NumberColumn(format="%.0f %%", help=FIELDS["sparsities"].help),
        "form": st.column_config.TextColumn(help=TERMS["single zeros"]),
        "megabytes": _number("%.2f MB", "megabytes"),
        "on disk": _number("%.2f MB", "on disk"),
        "latency": _number("%.2f ms", "latency"),
        "quartiles": st.column_config.TextColumn(help=TERMS["quartiles"]),
        "speed-up": _number("%.2f ×", "speed-up"),
    }
    st.dataframe(shown, column_config=columns, hide_index=True, height="content", key="single-zeros")


def _number(format_: str, term: str):
    return st.column_config.NumberColumn(format=format_, help=TERMS[term])


def _quartiles(table: pd.DataFrame) -> list[str]:
    return [_span(f"{low:.1f}", f"{high:.1f}") for low, high in table[["low_ms", "high_ms"]].to_numpy()]


def _span(low: str, high: str) -> str:
    return f"{low} to {high}" if low and high else ""


def _score(value: float, metric: str) -> str:
    return "" if pd.isna(value) else score_text(value, metric)
