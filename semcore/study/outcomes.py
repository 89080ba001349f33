"""What each variant found, query by query, and how sure the differences are.

Queries of all seeds are pooled; the queries of one image are drawn together (`semcore.evaluation.statistics`).
So an interval says how much the choice of pictures and queries matters, and the mean over seeds is the
variant's; how far the seeds are apart is given beside it.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from semcore.ablations import without_verification
from semcore.errors import UserError
from semcore.evaluation.metrics import first_right_rank
from semcore.evaluation.per_query import GeneratedHit, read_per_query
from semcore.evaluation.statistics import Values, bootstrap_interval, hits
from semcore.evaluation.trec import read_qrels, read_run
from semcore.identifiers import DIRECTIONS, read_identifiers

METRICS = ("R@1", "R@5", "R@10", "rSum@5")


@dataclass(frozen=True)
class Found:
    """Where one variant found the right items: of every query of every seed.

    Attributes:
        ranks: direction -> (seed, query id) -> rank of the first right item, None where it was not found.
        images: direction -> (seed, query id) -> the image that the query belongs to.
    """

    ranks: Mapping[str, Mapping[tuple[int, str], int | None]]
    images: Mapping[str, Mapping[tuple[int, str], Hashable]]

    def values(self, direction: str, metric: str) -> Values:
        """Return (queries,) what each query adds to a metric, in percent."""
        ranks = list(self.ranks[direction].values())
        if metric == "rSum@5":
            return hits(ranks, 1) + hits(ranks, 5)
        return hits(ranks, int(metric.removeprefix("R@")))

    def groups(self, direction: str) -> list[Hashable]:
        """Return (queries,) the image of each query."""
        return list(self.images[direction].values())


def read_found(runs: Sequence[Path]) -> Found | None:
    """Read the verified rankings of a variant's runs, one a seed; None where a run was not verified.

    A query without a candidate has no verified ranking and was missed; one with candidates was not verified.

    Raises:
        UserError: a run is not measured.
    """
    rows = _read_rows(runs)
    if any(row["generated"] and not row["verified"] for own in rows.values() for _, row in own):
        return None
    ranks = {
        direction: {(seed, row["query_id"]): row["rank_verified"] for seed, row in own}
        for direction, own in rows.items()
    }
    return Found(ranks, _images(rows))


def read_found_unverified(runs: Sequence[Path]) -> Found:
    """Read the generated rankings of runs, with an arbitrary suffix to decide between items of one identifier.

    Raises:
        UserError: a run is not measured.
    """
    rows = _read_rows(runs)
    ranks: dict[str, dict[tuple[int, str], int | None]] = {direction: {} for direction in DIRECTIONS}
    for seed, run in enumerate(runs):
        for direction in DIRECTIONS:
            texts = {row["item_id"]: row["identifier"] for row in read_identifiers(run / "identifiers", direction)}
            generated = read_run(run / direction / "run.generated.trec")
            qrels = read_qrels(run / direction / "qrels.trec")
            for query, right in qrels.items():
                own = [GeneratedHit(item, texts[item], score) for item, score in generated.get(query, ())]
                suffixed = [hit.item_id for hit in without_verification(own)]
                ranks[direction][seed, query] = first_right_rank(suffixed, right)
    ordered = {
        direction: {(seed, row["query_id"]): ranks[direction][seed, row["query_id"]] for seed, row in own}
        for direction, own in rows.items()
    }
    return Found(ordered, _images(rows))


def _read_rows(runs: Sequence[Path]) -> dict[str, list[tuple[int, dict[str, Any]]]]:
    """Return direction -> (seed, per-query row) of all runs."""
    return {
        direction: [
            (seed, row) for seed, run in enumerate(runs) for row in read_per_query(run / direction / "per_query.jsonl")
        ]
        for direction in DIRECTIONS
    }


def _images(rows: Mapping[str, Sequence[tuple[int, dict[str, Any]]]]) -> dict[str, dict[tuple[int, str], Hashable]]:
    return {
        direction: {
            (seed, row["query_id"]): (seed, row["query_id"] if direction == "i2t" else row["right"][0])
            for seed, row in own
        }
        for direction, own in rows.items()
    }


def compare(found: Found, full: Found, direction: str, metric: str) -> dict[str, Any]:
    """Return a variant's score and its difference from the full system, with 95 % intervals.

    Returns:
        {"mean", "low", "high", "seeds": [a mean a seed], "difference": {"mean", "low", "high"}}, in percent
        (points for the difference).

    Raises:
        UserError: the two have not asked the same queries.
    """
    if list(found.ranks[direction]) != list(full.ranks[direction]):
        raise UserError("two variants were measured with different queries; delete the study's folder and begin anew")
    groups = found.groups(direction)
    values, reference = found.values(direction, metric), full.values(direction, metric)
    seeds = np.array([seed for seed, _ in found.ranks[direction]])
    return {
        **_interval(values, groups),
        "seeds": [round(float(values[seeds == seed].mean()), 2) for seed in np.unique(seeds)],
        "difference": _interval(values - reference, groups),
    }


def _interval(values: Values, groups: Sequence[Hashable]) -> dict[str, float]:
    low, high = bootstrap_interval(values, groups=groups)
    return {"mean": round(float(values.mean()), 2), "low": round(low, 2), "high": round(high, 2)}
