"""Audit of false negatives as the report shows it: counts, and the most confident entries with their pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from semcore.data.directions import Direction
from semcore.report.examples import NUM_HITS, Item, Shown, show_item, show_query
from semcore.report.sections import plural

NUM_SHOWN = 6


class AuditEntry(NamedTuple):
    """A query, the item that both models prefer, and the labelled items; `remark` says how sure they are."""

    query: Item
    item: Item
    right: list[Item]
    remark: str


class Audit(NamedTuple):
    """The audit of one direction."""

    sentences: list[str]
    entries: list[AuditEntry]


def audited_rows(entries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the entries to show, with the keys of a per-query row that `read_shown` looks at."""
    return [{**entry, "generated": [], "verified": []} for entry in entries[:NUM_SHOWN]]


def show_audit(
    metrics: Mapping[str, Any], direction: Direction, rows: Sequence[Mapping[str, Any]], shown: Shown
) -> Audit | None:
    """Return the audit of a direction; None where there is none.

    Args:
        metrics: metrics.json.
        direction: "t2i" or "i2t".
        rows: from `audited_rows`.
        shown: images and sentences; others are shown by their ids.
    """
    counts = metrics.get("false_negatives", {}).get(direction)
    if not counts:
        return None
    sentences = [
        f"Of {plural(counts['num_queries'], 'query')} the verifier puts an item first in {counts['num_wrong']:,} that "
        f"counts as wrong by the labels. In {counts['num_agreed']:,} of these the generator agrees: its exact score "
        "prefers that item to every labelled one, also to those that the beams lost. They may be answers that the "
        "labels do not know.",
        f"Certain are {counts['num_certain']:,}, where the same sentence stands word for word under both images.",
    ]
    return Audit(sentences, [_entry(row, direction, shown) for row in rows])


def _entry(row: Mapping[str, Any], direction: Direction, shown: Shown) -> AuditEntry:
    confidence = "" if row["confidence"] is None else f"confidence {row['confidence']:.2f}; "
    verifier = "not on the shortlist" if row["verifier_right"] is None else f"{row['verifier_right']:.2f}"
    remark = (
        f"{confidence}generator {row['generator']:.2f}, labelled {row['generator_right']:.2f}; verifier "
        f"{row['verifier']:.2f}, labelled {verifier}"
    )
    if row["certain"]:
        remark += "; the same sentence under both images"
    right = [show_item(item_id, direction, shown) for item_id in row["right"][:NUM_HITS]]
    return AuditEntry(show_query(row, direction, shown), show_item(row["item_id"], direction, shown), right, remark)
