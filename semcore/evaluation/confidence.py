"""Confidence of an evaluation's hits: reliability, and coverage against risk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from semcore.data.directions import Direction
from semcore.evaluation.fitted_fusions import Fitted
from semcore.evaluation.reliability import coverage_risk, reliability
from semcore.retrieval.batch import SplitKey, SplitView
from semcore.retrieval.shortlist import Shortlist, rank

Confidences = list[tuple[str, float]]
"""A query's candidates with their confidence, best first."""


@dataclass(frozen=True)
class Verified:
    """One verifier's scores of all views, and its fusion by direction."""

    views: Mapping[SplitKey, SplitView]
    shortlists: Mapping[SplitKey, Sequence[Shortlist]]
    scores: Mapping[SplitKey, Sequence[Sequence[float]]]
    fits: Mapping[Direction, Fitted]

    def confidences(self, key: SplitKey) -> dict[str, Confidences]:
        """Return query -> its candidates with their confidence; none where nothing was fitted, or nothing found."""
        fitted = self.fits.get(key.direction)
        if key not in self.views or fitted is None:
            return {}
        ranked = (
            (own.query, rank(own, scores, fitted.of(key.split, own.query)))
            for own, scores in zip(self.shortlists[key], self.scores[key], strict=True)
        )
        return {
            query: [(item.item_id, confidence) for item, _, confidence in rows if confidence is not None]
            for query, rows in ranked
            if rows and rows[0][2] is not None
        }


def measure_confidence(verified: Verified, split: str, direction: Direction) -> dict[str, Any]:
    """Return how far the confidences of a split hold; {} where there are none.

    Args:
        verified: the verifier whose order counts.
        split: the measured one.
        direction: of the search.

    Returns:
        "candidates" and "best_hits", each the diagram of `reliability`: over all candidates, and over the first hit of
        each query; "coverage_risk" of the first hits. A query that was asked twice counts twice.
    """
    key = SplitKey(split, direction)
    found = verified.confidences(key)
    if not found:
        return {}
    asked = [
        (found[content], verified.views[key].queries.relevant[query])
        for query, content in verified.views[key].queries.contents.items()
        if content in found
    ]
    candidates = [(confidence, item in right) for rows, right in asked for item, confidence in rows]
    best = [(rows[0][1], rows[0][0] in right) for rows, right in asked]
    return {
        "candidates": reliability(*_columns(candidates)),
        "best_hits": reliability(*_columns(best)),
        "coverage_risk": coverage_risk(*_columns(best)),
    }


def _columns(cases: Sequence[tuple[float, bool]]) -> tuple[list[float], list[bool]]:
    return [confidence for confidence, _ in cases], [right for _, right in cases]
