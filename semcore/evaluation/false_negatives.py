"""Audit of false negatives: items that count as wrong by the labels, while generator and verifier both prefer them.

A caption often fits more images than the one it was written about (Chun et al., 2022), and then a correct answer counts
as a miss. The audit lists the answers where two models that were trained apart agree against the labels: the verifier,
by its score alone, ranks the item first of the shortlist, and its exact score under the generator is at least that of
every relevant item, also of those that the beams lost. These are candidates to look at, not proven ones; where a label
itself says so, a sentence that stands word for word under both images, the entry is certain.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from semcore.data.dataset import Dataset
from semcore.data.directions import Direction
from semcore.decoding import IdentifierIndex
from semcore.decoding.exhaustive import token_log_probabilities
from semcore.models.session import ModelSession
from semcore.retrieval.batch import SplitKey, SplitView, WorkDir
from semcore.retrieval.corpus import identifier_tokens
from semcore.retrieval.generator import query_inputs
from semcore.retrieval.hits import GeneratedHit
from semcore.retrieval.shortlist import Shortlist
from semcore.runtime.text import clean_text

MOST_LISTED = 50
"""Entries kept of each direction, the most confident ones."""
QUERIES_PER_CHUNK = 16  # ours: each is scored with the identifiers of all

Exact = dict[str, float]
"""query -> the best exact score of its relevant items, where the beams found none of them."""


def score_lost_items(
    session: ModelSession,
    key: SplitKey,
    view: SplitView,
    hits: Mapping[str, Sequence[GeneratedHit]],
    work_dir: WorkDir,
    *,
    num_queries: int,
    log_priors: Mapping[str, float],
    weight: float,
) -> Exact:
    """Score the relevant items of queries for which the search found none, exactly, by their identifiers.

    Args:
        session: the generator.
        key: the view's key.
        view: items and queries.
        hits: query -> what the generator found.
        work_dir: keeps finished chunks.
        num_queries: the first ones in the order of their content, at most.
        log_priors: identifier -> log p(identifier); may be empty where the weight is 0.
        weight: how much of it comes off.
    """
    relevant = relevant_of(view)
    lost = {
        content: sorted({text for item in right & view.items.keys() for text in view.items[item].identifiers})
        for content, right in relevant.items()
        if right.isdisjoint(hit.item_id for hit in hits[content])
    }
    contents = sorted((content for content, own in lost.items() if own), key=lambda c: (len(c), c))[:num_queries]
    if key.direction.queries_are_images:
        session.features.add(contents, progress=work_dir.progress)

    def work(chunk: list[str]) -> list[Any]:
        identifiers = sorted({text for content in chunk for text in lost[content]})
        scores = _exact_scores(session, key.direction, chunk, identifiers)
        return [
            max(own[text] - (weight * log_priors[text] if weight else 0.0) for text in lost[content])
            for content, own in zip(chunk, scores, strict=True)
        ]

    rows = work_dir.run(f"lost items {key.direction} {key.split}", contents, QUERIES_PER_CHUNK, work, "query")
    return dict(zip(contents, rows, strict=True))


def _exact_scores(
    session: ModelSession, direction: Direction, queries: Sequence[str], identifiers: Sequence[str]
) -> list[dict[str, float]]:
    """Return for each query identifier -> log p(identifier | query)."""
    tokens = {text: tuple(identifier_tokens(session, direction, text)) for text in identifiers}
    checkpoint = session.checkpoint
    index = IdentifierIndex.from_sequences(list(tokens.values()), list(tokens)).to(checkpoint.device)
    scored = token_log_probabilities(checkpoint.model, query_inputs(session, direction, queries), index)
    sequences = sorted(index.sequences())
    owners = torch.repeat_interleave(torch.arange(len(sequences)), torch.tensor([len(own) for own in sequences]))
    sums = torch.zeros(len(scored), len(sequences)).index_add_(1, owners, scored)
    place = {sequence: number for number, sequence in enumerate(sequences)}
    return [{text: float(row[place[own]]) for text, own in tokens.items()} for row in sums]


def relevant_of(view: SplitView) -> dict[str, set[str]]:
    """Return what is asked -> the relevant items of all queries that ask it."""
    relevant: dict[str, set[str]] = {}
    for query, content in view.queries.contents.items():
        relevant.setdefault(content, set()).update(view.queries.relevant[query])
    return relevant


def audit(
    direction: Direction,
    view: SplitView,
    shortlists: Sequence[Shortlist],
    scores: Sequence[Sequence[float]],
    confidences: Mapping[str, Sequence[tuple[str, float]]],
    exact: Mapping[str, float],
    dataset: Dataset,
    hits: Mapping[str, Sequence[GeneratedHit]],
) -> dict[str, Any]:
    """List the wrong answers that generator and verifier both prefer to the labelled ones.

    Args:
        direction: of the search.
        view: items and queries.
        shortlists: of every query.
        scores: the verifier's of each candidate.
        confidences: query -> its candidates with confidence, from `semcore.evaluation.confidence`; may be empty.
        exact: from `score_lost_items`.
        dataset: holds the sentences.
        hits: query -> all that the generator found.

    Returns:
        "num_queries" that were looked at, "num_wrong" first choices of the verifier among them, "num_agreed" of those
        where the generator agrees, "num_certain" of these; "listed", the most confident ones, each with "query_id",
        "query", "item_id", "right" (ids), "generator" and "generator_right" (exact scores), "verifier",
        "verifier_right" (None where no relevant item was on the shortlist), "confidence" (None where nothing was
        fitted), "certain".
    """
    relevant, names = relevant_of(view), {content: query for query, content in view.queries.contents.items()}
    sentences = {record.image_id: {clean_text(s.text) for s in record.sentences} for record in dataset.images}
    looked_at, wrong = 0, 0
    found: list[dict[str, Any]] = []
    for shortlist, own in zip(shortlists, scores, strict=True):
        content, right = shortlist.query, relevant[shortlist.query]
        known = [hit.score for hit in hits[content] if hit.item_id in right] or (
            [exact[content]] if content in exact else []
        )
        if not known or not shortlist.items:
            continue  # nothing says how the generator scores what is right
        looked_at += 1
        place = max(range(len(own)), key=own.__getitem__)
        item = shortlist.items[place]
        if item.item_id in right:
            continue
        wrong += 1
        if shortlist.generator[place] < max(known):
            continue
        judged = [score for score, each in zip(own, shortlist.items, strict=True) if each.item_id in right]
        found.append(
            {
                "query_id": names[content],
                "query": view.queries.display[names[content]],
                "item_id": item.item_id,
                "right": sorted(right),
                "generator": shortlist.generator[place],
                "generator_right": max(known),
                "verifier": own[place],
                "verifier_right": max(judged, default=None),
                "confidence": dict(confidences.get(content, ())).get(item.item_id),
                "certain": _is_certain(direction, content, item.image_id, item.text, sentences),
            }
        )
    found.sort(key=lambda entry: (-(entry["confidence"] or 0.0), entry["query_id"]))
    return {
        "num_queries": looked_at,
        "num_wrong": wrong,
        "num_agreed": len(found),
        "num_certain": sum(entry["certain"] for entry in found),
        "listed": found[:MOST_LISTED],
    }


def _is_certain(
    direction: Direction, content: str, image_id: str, text: str, sentences: Mapping[str, set[str]]
) -> bool:
    """Tell whether the same sentence stands under both images: the query's, or the item itself."""
    if direction.queries_are_images:
        return clean_text(text) in sentences.get(content, ())
    return clean_text(content) in sentences.get(image_id, ())
