"""Course of an item through a search: found, outranked, or lost from the beams, and at which depth."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from semcore.decoding import IdentifierIndex, constrained_beam_search
from semcore.decoding.prefix_retention import RetentionWatch
from semcore.decoding.prior_correction import Correction


def course_of_found(rank: int, verified: Collection[str], item_id: str) -> dict[str, Any]:
    """Return the course of an item that is among the hits.

    Args:
        rank: its rank.
        verified: the items of the shortlist.
        item_id: the item.
    """
    if rank == 1:
        return _course("found")
    return _course("outranked" if item_id in verified else "not verified")


def course_of_missed(
    model: Any,
    inputs: Mapping[str, Any],
    index: IdentifierIndex,
    sequence: Sequence[int],
    *,
    num_beams: int,
    steps: Sequence[Mapping[str, Any]],
    weight: float,
    correction: Correction | None,
) -> dict[str, Any]:
    """Return the course of an item that is not among the hits: one more search, in which its identifier is followed.

    Args:
        model: the identifier model.
        inputs: its arguments for the query.
        index: what is searched.
        sequence: the item's identifier.
        num_beams: width of the beam.
        steps: of the identifier, from `step_rows`.
        weight: share of the prior that comes off.
        correction: what comes off in the search; None where nothing does.
    """
    watch = RetentionWatch(index, [[sequence]])
    result = constrained_beam_search(model, inputs, index, num_beams=num_beams, bonus=correction, watch=watch)
    [[retention]] = watch.results(result)
    depth = retention.lost_at
    if depth is None:
        return _course("behind others")
    last = steps[depth - 1]
    off = 0.0 if correction is None else weight * last["log_prior"]
    return _course(
        "lost",
        depth=depth,
        prefix="".join(step["token"] for step in steps[:depth]),
        prefix_score=last["sum"] - off,
        last_beam_score=retention.last_scores[depth - 1],
    )


def _course(outcome: str, **lost: Any) -> dict[str, Any]:
    return {
        "outcome": outcome,
        **{name: lost.get(name) for name in ("depth", "prefix", "prefix_score", "last_beam_score")},
    }
