"""Verifiers by name: each scores every candidate of a shortlist."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, assert_never

from semcore.data.directions import Direction
from semcore.models.session import ModelSession
from semcore.retrieval.shortlist import Shortlist, question_of
from semcore.verification import Pair, VerifierSession, choose, likelihood_gains, match_log_odds

VerifierName = Literal["listwise", "blocks", "pointwise", "likelihood"]
"""Names of the verifiers; "blocks" is the listwise verifier that was trained in candidate blocks."""


def verifier_scores(
    verifier: VerifierName,
    session: VerifierSession,
    direction: Direction,
    shortlists: Sequence[Shortlist],
    *,
    num_shifts: int = 1,
) -> list[list[float]]:
    """Return a verifier's score of each candidate of each shortlist.

    Args:
        verifier: which one; the scores of different verifiers cannot be compared.
        session: the verifier's model.
        direction: "t2i" or "i2t".
        shortlists: queries with their candidates.
        num_shifts: cyclic shifts of the candidates; only a listwise verifier has an order to shift.
    """
    if verifier == "pointwise":
        return pointwise_scores(session, direction, shortlists)
    if verifier == "likelihood":
        return likelihood_scores(session, direction, shortlists)
    if verifier == "listwise" or verifier == "blocks":
        return listwise_scores(session, direction, shortlists, num_shifts)
    assert_never(verifier)


def listwise_scores(
    session: VerifierSession, direction: Direction, shortlists: Sequence[Shortlist], num_shifts: int = 1
) -> list[list[float]]:
    """Return the log-probability of each candidate as the verifier's choice, one forward pass per query and shift.

    With fewer than two candidates there is no choice to make, and no forward pass.
    """
    questions = [question_of(shortlist) for shortlist in shortlists if len(shortlist.items) > 1]
    chosen = iter(choose(session, direction, questions, num_shifts=num_shifts))
    return [next(chosen) if len(own.items) > 1 else [0.0] * len(own.items) for own in shortlists]


def pointwise_scores(session: ModelSession, direction: Direction, shortlists: Sequence[Shortlist]) -> list[list[float]]:
    """Return the log-odds that each candidate matches, one forward pass per candidate."""
    return match_log_odds(session, direction, [question_of(own) for own in shortlists])


def likelihood_scores(
    session: ModelSession, direction: Direction, shortlists: Sequence[Shortlist]
) -> list[list[float]]:
    """Return log p(sentence | image) - log p(sentence) of each query with each of its candidates."""
    pairs = [pairs_of(direction, shortlist) for shortlist in shortlists]
    gains = likelihood_gains(session, (pair for own in pairs for pair in own))
    return [[gains[pair] for pair in own] for own in pairs]


def pairs_of(direction: Direction, shortlist: Shortlist) -> list[Pair]:
    """Return the image and the sentence that a query makes with each of its candidates."""
    query = shortlist.query
    if direction.queries_are_images:
        return [Pair(query, item.text) for item in shortlist.items]
    return [Pair(item.image_id, query) for item in shortlist.items]
