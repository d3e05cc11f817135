"""Where large weights are: maps of |W| of a matrix, and of word embeddings by the length of words (Compressing BERT, fig. 7).

The paper stacks the heads of a key matrix side by side; here a row is a neuron, so that heads lie one above the other.
"""

import re
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from analysis import theme
from analysis.weights.tables import type_name
from vp_core.ground.errors import VPError
from vp_core.weights.matrices import Matrix

CELLS = 400
"""Rows and columns of a map at most: larger matrices are averaged."""
TAIL = 0.999
"""Tokens longer than this share of all are in one row with the longest of them: a mean of one or two says little."""
_UNUSED = re.compile(r"\[unused\d+\]")
_MOST = 99.5
"""The percentile at which colours end, so that a few outliers do not make all the rest dark."""


def matrix_table(weight: Tensor, matrix: Matrix) -> pd.DataFrame:
    """One row a cell: its first `row` and `column` in the matrix (rows, columns), how many of each, and the `mean` of |w|.

    Cells never reach over the border of a head, unless a head is narrower than a cell has to be.
    """
    along_rows = matrix.type != "attention_output"
    high = _step(matrix.rows, matrix.head_width if along_rows else None)
    wide = _step(matrix.columns, None if along_rows else matrix.head_width)
    rows, columns = np.arange(0, matrix.rows, high), np.arange(0, matrix.columns, wide)
    heights, widths = np.diff([*rows, matrix.rows]), np.diff([*columns, matrix.columns])
    sums = np.add.reduceat(weight.detach().abs().double().numpy(), rows, axis=0)
    mean = np.add.reduceat(sums, columns, axis=1) / np.outer(heights, widths)
    return pd.DataFrame({
        "row": np.repeat(rows, len(columns)), "column": np.tile(columns, len(rows)),
        "rows": np.repeat(heights, len(columns)), "columns": np.tile(widths, len(rows)), "mean": mean.ravel(),
    })  # fmt: skip


def _step(n: int, head: int | None) -> int:
    """Rows (or columns) in a cell: few enough cells, and whole ones in a head if that can be."""
    least = -(-n // CELLS)
    return next((step for step in range(least, head + 1) if head % step == 0), least) if head else least


def draw_matrix(cells: pd.DataFrame, matrix: Matrix) -> go.Figure:
    """The map of a matrix, from a `matrix_table`, with lines between its heads."""
    where = "" if matrix.layer is None else f", layer {matrix.layer}"
    gate = " gate" if matrix.name.endswith(".gate") else ""
    averaged = f", {cells['rows'].max()} × {cells['columns'].max()} weights a cell" if len(cells) < matrix.size else ""
    title = f"|W| of the {type_name(matrix.type)}{gate}{where}{averaged}"
    figure = theme.figure(title, "input (column)", "output neuron (row)", 620)
    _map(figure, cells, "row", "column", "row %{y}, column %{x}")
    heads_along = "x" if matrix.type == "attention_output" else "y"
    if matrix.head_width:
        line = {"color": "white", "width": 1}
        for start in range(matrix.head_width, matrix.columns if heads_along == "x" else matrix.rows, matrix.head_width):
            (figure.add_vline if heads_along == "x" else figure.add_hline)(start - 0.5, line=line)
    return figure


def embedding_table(weight: Tensor, tokenizer: PreTrainedTokenizerBase) -> pd.DataFrame:
    """One row a length of tokens and a dimension: length and up_to in characters, how many `tokens`, dimension, `mean` of |w|.

    `weight` (vocabulary, d) are the word embeddings. What marks a word's beginning or its continuation is no character of it;
    special tokens and BERT's placeholders ([unused1]) are left out. The longest tokens (TAIL) are one row of several lengths.
    Raises VPError for a tokeniser with more tokens than there are embeddings.
    """
    lengths = token_lengths(tokenizer)
    if len(lengths) > len(weight):
        raise VPError(
            f"The tokeniser has {len(lengths):,} tokens, the word embeddings {len(weight):,} rows: take the model's own."
        )
    magnitudes = weight.detach()[: len(lengths)].abs().numpy()
    if not (lengths > 0).any():
        raise VPError("The tokeniser has no words but special tokens: take the model's own tokeniser.")
    last, parts = np.quantile(lengths[lengths > 0], TAIL, method="inverted_cdf"), []
    for length in np.unique(lengths[(lengths > 0) & (lengths <= last)]):
        where = lengths == length if length < last else lengths >= length
        row = {"length": length, "up_to": lengths[where].max(), "tokens": int(where.sum())}
        mean = magnitudes[where].mean(axis=0, dtype=np.float64)
        parts.append(pd.DataFrame({**row, "dimension": np.arange(len(mean)), "mean": mean}))
    return pd.concat(parts, ignore_index=True)


def token_lengths(tokenizer: PreTrainedTokenizerBase) -> np.ndarray:
    """Characters of every token by its id (tokens,); 0 for those that are no words."""
    special = set(tokenizer.all_special_ids)
    tokens = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    return np.array([
        0 if i in special or token is None or _UNUSED.fullmatch(token) else _characters(tokenizer, token)
        for i, token in enumerate(tokens)
    ])  # fmt: skip


def _characters(tokenizer: PreTrainedTokenizerBase, token: str) -> int:
    """How many characters of text a token stands for, as its tokeniser writes it; a mark alone counts as one."""
    text = tokenizer.convert_tokens_to_string([token]).strip()  # bytes as GPT-2 writes them become what they spell
    for mark in ("##", "▁", "Ġ"):
        text = text.removeprefix(mark)
    return max(len(text), 1)


def draw_embeddings(cells: pd.DataFrame) -> go.Figure:
    """The map of word embeddings, from an `embedding_table`: shorter tokens at the top, as in the paper."""
    rows = cells.drop_duplicates("length")
    counts = rows.set_index("length")["tokens"]
    title = f"|W| of the word embeddings, by length of the token ({counts.sum():,} tokens)"
    figure = theme.figure(title, "dimension", "characters of the token", 460)
    of = np.repeat(counts.to_numpy()[:, None], cells["dimension"].nunique(), axis=1)
    _map(figure, cells, "length", "dimension", "%{customdata:,} tokens of %{y} characters, dimension %{x}", customdata=of)
    shown = [f"{low} – {high}" if low < high else str(low) for low, high in zip(rows["length"], rows["up_to"], strict=True)]
    figure.update_yaxes(tickvals=counts.index.tolist(), ticktext=shown)
    return figure


def _map(figure: go.Figure, cells: pd.DataFrame, y: str, x: str, where: str, **more: Any) -> None:
    down, across = cells[y].unique(), cells[x].unique()
    z = cells["mean"].to_numpy(np.float32).reshape(len(down), len(across))
    figure.add_heatmap(
        z=z, x=across, y=down, zmin=0, zmax=float(np.percentile(z, _MOST)), colorscale=theme.SCALE,
        colorbar={"title": {"text": "mean |w|", "side": "right"}, "thickness": 12},
        hovertemplate=f"{where}: %{{z:.4f}}<extra></extra>", **more,
    )  # fmt: skip
    figure.update_yaxes(autorange="reversed", showgrid=False)
    figure.update_xaxes(showgrid=False)
