"""A study's plots: recalls over beams, and over clusters and keywords."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from semcore.files import write_bytes
from semcore.study.writing import DIRECTIONS

METRICS = ("R@1", "R@5")
PLOTS = {"beams": "ablations-beams.png", "grid": "ablations-grid.png"}


def can_draw() -> bool:
    """Tell whether matplotlib is installed."""
    return find_spec("matplotlib") is not None


def draw_beams(path: Path, rows: Mapping[int, Mapping[str, Any]]) -> None:
    """Draw R@1 and R@5 over the width of the beam, with 95 % intervals.

    Args:
        path: the picture.
        rows: beams -> the variant's row of ablations.json.
    """
    widths = sorted(rows)
    lines = {
        direction: {metric: {width: rows[width][direction][metric] for width in widths} for metric in METRICS}
        for direction in DIRECTIONS
    }
    _draw(path, lines, "beams", widths)


def draw_grid(path: Path, rows: Mapping[tuple[int, int], Mapping[str, Any]], metric: str = "R@1") -> None:
    """Draw a recall over the number of clusters, a line a number of keywords, with 95 % intervals.

    Args:
        path: the picture.
        rows: (clusters, keywords) -> the variant's row of ablations.json.
        metric: which recall.
    """
    clusters, keywords = (sorted({point[axis] for point in rows}) for axis in (0, 1))
    lines = {
        direction: {
            f"{metric}, {k} keywords": {c: rows[c, k][direction][metric] for c in clusters if (c, k) in rows}
            for k in keywords
        }
        for direction in DIRECTIONS
    }
    _draw(path, lines, "clusters", clusters)


def _draw(
    path: Path, lines: Mapping[str, Mapping[str, Mapping[int, Mapping[str, float]]]], name: str, ticks: Sequence[int]
) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.2), layout="constrained")
    for axes, (direction, own) in zip(figure.subplots(1, len(lines)), lines.items(), strict=True):
        for number, (label, scores) in enumerate(own.items()):
            means = [score["mean"] for score in scores.values()]
            ends = [[m - s["low"] for m, s in zip(means, scores.values(), strict=True)]]
            ends.append([s["high"] - m for m, s in zip(means, scores.values(), strict=True)])
            places = [ticks.index(tick) + 0.06 * number for tick in scores]
            axes.errorbar(places, means, yerr=ends, marker="o", capsize=3, label=label)
        axes.set(
            title=DIRECTIONS[direction], xlabel=name, ylabel="percent", xticks=range(len(ticks)), xticklabels=ticks
        )
        axes.grid(axis="y", alpha=0.3)
        axes.legend(fontsize="small")
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    write_bytes(path, picture.getvalue())
