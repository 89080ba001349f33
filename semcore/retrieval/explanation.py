"""Explanations of a search: why an item was found for a query, or where the search lost it, as plain data.

An explanation is a dictionary that JSON can hold; what is unknown is None.

    query       direction ("t2i", "i2t"), text (None for an image)
    item        item_id, identifier (of several the one it was found by), text, image_path (text of the path)
    rank        its place among all hits of the search from 1; None where it is not among them
    score, confidence, no_match     as in `semcore.retrieval.hits.Hit`; None where it is no hit
    cluster     None where identifiers have none; else token, global_id, words (those that characterise it, the
                weightiest first), words_in_query (those of them that the query says; None for an image)
    keywords    one a keyword: keyword, in_query (whether the query says it; None for an image)
    steps       one a token, the end token last: depth from 1, token (text), part ("cluster", "keyword", "end"),
                keyword (the one it belongs to, else None), log_probability, sum (of the tokens so far),
                log_prior (of the prefix so far; None where none is taken off), num_branches (tokens that were allowed),
                best_other (the likeliest of the others: token, log_probability; None where there was no choice)
    generator   log_probability (sum of the steps), prior_weight, log_prior, guide (what a guide added; left out where
                none did), score (log_probability - prior_weight * log_prior + guide), rank (among what the generator
                found; None where it did not), num_beams
    verifier    None where the item was not verified; else name, score, rank (by its score alone), num_candidates,
                orders: for a verifier that chooses by letter one a cyclic shift of the candidates: letter (the item's),
                probability (0 to 1), counts (whether the score is averaged over this shift); else empty
    fusion      None where the item was not verified; else generator_weight, temperature, score, confidence, no_match
                (what decided whether the query has an answer: of, value, below; None where nothing did)
    search      the course of the item through the search: outcome, depth, prefix, prefix_score, last_beam_score
                  "found"         it is the best hit
                  "outranked"     verified, and behind the best hit
                  "not verified"  found, but behind the shortlist
                  "behind others" its identifier was kept to its end, and too many others have a better score
                  "lost"          its prefix of `depth` tokens, `prefix`, was not among the beams: its score,
                                  `prefix_score`, was below the last beam's, `last_beam_score` (both less what comes
                                  off in the search). These four are None with every other outcome

`explain` works one out; `semcore.retrieval.explanation_text` renders it for a terminal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from PIL import Image

from semcore.data.directions import Direction
from semcore.data.items_and_queries import Item
from semcore.data.run_folder import RunFolder
from semcore.decoding.path_steps import path_steps
from semcore.decoding.prior_correction import Correction
from semcore.models.session import ModelSession
from semcore.models.verifier_registry import VERIFIERS
from semcore.retrieval.corpus import Corpus, identifier_tokens
from semcore.retrieval.explanation_course import course_of_found, course_of_missed
from semcore.retrieval.explanation_steps import step_rows
from semcore.retrieval.explanation_words import cluster_of, keywords_of
from semcore.retrieval.generator import query_inputs
from semcore.retrieval.hits import GeneratedHit, Hit
from semcore.retrieval.shortlist import Shortlist, hits_of, question_of
from semcore.runtime.errors import UserError
from semcore.verification import LETTERS, Fusion, VerifierSession, choose_in_given_order
from semcore.verification.listwise import base_order_of, shift_offsets
from semcore.verification.question import reordered


@dataclass(frozen=True)
class Searched:
    """One query of a search and all that was found for it; what an explanation starts from.

    Attributes:
        direction: of the search.
        query: the sentence, or the id of the image.
        picture: the image, where it is none of the dataset's.
        num_beams: width of the beam.
        generated: what the generator found, best first.
        shortlist: the candidates that were verified.
        verifier_scores: of each candidate.
        fusion: what ordered them.
    """

    direction: Direction
    query: str
    picture: Image.Image | None
    num_beams: int
    generated: tuple[GeneratedHit, ...]
    shortlist: Shortlist
    verifier_scores: tuple[float, ...]
    fusion: Fusion

    @property
    def guided(self) -> bool:
        """Return whether a guide added to the scores of the search."""
        return any(hit.guide is not None for hit in self.generated)

    def identifier_of(self, item: Item) -> str:
        """Return the identifier that an item was found by, or its first one where it was not found."""
        return next((hit.identifier for hit in self.generated if hit.item_id == item.item_id), item.identifier)


@dataclass(frozen=True)
class PriorShare:
    """The share of the identifiers' prior that comes off.

    Attributes:
        weight: how much of it.
        prefixes: log p of each prefix of the explained identifier; None where nothing comes off.
        correction: what the beam search takes off; None where its result is ordered anew, or nothing comes off.
    """

    weight: float
    prefixes: Sequence[float] | None = None
    correction: Correction | None = None


def explain(
    searched: Searched,
    item_id: str,
    *,
    run: RunFolder,
    corpus: Corpus,
    generator: ModelSession,
    prior: PriorShare,
    verifier: str,
    verifier_session: VerifierSession | None,
    num_shifts: int,
) -> dict[str, Any]:
    """Explain why a search found an item, or where it lost it; the module says what is in the result.

    Args:
        searched: the query and what was found.
        item_id: the item; it need not be among what was found.
        run: holds the words of the clusters.
        corpus: what was searched.
        generator: the identifier model, with the picture of the query.
        prior: what comes off the item's score.
        verifier: its name; "none" without one.
        verifier_session: its model, with the picture of the query; None without one.
        num_shifts: cyclic shifts that a listwise verifier was averaged over.

    Raises:
        UserError: the item is not among those that were searched, or was lost by a guided search.
    """
    item = item_of(corpus, item_id)
    text = None if searched.direction.queries_are_images else searched.query
    hits = hits_of(
        searched.shortlist, searched.verifier_scores, searched.fusion, searched.generated, corpus.items
    )  # fmt: skip
    ranks = {hit.item_id: rank for rank, hit in enumerate(hits, start=1)}
    hit = hits[ranks[item_id] - 1] if item_id in ranks else None
    identifier = searched.identifier_of(item)
    sequence = identifier_tokens(generator, searched.direction, identifier)
    inputs = query_inputs(generator, searched.direction, [searched.query])
    model = generator.checkpoint.model
    taken = path_steps(model, inputs, corpus.index, sequence)
    steps = step_rows(generator.checkpoint.tokenizer, identifier, taken, prior.prefixes)
    place = next((place for place, own in enumerate(searched.shortlist.items) if own.item_id == item_id), None)
    if item_id in ranks:
        course = course_of_found(ranks[item_id], [own.item_id for own in searched.shortlist.items], item_id)
    elif searched.guided:
        raise UserError(
            f"a guided search cannot say where it lost {item_id!r}; add --plain to follow the item without the guide"
        )
    else:
        course = course_of_missed(
            model, inputs, corpus.index, sequence,
            num_beams=searched.num_beams, steps=steps, weight=prior.weight, correction=prior.correction,
        )  # fmt: skip
    return {
        "query": {"direction": str(searched.direction), "text": text},
        "item": _item(item, identifier),
        "rank": ranks.get(item_id),
        **_outcome(hit),
        "cluster": cluster_of(identifier, run, text),
        "keywords": keywords_of(item.keywords, text),
        "steps": steps,
        "generator": _generator(searched, item_id, steps, prior),
        "verifier": _verifier(searched, place, verifier, verifier_session, num_shifts),
        "fusion": _fusion(searched.fusion, hit) if place is not None else None,
        "search": course,
    }


def item_of(corpus: Corpus, item_id: str) -> Item:
    """Return an item of a corpus.

    Raises:
        UserError: it has none of this id.
    """
    if item_id not in corpus.items:
        raise UserError(
            f"there is no item {item_id!r} among the {len(corpus.items):,} that are searched; "
            "choose another item, or search another --split"
        )
    return corpus.items[item_id]


def _item(item: Item, identifier: str) -> dict[str, Any]:
    return {
        "item_id": item.item_id,
        "identifier": identifier,
        "text": item.text or None,
        "image_path": None if item.image_path is None else str(item.image_path),
    }


def _outcome(hit: Hit | None) -> dict[str, Any]:
    return {name: getattr(hit, name, None) for name in ("score", "confidence", "no_match")}


def _generator(searched: Searched, item_id: str, steps: Sequence[dict[str, Any]], prior: PriorShare) -> dict[str, Any]:
    log_probability, log_prior = steps[-1]["sum"], steps[-1]["log_prior"]
    ranks = {hit.item_id: rank for rank, hit in enumerate(searched.generated, start=1)}
    guides = {hit.item_id: hit.guide for hit in searched.generated}
    guide = {} if guides.get(item_id) is None else {"guide": guides[item_id]}
    return {
        "log_probability": log_probability,
        "prior_weight": prior.weight,
        "log_prior": log_prior,
        **guide,
        "score": log_probability - (0.0 if log_prior is None else prior.weight * log_prior) + guide.get("guide", 0.0),
        "rank": ranks.get(item_id),
        "num_beams": searched.num_beams,
    }


def _verifier(
    searched: Searched, place: int | None, name: str, session: VerifierSession | None, num_shifts: int
) -> dict[str, Any] | None:
    """Return the verifier's part; None where the item at `place` of the shortlist was not verified."""
    if session is None or place is None:
        return None
    scores = searched.verifier_scores
    return {
        "name": name,
        "score": scores[place],
        "rank": 1 + sum(score > scores[place] for score in scores),
        "num_candidates": len(scores),
        "orders": _orders(searched, place, session, num_shifts) if VERIFIERS[name].ordered and len(scores) > 1 else [],
    }


def _orders(searched: Searched, place: int, session: VerifierSession, num_shifts: int) -> list[dict[str, Any]]:
    """Ask the verifier in every cyclic shift of the candidates, also in those that its score does not use."""
    question = question_of(searched.shortlist)
    base = base_order_of(question, num_shifts)
    orders = [base[offset:] + base[:offset] for offset in range(len(base))]
    counted = shift_offsets(len(base), num_shifts)
    answers = choose_in_given_order(session, searched.direction, [reordered(question, order) for order in orders])
    return [
        {
            "letter": LETTERS[order.index(place)],
            "probability": float(answer[order.index(place)].exp()),
            "counts": offset in counted,
        }
        for offset, (order, answer) in enumerate(zip(orders, answers, strict=True))
    ]


def _fusion(fusion: Fusion, hit: Hit | None) -> dict[str, Any]:
    return {
        "generator_weight": fusion.weight,
        "temperature": fusion.temperature,
        **{name: getattr(hit, name, None) for name in ("score", "confidence")},
        "no_match": None if hit is None or hit.no_match_by is None else asdict(hit.no_match_by),
    }
