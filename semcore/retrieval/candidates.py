"""Candidates from two sides: what the generator found, and what is near the query in a space of dense vectors.

What only the dense side found gets the exact log-probability of its identifier, and what only the generator found its
cosine, so that every candidate has all scores, and one fusion orders them before a verifier reads the best.

Shapes: Q queries, N items, d dimensions.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np

from semcore.data.directions import Direction
from semcore.data.items_and_queries import Item
from semcore.decoding.rescoring import score_sequences
from semcore.models.session import ModelSession
from semcore.retrieval.corpus import Corpus
from semcore.retrieval.dense import SENTENCE_ENCODER, DenseEncoder
from semcore.retrieval.generator import GuideOf, query_inputs
from semcore.retrieval.hits import GeneratedHit, merged
from semcore.retrieval.shortlist import DENSE, GUIDE, Shortlist
from semcore.verification import Fusion

CandidateSource = Literal["generated", "dense", "both"]


@dataclass(frozen=True)
class CandidateSettings:
    """Where the candidates of a query come from.

    Attributes:
        source: the generator, the dense vectors, or both.
        model: of the vectors, `SENTENCE_ENCODER` or a CLIP or SigLIP checkpoint.
        num_dense: how many of the nearest items are candidates.
    """

    source: CandidateSource = "generated"
    model: str = SENTENCE_ENCODER
    num_dense: int = 20


class Candidate(NamedTuple):
    """An item that may be shortlisted.

    Attributes:
        item_id: its id.
        score: log p of its identifier, less the share of the identifiers' prior that is off.
        guide: what the search's guide adds; None without one.
        cosine: of its vector with the query's.
        generated: whether the generator has found it.
        dense: whether it is among the nearest.
    """

    item_id: str
    score: float
    guide: float | None
    cosine: float
    generated: bool
    dense: bool


@dataclass(frozen=True)
class DenseSide:
    """The items of a corpus as vectors.

    Attributes:
        encoder: encodes queries.
        item_ids: N of them.
        vectors: unit vectors (N, d).
        sequences: item id -> the tokens of its identifiers, from the index.
    """

    encoder: DenseEncoder
    item_ids: Sequence[str]
    vectors: np.ndarray
    sequences: Mapping[str, Sequence[tuple[int, ...]]]

    def cosines(self, direction: Direction, queries: Sequence[str]) -> np.ndarray:
        """Return the cosine of every query and every item (Q, N)."""
        return self.encoder.queries(direction, queries) @ self.vectors.T


@dataclass(frozen=True)
class Search:
    """What the search of a corpus was, so that what it did not find is scored as it would have been.

    Attributes:
        session: the generator.
        direction: tells whether queries are sentences or image ids.
        corpus: the items and their index.
        guide: what guided the search, if anything did.
        priors: identifier -> log p(identifier), where a share of it is off the scores.
        batch_size: queries read at once.
    """

    session: ModelSession
    direction: Direction
    corpus: Corpus
    guide: GuideOf | None = None
    priors: Mapping[str, float] = field(default_factory=dict)
    batch_size: int = 32


def find_candidates(
    search: Search,
    side: DenseSide,
    settings: CandidateSettings,
    hits: Mapping[str, Sequence[GeneratedHit]],
    shares: Mapping[str, float],
) -> list[list[Candidate]]:
    """Return each query's candidates: the generator's hits in their order, and behind them what only vectors found.

    Args:
        search: that has found the hits.
        side: the same items as vectors.
        settings: which of both sides count.
        hits: query -> what the generator found.
        shares: query -> how much of the identifiers' prior is off its hits' scores.
    """
    queries, found = list(hits), []
    for start in range(0, len(queries), search.batch_size):
        batch = queries[start : start + search.batch_size]
        cosines = side.cosines(search.direction, batch)
        nearest = [_nearest(row, side.item_ids, settings.num_dense) for row in cosines]
        known = [{hit.item_id: hit for hit in hits[query]} for query in batch]
        new = [[own for own in near if own not in hit] for near, hit in zip(nearest, known, strict=True)]
        wanted = [[(own, tokens) for own in row for tokens in side.sequences[own]] for row in new]
        scored = _score_as_found(search, batch, wanted, shares)
        for row in range(len(batch)):
            own = known[row] | {hit.item_id: hit for hit in scored[row]}
            listed = [own[item_id] for item_id in (nearest[row] if settings.source == "dense" else own)]
            found.append(_with_cosines(listed, known[row], nearest[row], cosines[row], side))
    return found


def _score_as_found(
    search: Search,
    queries: Sequence[str],
    wanted: Sequence[Sequence[tuple[str, tuple[int, ...]]]],
    shares: Mapping[str, float],
) -> list[list[GeneratedHit]]:
    """Return items of each query, given with the tokens of each identifier, as the hits a search makes of them."""
    inputs = query_inputs(search.session, search.direction, queries)
    bonus = None if search.guide is None else search.guide(queries)
    model, tokens = search.session.checkpoint.model, [[own for _, own in row] for row in wanted]
    exact = score_sequences(model, inputs, search.corpus.index, tokens, bonus=bonus)
    rows = []
    for place, (query, own) in enumerate(zip(queries, wanted, strict=True)):
        guides: Sequence[float | None] = [None] * len(own) if exact.bonuses is None else exact.bonuses[place]
        hits = []
        for (item_id, sequence), score, guide in zip(own, exact.log_probabilities[place], guides, strict=True):
            identifier = search.corpus.text_of(sequence, item_id)
            off = shares.get(query, 0.0) * search.priors.get(identifier, 0.0)
            hits.append(GeneratedHit(item_id, identifier, score - off + (guide or 0.0), guide))
        rows.append(merged(sorted(hits, key=lambda hit: -hit.score)))
    return rows


def _with_cosines(
    hits: Sequence[GeneratedHit],
    generated: Collection[str],
    nearest: Sequence[str],
    cosines: np.ndarray,
    side: DenseSide,
) -> list[Candidate]:
    """Return hits as candidates; cosines are those of all items with the query (N,)."""
    near, own = set(nearest), dict(zip(side.item_ids, cosines.tolist(), strict=True))
    return [
        Candidate(
            hit.item_id, hit.score - (hit.guide or 0.0), hit.guide, own[hit.item_id], hit.item_id in generated,
            hit.item_id in near,
        )
        for hit in hits
    ]  # fmt: skip


def shortlist_of(query: str, candidates: Sequence[Candidate], items: Mapping[str, Item]) -> Shortlist:
    """Return all candidates as a shortlist with its further scores."""
    further = {DENSE: tuple(own.cosine for own in candidates)}
    if candidates and candidates[0].guide is not None:
        further[GUIDE] = tuple(own.guide or 0.0 for own in candidates)
    shown = tuple(items[own.item_id] for own in candidates)
    return Shortlist(query, shown, tuple(own.score for own in candidates), further)


def cut(shortlist: Shortlist, fusion: Fusion, num_candidates: int) -> Shortlist:
    """Return the best candidates by their fused scores, without a verifier's; equal ones in the order they have."""
    fused = fusion.fuse(shortlist.generator, [0.0] * len(shortlist.items), shortlist.further)
    return shortlist.only(np.argsort(-fused, kind="stable")[:num_candidates].tolist())


def _nearest(cosines: np.ndarray, item_ids: Sequence[str], num_items: int) -> list[str]:
    """Return the items of the greatest cosines (N,), best first; among equals the first."""
    return [item_ids[place] for place in np.argsort(-cosines, kind="stable")[:num_items]]
