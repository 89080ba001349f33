"""Geometry of the score chart: plain numbers, drawn as SVG by the HTML template."""

from collections.abc import Sequence
from typing import NamedTuple

from semcore.evaluation.metrics import CUTOFFS
from semcore.report.tables import ScoreRow

WIDTH, HEIGHT = 520, 240
_LEFT, _TOP, _BOTTOM = 40, 16, 32
_BAR, _GAP = 44, 6


class Bar(NamedTuple):
    """A bar in pixels from the top left corner; `low` and `high` are the ends of its whisker."""

    stage: str
    label: str
    x: float
    y: float
    width: float
    height: float
    low: float
    high: float


class Group(NamedTuple):
    """The bars of one cutoff; `ceiling` is the height of the dashed line, None where it is unknown."""

    name: str
    left: float
    right: float
    bars: list[Bar]
    ceiling: float | None


def score_chart(table: Sequence[ScoreRow]) -> list[Group]:
    """Place one group of bars per cutoff, with a bar for each row of `table` that has intervals."""
    rows = [row for row in table if row.intervals]
    ceilings = {column: value for row in table if row.name == "ceiling" for column, value in row.scores.items()}
    span = (WIDTH - _LEFT) / len(CUTOFFS)
    groups = []
    for number, cutoff in enumerate(CUTOFFS):
        column = f"R@{cutoff}"
        start = _LEFT + number * span + (span - len(rows) * (_BAR + _GAP) + _GAP) / 2
        bars = [_bar(row, column, start + i * (_BAR + _GAP)) for i, row in enumerate(rows)]
        ceiling = height_of(ceilings[column]) if column in ceilings else None
        groups.append(Group(column, start, start + len(rows) * (_BAR + _GAP) - _GAP, bars, ceiling))
    return groups


def height_of(percent: float) -> float:
    """Return the vertical position of a percentage, in pixels from the top."""
    return round(_TOP + (HEIGHT - _TOP - _BOTTOM) * (1 - percent / 100), 1)


def _bar(row: ScoreRow, column: str, x: float) -> Bar:
    score, interval = row.scores[column], row.intervals[column]
    top = height_of(score)
    height = round(height_of(0) - top, 1)
    label = f"{score:.1f}"
    return Bar(row.name, label, round(x, 1), top, _BAR, height, height_of(interval.low), height_of(interval.high))
