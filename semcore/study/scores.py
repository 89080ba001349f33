"""Scores of finished runs from their per-query files: means, intervals, and paired differences.

The queries of all seeds are pooled; the queries of one image are resampled together (`semcore.evaluation.statistics`).
So an interval covers the choice of images and queries; the scores of the seeds are given beside it.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from semcore.data.directions import Direction
from semcore.data.identifier_files import read_identifiers
from semcore.evaluation.ablations import without_verification
from semcore.evaluation.metrics import first_relevant_rank
from semcore.evaluation.per_query import read_per_query
from semcore.evaluation.statistics import Values, bootstrap_interval, hits, paired_randomisation_test
from semcore.evaluation.trec import read_qrels, read_run
from semcore.retrieval.hits import GeneratedHit
from semcore.runtime.errors import UserError
from semcore.runtime.files import read_json
from semcore.runtime.typed_commands import command
from semcore.study.tables import Ranking


@dataclass(frozen=True)
class Found:
    """Ranks of the first relevant item of one variant, for every query of every seed.

    Attributes:
        ranks: direction -> (seed, query id) -> rank of the first relevant item, None where none was found.
        images: direction -> (seed, query id) -> the image that the query belongs to.
    """

    ranks: Mapping[str, Mapping[tuple[int, str], int | None]]
    images: Mapping[str, Mapping[tuple[int, str], Hashable]]

    @property
    def directions(self) -> list[Direction]:
        """Return the directions that were measured."""
        return [direction for direction in Direction if self.ranks.get(direction)]

    def values(self, direction: str, metric: str) -> Values:
        """Return each query's contribution to a metric (queries,), in percent."""
        ranks = list(self.ranks[direction].values())
        if metric == "rSum@5":
            return hits(ranks, 1) + hits(ranks, 5)
        return hits(ranks, int(metric.removeprefix("R@")))

    def groups(self, direction: str) -> list[Hashable]:
        """Return the image of each query (queries,)."""
        return list(self.images[direction].values())


def read_found(runs: Sequence[Path], ranking: Ranking | None = None, *, one_dataset: bool = False) -> Found:
    """Read the ranks of the first relevant items in runs, one per seed.

    Args:
        runs: finished runs.
        ranking: "verified"; "generated"; or "unverified", the generated one with an arbitrary suffix to decide
            between items of one identifier. None takes the verified one where there is one, else the generated.
        one_dataset: whether all runs search one dataset: the queries of an image then belong together over seeds.

    Raises:
        UserError: a run is not evaluated, or has no verified ranking where one is wanted.
    """
    ranks: dict[str, dict[tuple[int, str], int | None]] = {direction: {} for direction in Direction}
    images: dict[str, dict[tuple[int, str], Hashable]] = {direction: {} for direction in Direction}
    for seed, run in enumerate(runs):
        own = ranking or default_ranking(run)
        if own == "verified" and not was_verified(run):
            raise UserError(f"nothing of {run} was verified: give its variant `ranking: generated`, or a verifier")
        for direction in measured_directions(run):
            suffixed = _unverified_ranks(run, direction) if own == "unverified" else {}
            for row in read_per_query(run / direction / "per_query.jsonl"):
                query = row["query_id"]
                image = query if direction.queries_are_images else row["right"][0]
                ranks[direction][seed, query] = suffixed[query] if suffixed else row[f"rank_{own}"]
                images[direction][seed, query] = image if one_dataset else (seed, image)
    return Found(ranks, images)


def default_ranking(run: Path) -> Ranking:
    """Return the ranking of a run that is scored by default: the verified one where there is one."""
    return "verified" if was_verified(run) else "generated"


def was_verified(run: Path) -> bool:
    """Return whether a run's rankings were verified, by its metrics.json.

    Raises:
        UserError: the run is not evaluated.
    """
    metrics = _read_metrics(run)
    return any("verified" in metrics.get(direction, {}) for direction in Direction)


def measured_directions(run: Path) -> list[Direction]:
    """Return the directions that a run was measured in; errors as `was_verified`."""
    metrics = _read_metrics(run)
    return [direction for direction in Direction if direction in metrics]


def _read_metrics(run: Path) -> dict[str, Any]:
    path = run / "metrics.json"
    if not path.is_file():
        raise UserError(f"{run} is not measured; type `{command('semcore', 'evaluate', '--run', run)}`")
    return read_json(path)


def _unverified_ranks(run: Path, direction: str) -> dict[str, int | None]:
    """Return query id -> rank of the first relevant item, a suffix deciding between items of one identifier."""
    texts = {row["item_id"]: row["identifier"] for row in read_identifiers(run / "identifiers", direction)}
    generated = read_run(run / direction / "run.generated.trec")
    ranks = {}
    for query, relevant in read_qrels(run / direction / "qrels.trec").items():
        hits = [GeneratedHit(item, texts[item], score) for item, score in generated.get(query, ())]
        ranks[query] = first_relevant_rank([hit.item_id for hit in without_verification(hits)], relevant)
    return ranks


def compare(found: Found, reference: Found, direction: str, metric: str) -> dict[str, Any]:
    """Return a variant's score and its difference from the reference, with 95 % intervals and a paired test.

    Returns:
        {"mean", "low", "high", "seeds": [one mean per seed], "difference": {"mean", "low", "high", "p_value"}}, in
        percent (points for the difference); the p-value is two-sided, of a paired randomisation test over images, and
        not corrected for the number of variants.

    Raises:
        UserError: the two were not evaluated with the same queries.
    """
    if list(found.ranks[direction]) != list(reference.ranks[direction]):
        raise UserError(
            f"two runs were measured with different queries ({len(found.ranks[direction])} and "
            f"{len(reference.ranks[direction])} {direction}); give both the same --limit and --split and measure anew"
        )
    groups = found.groups(direction)
    values, base = found.values(direction, metric), reference.values(direction, metric)
    seeds = np.array([seed for seed, _ in found.ranks[direction]])
    test = paired_randomisation_test(base, values, groups=groups)
    return {
        **_interval(values, groups),
        "seeds": [round(float(values[seeds == seed].mean()), 2) for seed in np.unique(seeds)],
        "difference": {**_interval(values - base, groups), "p_value": round(test.p_value, 5)},
    }


def _interval(values: Values, groups: Sequence[Hashable]) -> dict[str, float]:
    low, high = bootstrap_interval(values, groups=groups)
    return {"mean": round(float(values.mean()), 2), "low": round(low, 2), "high": round(high, 2)}
