"""Shortlists: the best candidates of each query, the questions about them, and their fused ranking."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from semcore.data.directions import Direction
from semcore.data.items_and_queries import Item
from semcore.retrieval.hits import GeneratedHit, Hit
from semcore.verification import Choice, Fusion, Question


class Shortlist(NamedTuple):
    """A query (a sentence, or an image's id) and its candidates, in the generator's order."""

    query: str
    items: tuple[Item, ...]
    generator: tuple[float, ...]
    """The log-probability of each candidate's identifier."""


def make_shortlist(
    query: str, hits: Sequence[GeneratedHit], items: Mapping[str, Item], num_candidates: int
) -> Shortlist:
    """Return the generator's best hits as a shortlist."""
    best = hits[:num_candidates]
    return Shortlist(query, tuple(items[hit.item_id] for hit in best), tuple(hit.score for hit in best))


def rank(shortlist: Shortlist, verifier: Sequence[float], fusion: Fusion) -> list[tuple[Item, float, float | None]]:
    """Return (item, fused score, confidence), best first; equal scores keep the generator's order."""
    if not shortlist.items:  # an unconstrained search may find none
        return []
    fused = fusion.fuse(shortlist.generator, verifier)
    confidences: Sequence[float | None] = fusion.confidence(fused) or [None] * len(fused)
    return sorted(zip(shortlist.items, fused.tolist(), confidences, strict=True), key=lambda row: -row[1])


def hits_of(
    shortlist: Shortlist,
    verifier: Sequence[float],
    fusion: Fusion,
    generated: Sequence[GeneratedHit],
    items: Mapping[str, Item],
) -> list[Hit]:
    """Return the ranked candidates as hits, and behind them what the generator found beyond the shortlist."""
    ranked = rank(shortlist, verifier, fusion)
    if not ranked:
        return []
    no_match = fusion.is_no_match(ranked[0][2])
    hits = [Hit.of(*row, no_match) for row in ranked]
    step = hits[-1].score - shortlist.generator[-1]
    rest = generated[len(shortlist.items) :]
    return hits + [Hit.of(items[hit.item_id], hit.score + step, None, no_match) for hit in rest]


def images_shown(direction: Direction, shortlists: Iterable[Shortlist]) -> list[str]:
    """Return the ids of the images in a verifier's prompts."""
    return [i for own in shortlists for i in direction.images_shown(own.query, (item.item_id for item in own.items))]


def question_of(shortlist: Shortlist) -> Question:
    """Return a shortlist as a question to a verifier."""
    choices = tuple(Choice(item.item_id, item.keywords, item.text) for item in shortlist.items)
    return Question(shortlist.query, choices)
