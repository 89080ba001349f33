"""Sections on the search: prefix retention, exhaustive search beside the beam, and its cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from semcore.report.plots import PERCENT, Axis, line_plot, round_axis
from semcore.report.rendering import memory
from semcore.report.sections import Section, Table, percent, plural


def retention_section(figures: Mapping[str, Any]) -> Section:
    """Return at which depth the beams lose what is relevant.

    Args:
        figures: "prefix_retention" of metrics.json for one direction.
    """
    depths = figures["by_depth"]
    lost = ", ".join(f"{percent(share)} % at {_word(word)}" for word, share in figures["lost_at_word"].items())
    sentences = [
        f"Of {plural(figures['num_queries'], 'query')} drawn at random, searched with "
        f"{plural(figures['num_beams'], 'beam')}, the share whose right identifier is still among the beams after so "
        "many tokens.",
        f"{percent(figures['found'])} % are found. {percent(figures['outranked'])} % are kept to the end and outranked "
        f"by as many others as there are beams; lost before that: {lost or 'none'}.",
    ]
    table = Table(
        ("depth, tokens", *(str(row["depth"]) for row in depths)),
        [["retained, %", *(percent(row["retained"]) for row in depths)]],
    )
    ticks = {float(row["depth"]): str(row["depth"]) for row in depths}
    plot = line_plot(
        "Prefix retention by depth",
        {"right identifier": [(row["depth"], row["retained"]) for row in depths]},
        x=Axis(0, max(ticks), ticks),
        y=PERCENT,
        x_label="depth, tokens",
        y_label="retained, %",
    )
    return Section("Prefix retention", sentences, [table], [plot])


def _word(word: str) -> str:
    return {"cluster": "the cluster", "end": "the end"}.get(word, word)


def exhaustive_section(figures: Mapping[str, Any]) -> Section:
    """Return the recalls of an exhaustive search beside those of the beams.

    Args:
        figures: "exhaustive" of metrics.json for one direction.
    """
    columns = list(figures["beam"])
    beams = plural(figures["num_beams"], "beam")
    rows = [
        ["exhaustive", *(percent(figures["exhaustive"][column]) for column in columns)],
        [beams, *(percent(figures["beam"][column]) for column in columns)],
    ]
    sentences = [
        f"{plural(figures['num_queries'], 'query')}, drawn at random, with every one of "
        f"{plural(figures['num_identifiers'], 'identifier')} scored exactly, beside the beam search. Both have the "
        f"same first item for {percent(figures['same_first'])} %.",
        "Search errors, right items that the exhaustive search has among the first ten and the beams have not: "
        f"{percent(figures['search_errors'])} %. Model errors, where neither has them: "
        f"{percent(figures['model_errors'])} %.",
    ]
    return Section("Exhaustive search", sentences, [Table(("", *columns), rows)])


def cost_section(rows: Sequence[Mapping[str, Any]]) -> Section:
    """Return seconds and memory against the width of the beam and the size of the corpus.

    Args:
        rows: "cost" of metrics.json for one direction.
    """
    header = (
        "items", "identifiers", "beams", "ms a query", "queries a second", "peak memory", "index", "index built in, s",
    )  # fmt: skip
    cells = [
        [
            f"{row['num_items']:,}",
            f"{row['num_identifiers']:,}",
            str(row["num_beams"]),
            f"{1000 * row['seconds_a_query']:.1f}",
            f"{row['queries_a_second']:.1f}",
            memory(row["peak_memory_bytes"]),
            _size(row["index_bytes"]),
            f"{row['index_s']:.2f}",
        ]
        for row in rows
    ]
    smallest = min(row["num_items"] for row in rows)
    usual = next((row["num_beams"] for row in rows if row["num_items"] > smallest), rows[0]["num_beams"])
    by_width = [(row["num_beams"], 1000 * row["seconds_a_query"]) for row in rows if row["num_items"] == smallest]
    by_size = [(row["num_items"], 1000 * row["seconds_a_query"]) for row in rows if row["num_beams"] == usual]
    y = round_axis(max(row["seconds_a_query"] for row in rows) * 1000)
    plots = [
        line_plot(
            "Time against beam width", {"search": by_width}, x_label="beams", y_label="ms a query", y=y,
            x=Axis(0, max(width for width, _ in by_width), {float(width): str(width) for width, _ in by_width}),
        )
    ]  # fmt: skip
    if len(by_size) > 1:
        sizes = [size for size, _ in by_size]
        x = Axis(min(sizes), max(sizes), {float(size): f"{size:,}" for size in sizes}, logarithmic=True)
        plots.append(
            line_plot("Time against corpus size", {"search": by_size}, x=x, y=y, x_label="items", y_label="ms a query")
        )
    sentence = (
        f"{plural(rows[0]['num_queries'], 'query')} drawn at random, read and searched in batches, without a verifier. "
        "Larger corpora are made by repetition, each round under other clusters. Peak memory is the most that was held "
        "while searching, model and libraries included, on a GPU of its memory only."
    )
    return Section("Efficiency", [sentence], [Table(header, cells)], plots)


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1024:.0f} KiB" if num_bytes < 2**20 else memory(num_bytes)
