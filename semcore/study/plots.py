"""Plots of a study's tables that have an axis: recall over a setting, with a line per metric or second setting."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from semcore.data.directions import Direction
from semcore.runtime.files import write_bytes
from semcore.study.markdown import rows_of

METRICS = ("R@1", "R@5")
Scores = Mapping[float, Mapping[str, float]]


def can_draw() -> bool:
    """Return whether matplotlib is installed."""
    return find_spec("matplotlib") is not None


def draw_tables(out: Path, study: Mapping[str, Any]) -> dict[str, str]:
    """Draw every table that has an axis; return table number -> file name."""
    drawn = {}
    for number, table in enumerate(study["tables"]):
        if table["axis"]:
            name = f"study-{number}.png"
            draw(out / name, lines_of(rows_of(study, table), table), table["axis"])
            drawn[str(number)] = name
    return drawn


def lines_of(
    rows: Sequence[Mapping[str, Any]], table: Mapping[str, Any]
) -> dict[Direction, dict[str, dict[float, Any]]]:
    """Return direction -> line -> value on the axis -> score with its interval."""
    x = table["numbers"][table["axis"]]
    y = table["numbers"].get(table["lines"], {})
    measured = [direction for direction in Direction if all(direction in row for row in rows)]
    lines: dict[Direction, dict[str, dict[float, Any]]] = {direction: {} for direction in measured}
    for row in sorted((row for row in rows if row["name"] in x), key=lambda row: x[row["name"]]):
        for direction in measured:
            for metric in METRICS[:1] if y else METRICS:
                label = f"{metric}, {table['lines']} {y[row['name']]}" if y else metric
                lines[direction].setdefault(label, {})[x[row["name"]]] = row[direction][metric]
    return lines


def draw(path: Path, lines: Mapping[Direction, Mapping[str, Scores]], axis: str) -> None:
    """Draw recalls with 95 % intervals, one panel per direction."""
    from matplotlib.figure import Figure

    ticks = sorted({tick for own in lines.values() for scores in own.values() for tick in scores})
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    for axes, (direction, own) in zip(figure.subplots(1, len(lines), squeeze=False)[0], lines.items(), strict=True):
        for number, (label, scores) in enumerate(own.items()):
            means = [score["mean"] for score in scores.values()]
            ends = [[m - s["low"] for m, s in zip(means, scores.values(), strict=True)]]
            ends.append([s["high"] - m for m, s in zip(means, scores.values(), strict=True)])
            places = [ticks.index(tick) + 0.06 * number for tick in scores]
            axes.errorbar(places, means, yerr=ends, marker="o", capsize=3, label=label)
        axes.set(title=direction.label, xlabel=axis, ylabel="percent", xticks=range(len(ticks)))
        axes.set_xticklabels([str(tick) for tick in ticks])
        axes.grid(axis="y", alpha=0.3)
        axes.legend(fontsize="small")
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    write_bytes(path, picture.getvalue())
