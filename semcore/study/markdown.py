"""Markdown report of a study: tables of scores and differences, with sentences, from study.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from semcore.data.directions import Direction
from semcore.runtime.markdown_tables import markdown_table

SHOWN = ("R@1", "R@5", "R@10")
SIGNIFICANT = 0.05


def render_study(study: Mapping[str, Any]) -> str:
    """Return study.md: each of the study's tables, with sentences on the order of its rows."""
    blocks = [f"# {study['title']}", _introduction(study), study["note"]]
    for number, table in enumerate(study["tables"]):
        blocks += [f"## {table['title']}", table_of_variants(study, table), _plot(study, number, table["title"])]
        blocks += ["\n".join(table["statements"])]
    return "\n\n".join(block for block in blocks if block) + "\n"


def table_of_variants(study: Mapping[str, Any], table: Mapping[str, Any]) -> str:
    """Return a table's rows in markdown: score, and difference from the reference with its 95 % interval."""
    by_name = {row["name"]: row for row in study["variants"]}
    rows = [by_name[name] for name in table["variants"]]
    with_paper = any(row["paper"] for row in rows)
    header = ["", *(["paper"] if with_paper else [])]
    columns = [(direction, metric) for direction in _directions(study) for metric in SHOWN]
    header += [f"{direction.label} {metric}" for direction, metric in columns]
    lines = []
    for row in rows:
        paper = [" / ".join(f"{score:.1f}" for score in row["paper"].values()) or "–"] if with_paper else []
        cells = [_cell(row, study["reference"], *column) for column in columns]
        lines.append([_label(row, by_name[study["reference"]]), *paper, *cells])
    return markdown_table(header, lines, num_texts=1)


def state_order(order: Mapping[str, Any], labels: Mapping[str, str]) -> str:
    """State whether variants are in the paper's order."""

    def listed(names: Sequence[str]) -> str:
        return " > ".join(labels[name] for name in names)

    agrees = _agrees(order["agrees"], order["reversed_beyond_chance"])
    text = (
        f"- {_where(order)}: the order {agrees} the paper's. "
        f"Here {listed(order['ours'])}; paper {listed(order['paper'])}. {order['num_alike']} of "
        f"{order['num_pairs']} pairs stand alike (Kendall's tau {order['kendall_tau']:.2f})"
    )
    if order["reversed"]:
        text += f"; of the others {len(order['reversed_beyond_chance'])} beyond chance"
        reversed_pairs = [
            f"{labels[worse]} above {labels[better]}" for better, worse in order["reversed_beyond_chance"]
        ]
        text += f" ({', '.join(reversed_pairs)})" if reversed_pairs else ""
    return text + "."


def state_axis(order: Mapping[str, Any]) -> str:
    """State whether the score rises with a setting."""
    values, falls = order["values"], order["falls_beyond_chance"]
    how = "never falls" if order["monotone"] else f"falls somewhere ({len(falls)} steps down beyond chance)"
    return f"- {_where(order)}: {how} from {order['axis']} {values[0]} to {values[-1]}; {order['gain']:+.1f} in all."


def state_grid(order: Mapping[str, Any]) -> str:
    """State the best point of a grid, and the range over its axis."""
    x, y = order["best"]
    text = f"- {_where(order)}: best are {order['axis']} {x} and {order['lines']} {y}"
    if order["num_best"] > 1:
        text += f" and {order['num_best'] - 1} more that are as good"
    if order["reference_is_best"]:
        text += ", the reference's"
    elif order["reference"] is not None:
        chance = "beyond" if order["best_beyond_chance"] else "within"
        text += f" ({chance} chance of the reference's {order['reference'][0]} and {order['reference'][1]})"
    spread = ", ".join(f"{points:.1f} with {line}" for line, points in order["spread"].items())
    return f"{text}. Range over {order['axis']} by {order['lines']}: {spread}." if spread else f"{text}."


def _directions(study: Mapping[str, Any]) -> list[Direction]:
    return [direction for direction in Direction if direction in study["num_queries"]]


def _where(order: Mapping[str, Any]) -> str:
    return f"{Direction(order['direction']).label}, {order['metric']}"


def _label(row: Mapping[str, Any], reference: Mapping[str, Any]) -> str:
    """Return a row's label, with its ranking where that differs from the reference's."""
    return row["label"] if row["ranking"] == reference["ranking"] else f"{row['label']} ({row['ranking']})"


def _cell(row: Mapping[str, Any], reference: str, direction: str, metric: str) -> str:
    score = row[direction][metric]
    difference = score["difference"]
    if row["name"] == reference:
        return f"{score['mean']:.1f} [{score['low']:.1f}, {score['high']:.1f}]"
    star = "\\*" if difference["p_value"] < SIGNIFICANT else ""
    interval = f"[{difference['low']:+.1f}, {difference['high']:+.1f}]"
    return f"{score['mean']:.1f} ({difference['mean']:+.1f}{star} {interval})"


def _introduction(study: Mapping[str, Any]) -> str:
    counts = study["num_queries"]
    queries = ", ".join(f"{counts[direction]} {direction.label}" for direction in _directions(study))
    reference = next(row["label"] for row in study["variants"] if row["name"] == study["reference"])
    return (
        f"Seeds {', '.join(map(str, study['seeds']))}; queries of all seeds pooled: {queries}; "
        f"{study['seconds'] / 60:.0f} minutes of stages in all. Recalls in percent; in brackets, points from "
        f"{reference} on the same queries with the 95 % interval of a paired bootstrap over images (its own row: of "
        f"its score); \\* p < {SIGNIFICANT} in a paired randomisation test, not corrected for the number of rows."
    )


def _plot(study: Mapping[str, Any], number: int, title: str) -> str:
    plot = study.get("plots", {}).get(str(number))
    return f"![{title}]({plot})" if plot else ""


def _agrees(agrees: bool, beyond_chance: Sequence[Any]) -> str:
    """State how far an order agrees with the paper's; differences within chance are no contradiction."""
    if agrees:
        return "agrees with"
    return "does not agree with" if beyond_chance else "agrees within chance with"
