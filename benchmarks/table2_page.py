"""The tables of docs/speed.md on the paper's table 2, between their two marks, from docs/table2.json."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

PAGE = Path(__file__).parent.parent / "docs" / "speed.md"
MARKS = ("<!-- from table2.json -->\n", "<!-- to here -->\n")
PAPER = {1: (8.95, 1.92, 6.41, 2.45), 2: (9.22, 1.58, 7.85, 2.05), 3: (10.63, 1.3, 9.26, 1.6), 4: (None, None, 10.51, 1.42)}
"""Batch → (GB dense, iterations per second dense, GB pruned, iterations per second pruned) of the paper's table 2."""
FORMS = {"rows only": "rows only, as the paper", "squeezed": "the same rows, squeezed", "units": "units"}


def write(kept: Mapping[str, Sequence[dict]]) -> None:
    """Put what is kept in docs/table2.json between the marks; the rest of the page stays."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    lines = [*_sizes(kept["sizes"]), "", *(line for one in kept["measured"] for line in _measured(one))]
    PAGE.write_text(before + MARKS[0] + "\n".join(lines) + "\n" + MARKS[1] + after, encoding="utf-8")


def _sizes(sizes: Sequence[dict]) -> list[str]:
    lines = [
        "| form | parameters of the layers | of the whole model | GFLOPs of a text | weights, gradients, AdamW |",
        "|---|--:|--:|--:|--:|",
    ]
    for one in sizes:
        share = one["parameters_of_layers"] / sizes[0]["parameters_of_layers"]
        flops = one["gflops"] / sizes[0]["gflops"]
        lines.append(
            f"| {FORMS.get(one['form'], one['form'])} | {one['parameters_of_layers'] / 1e6:.1f} M ({share:.0%}) | "
            f"{one['parameters'] / 1e6:.1f} M | {one['gflops']:.0f} ({flops:.0%}) | {one['state_gigabytes']:.2f} GB |"
        )
    return lines


def _measured(table: dict) -> list[str]:
    """One hardware's: gigabytes, iterations per second and how many times those of dense, by batch and form."""
    lines = [
        f"**{table['hardware']}**, torch {table['torch']}:",
        "",
        "| batch | paper, dense | paper, 50 % pruned | dense |" + "".join(f" {name} |" for name in FORMS.values()),
        "|---|---|---|---|" + "---|" * len(FORMS),
    ]
    for row in table["rows"]:
        dense_gb, dense_speed, pruned_gb, pruned_speed = PAPER[row["batch"]]
        paper = "out of memory" if dense_gb is None else f"{dense_gb:.2f} GB, {dense_speed:.2f} it/s"
        gain = "" if dense_speed is None else f", {pruned_speed / dense_speed:.2f} ×"
        cells = [_cell(row.get("dense"), None), *(_cell(row.get(form), row["dense"]) for form in FORMS)]
        pruned = f"{pruned_gb:.2f} GB, {pruned_speed:.2f} it/s{gain}"
        lines.append(f"| {row['batch']} | {paper} | {pruned} |" + "".join(f" {cell} |" for cell in cells))
    return [*lines, ""]


def _cell(found: dict | None, dense: dict | None) -> str:
    if found is None:
        return "not measured"
    if math.isnan(found["it_per_second"]):
        return "out of memory"
    gain = found["it_per_second"] / dense["it_per_second"] if dense else float("nan")
    times = "" if math.isnan(gain) else f", {gain:.2f} ×"  # dense may not have come to its end
    return f"{found['gigabytes']:.2f} GB, {found['it_per_second']:.3f} it/s{times}"
