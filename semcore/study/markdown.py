"""Markdown report of a study: tables of scores and differences, with sentences, from study.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from semcore.data.directions import Direction
from semcore.runtime.markdown_tables import markdown_table

SHOWN = ("R@1", "R@5", "R@10")
SIGNIFICANT = 0.05


def render_study(study: Mapping[str, Any]) -> str:
    """Return study.md: each of the study's tables, with sentences on the order of its rows."""
    blocks = [f"# {study['title']}", _introduction(study), study["note"]]
    for number, table in enumerate(study["tables"]):
        blocks += [f"## {table['title']}", _ranked_by(table), table_of_variants(study, table)]
        blocks += [table_of_costs(study, table)] if "costs" in table else []
        blocks += [_plot(study, number, table["title"]), "\n".join(table["statements"])]
    return "\n\n".join(block for block in blocks if block) + "\n"


def rows_of(study: Mapping[str, Any], table: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a table's rows, with the scores of the table's own ranking where it has one."""
    by_name = {row["name"]: row for row in study["variants"]}
    less = {} if table.get("paper", True) else {"paper": {}, "paper_protocol": ""}
    return [{**by_name[name], **less, **table.get("scores", {}).get(name, {})} for name in table["variants"]]


def table_of_variants(study: Mapping[str, Any], table: Mapping[str, Any]) -> str:
    """Return a table's rows in markdown: score, and difference from the reference with its 95 % interval."""
    rows = rows_of(study, table)
    reference = next(row for row in study["variants"] if row["name"] == study["reference"])
    with_paper = any(row["paper"] for row in rows)
    header = ["", *(["paper"] if with_paper else [])]
    columns = [(direction, metric) for direction in _directions(study) for metric in SHOWN]
    header += [f"{direction.label} {metric}" for direction, metric in columns]
    lines = []
    for row in rows:
        paper = [" / ".join(f"{score:.1f}" for score in row["paper"].values()) or "–"] if with_paper else []
        cells = [_cell(row, study["reference"], *column) for column in columns]
        label = row["label"] if table.get("ranking") else _label(row, reference)
        lines.append([label, *paper, *cells])
    return markdown_table(header, lines, num_texts=1)


def table_of_costs(study: Mapping[str, Any], table: Mapping[str, Any]) -> str:
    """Return what a table's rows take in markdown: identifiers, R@1 by items and as papers count, seconds, bytes."""
    directions = _directions(study)
    with_paper = table.get("paper", True)
    header = ["", "protocol", *(["the paper's R@1"] if with_paper else []), "training, s", "verification, s a query"]
    for direction in directions:
        header += [f"{direction.label}: {cells}" for cells in ("R@1 / as they count / verified", "s a query")]
        header += [f"{direction.label}: shared % / tokens / bytes"]
    lines = []
    for row in rows_of(study, table):
        costs = table["costs"][row["name"]]
        paper = f"{row['paper']['R@1']:.1f}" if "R@1" in row["paper"] else "–"
        paper += f", {row['paper_protocol']}" if row["paper_protocol"] else ""
        cells = [costs["protocol"], *([paper] if with_paper else []), f"{costs['training_seconds']:.0f}"]
        cells.append(f"{costs['verification_seconds']:.3f}")
        lines.append([row["label"], *cells, *(cell for own in directions for cell in _costs(costs[own]))])
    return markdown_table(header, lines, num_texts=2 + with_paper)


def _directions(study: Mapping[str, Any]) -> list[Direction]:
    return [direction for direction in Direction if direction in study["num_queries"]]


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


def _costs(own: Mapping[str, Any]) -> list[str]:
    verified = "–" if own["verified"] is None else f"{own['verified']:.1f}"
    return [
        f"{own['R@1']:.1f} / {own['as they count']:.1f} / {verified}",
        f"{own['generation_seconds']:.3f}",
        f"{own['shared']:.1f} / {own['tokens']:.1f} / {own['index_bytes']:.0f}",
    ]


def _ranked_by(table: Mapping[str, Any]) -> str:
    sentences = {
        "generated": "All rows are scored by the generator's order.",
        "verified": "All rows are scored after verification.",
        "unverified": "All rows are scored by the generator's order, an arbitrary suffix telling apart what is shared.",
    }
    return sentences[table["ranking"]] if table.get("ranking") else ""


def _plot(study: Mapping[str, Any], number: int, title: str) -> str:
    plot = study.get("plots", {}).get(str(number))
    return f"![{title}]({plot})" if plot else ""
