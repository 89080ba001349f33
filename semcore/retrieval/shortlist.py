"""Shortlists: the best candidates of each query, the questions about them, and their fused ranking."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from semcore.data.directions import Direction
from semcore.data.items_and_queries import Item
from semcore.retrieval.hits import GeneratedHit, Hit, NoMatchBasis
from semcore.verification import Choice, Fusion, Question
from semcore.verification.score_fusion import log_sum_exp

GUIDE, DENSE = "guide", "dense"
"""Names of further scores."""


class Shortlist(NamedTuple):
    """A query (a sentence, or an image's id) and its candidates, in the generator's order."""

    query: str
    items: tuple[Item, ...]
    generator: tuple[float, ...]
    """The log-probability of each candidate's identifier."""
    further: Mapping[str, tuple[float, ...]] = {}
    """Further scores of each candidate by their names: what a guide added, the cosine of dense vectors."""

    def only(self, places: Sequence[int]) -> Shortlist:
        """Return the candidates in these places, in their order."""
        further = {name: tuple(own[place] for place in places) for name, own in self.further.items()}
        generator = tuple(self.generator[place] for place in places)
        return Shortlist(self.query, tuple(self.items[place] for place in places), generator, further)


def make_shortlist(
    query: str, hits: Sequence[GeneratedHit], items: Mapping[str, Item], num_candidates: int
) -> Shortlist:
    """Return the generator's best hits as a shortlist."""
    best = hits[:num_candidates]
    shown = tuple(items[hit.item_id] for hit in best)
    if not best or best[0].guide is None:
        return Shortlist(query, shown, tuple(hit.score for hit in best))
    guides = tuple(hit.guide or 0.0 for hit in best)
    return Shortlist(query, shown, tuple(hit.score - (hit.guide or 0.0) for hit in best), {GUIDE: guides})


def rank(shortlist: Shortlist, verifier: Sequence[float], fusion: Fusion) -> list[tuple[Item, float, float | None]]:
    """Return (item, fused score, confidence), best first; equal scores keep the generator's order."""
    if not shortlist.items:  # an unconstrained search may find none
        return []
    fused = fusion.fuse(shortlist.generator, verifier, shortlist.further)
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
    basis, rule = None, fusion.no_match
    if rule is not None:
        basis = NoMatchBasis(rule.of, log_sum_exp([score for _, score, _ in ranked]), rule.below)
    hits = [Hit.of(*row, basis) for row in ranked]
    known = {item.item_id for item in shortlist.items}
    rest = [hit for hit in generated if hit.item_id not in known]
    if not rest:
        return hits
    step = hits[-1].score - (rest[0].score if shortlist.further else shortlist.generator[-1])
    return hits + [Hit.of(items[hit.item_id], hit.score + step, None, basis) for hit in rest]


def images_shown(direction: Direction, shortlists: Iterable[Shortlist]) -> list[str]:
    """Return the ids of the images in a verifier's prompts."""
    return [i for own in shortlists for i in direction.images_shown(own.query, (item.item_id for item in own.items))]


def question_of(shortlist: Shortlist) -> Question:
    """Return a shortlist as a question to a verifier."""
    choices = tuple(Choice(item.item_id, item.keywords, item.text) for item in shortlist.items)
    return Question(shortlist.query, choices)
