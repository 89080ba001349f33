"""Geometry of small plots: lines and bars as plain numbers, drawn as SVG by the HTML template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log10
from typing import NamedTuple

WIDTH, HEIGHT = 360, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 14, 44
_STYLES = ("first", "second", "third")

Points = Sequence[tuple[float, float]]


class Tick(NamedTuple):
    """A mark on an axis: its place in pixels, and what stands there."""

    place: float
    label: str


class Line(NamedTuple):
    """A line as SVG's `points`; `dots` are its points in pixels, `style` its class."""

    name: str
    style: str
    points: str
    dots: list[tuple[float, float]]


class Bar(NamedTuple):
    """A bar in pixels from the top left corner."""

    x: float
    y: float
    width: float
    height: float


class Plot(NamedTuple):
    """A whole plot; `diagonal` has the ends of a dashed line, None without one."""

    title: str
    x_label: str
    y_label: str
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    lines: list[Line]
    bars: list[Bar]
    diagonal: tuple[float, float, float, float] | None


class Axis(NamedTuple):
    """The range of an axis, logarithmic or not, and its ticks as value -> label."""

    low: float
    high: float
    ticks: Mapping[float, str]
    logarithmic: bool = False

    def share(self, value: float) -> float:
        """Return how far along the axis a value is, 0 to 1."""
        low, high = (log10(end) if self.logarithmic else end for end in (self.low, self.high))
        here = log10(value) if self.logarithmic else value
        return min(max((here - low) / (high - low), 0.0), 1.0)


PERCENT = Axis(0, 100, {0: "0", 25: "25", 50: "50", 75: "75", 100: "100"})
SHARE = Axis(0, 1, {0: "0", 0.25: "0.25", 0.5: "0.5", 0.75: "0.75", 1: "1"})


def line_plot(
    title: str,
    lines: Mapping[str, Points],
    *,
    x: Axis,
    y: Axis,
    x_label: str,
    y_label: str,
    diagonal: bool = False,
) -> Plot:
    """Place lines, three at most.

    Args:
        title: of the plot.
        lines: name -> its points, from left to right.
        x: the horizontal axis.
        y: the vertical axis.
        x_label: what the horizontal axis is.
        y_label: what the vertical axis is.
        diagonal: draw a dashed line from the lowest corner to the highest.
    """
    ends = (_across(x, x.low), _up(y, y.low), _across(x, x.high), _up(y, y.high)) if diagonal else None
    drawn = [_line(name, style, points, x, y) for (name, points), style in zip(lines.items(), _STYLES, strict=False)]
    return Plot(title, x_label, y_label, _x_ticks(x), _y_ticks(y), drawn, [], ends)


def bar_plot(title: str, values: Mapping[str, float], *, y: Axis, x_label: str, y_label: str) -> Plot:
    """Place one bar a value, side by side; where they are many, not every one is named.

    Args:
        title: of the plot.
        values: name -> the height of its bar.
        y: the vertical axis, from 0.
        x_label: what the bars are.
        y_label: what the vertical axis is.
    """
    span = (WIDTH - _LEFT - _RIGHT) / max(len(values), 1)
    every = max(1, -(-len(values) // 12))
    bars, ticks = [], []
    for number, (name, value) in enumerate(values.items()):
        left, top = _LEFT + number * span, _up(y, value)
        bars.append(Bar(round(left + 0.1 * span, 1), top, round(0.8 * span, 1), round(_up(y, y.low) - top, 1)))
        if number % every == 0:
            ticks.append(Tick(round(left + span / 2, 1), name))
    return Plot(title, x_label, y_label, ticks, _y_ticks(y), [], bars, None)


def round_axis(highest: float) -> Axis:
    """Return an axis from 0 to a round number that is no less than the highest value.

    >>> round_axis(37).ticks
    {0.0: '0', 25.0: '25', 50.0: '50'}
    """
    unit = 10.0 ** int(log10(highest)) if highest >= 1 else 10.0 ** -(-int(log10(highest)) + 1) if highest > 0 else 1.0
    top = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= highest)
    return Axis(0, top, {value: f"{value:g}" for value in (0.0, top / 2, top)})


def _line(name: str, style: str, points: Points, x: Axis, y: Axis) -> Line:
    dots = [(_across(x, own), _up(y, value)) for own, value in points]
    return Line(name, style, " ".join(f"{across},{up}" for across, up in dots), dots)


def _x_ticks(axis: Axis) -> list[Tick]:
    return [Tick(_across(axis, value), label) for value, label in axis.ticks.items()]


def _y_ticks(axis: Axis) -> list[Tick]:
    return [Tick(_up(axis, value), label) for value, label in axis.ticks.items()]


def _across(axis: Axis, value: float) -> float:
    return round(_LEFT + (WIDTH - _LEFT - _RIGHT) * axis.share(value), 1)


def _up(axis: Axis, value: float) -> float:
    return round(_TOP + (HEIGHT - _TOP - _BOTTOM) * (1 - axis.share(value)), 1)
