"""Verifiers by name: each scores every candidate of a shortlist."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import torch

from semcore.data.directions import Direction
from semcore.data.items_and_queries import Item
from semcore.models.checkpoint import Checkpoint
from semcore.models.prompts import Prompts
from semcore.retrieval.shortlist import Shortlist, question_of
from semcore.verification import (
    BlockReader,
    choose,
    given_image_log_probabilities,
    match_log_odds,
    sentence_log_probabilities,
)

VerifierName = Literal["listwise", "blocks", "pointwise", "likelihood"]
"""Names of the verifiers; "blocks" is the listwise verifier that was trained in candidate blocks."""


def listwise_scores(
    checkpoint: Checkpoint,
    prompts: Prompts,
    direction: Direction,
    shortlists: Sequence[Shortlist],
    features: Mapping[str, torch.Tensor],
    num_shifts: int = 1,
    blocks: BlockReader | None = None,
) -> list[list[float]]:
    """Return the log-probability of each candidate as the verifier's choice, one forward pass per query and shift.

    With fewer than two candidates there is no choice to make, and no forward pass. `features` are image id ->
    (visual tokens, hidden).
    """
    scored = [shortlist for shortlist in shortlists if len(shortlist.items) > 1]
    questions = [question_of(shortlist) for shortlist in scored]
    scores = choose(checkpoint, prompts, direction, questions, features, num_shifts=num_shifts, blocks=blocks)
    chosen = iter(scores)
    return [next(chosen) if len(own.items) > 1 else [0.0] * len(own.items) for own in shortlists]


def pointwise_scores(
    checkpoint: Checkpoint,
    prompts: Prompts,
    direction: Direction,
    shortlists: Sequence[Shortlist],
    features: Mapping[str, torch.Tensor],
) -> list[list[float]]:
    """Return the log-odds that each candidate matches, one forward pass per candidate.

    `features` are image id -> (visual tokens, hidden).
    """
    return match_log_odds(checkpoint, prompts, direction, [question_of(own) for own in shortlists], features)


def pair_of(direction: Direction, query: str, item: Item) -> tuple[str, str]:
    """Return the (image id, sentence) that a query and an item make."""
    return (item.image_id, query) if direction.items_are_images else (query, item.text)


def pairs_to_score(direction: Direction, shortlists: Iterable[Shortlist]) -> dict[str, dict[str, None]]:
    """Return image id -> its sentences, each pair once, in order of first appearance."""
    pairs: dict[str, dict[str, None]] = {}
    for shortlist in shortlists:
        for item in shortlist.items:
            image_id, sentence = pair_of(direction, shortlist.query, item)
            pairs.setdefault(image_id, {}).setdefault(sentence)
    return pairs


def likelihood_scores(
    checkpoint: Checkpoint,
    prompts: Prompts,
    direction: Direction,
    shortlists: Sequence[Shortlist],
    features: Mapping[str, torch.Tensor],
) -> list[list[float]]:
    """Return log p(sentence | image) - log p(sentence) of each query with each of its candidates.

    `features` are image id -> (visual tokens, hidden).
    """
    pairs = [(image_id, list(texts)) for image_id, texts in pairs_to_score(direction, shortlists).items()]
    given = given_image_log_probabilities(checkpoint, prompts, pairs, features)
    conditional = {
        (image_id, text): score
        for (image_id, texts), scores in zip(pairs, given, strict=True)
        for text, score in zip(texts, scores, strict=True)
    }
    sentences = list(dict.fromkeys(text for _, texts in pairs for text in texts))
    alone = dict(zip(sentences, sentence_log_probabilities(checkpoint, prompts, sentences), strict=True))
    return combine_likelihoods(direction, shortlists, conditional, alone)


def verifier_scores(
    verifier: VerifierName,
    checkpoint: Checkpoint,
    prompts: Prompts,
    direction: Direction,
    shortlists: Sequence[Shortlist],
    features: Mapping[str, torch.Tensor],
    *,
    num_shifts: int = 1,
    blocks: BlockReader | None = None,
) -> list[list[float]]:
    """Return a verifier's score of each candidate of each shortlist.

    Args:
        verifier: name of the verifier; the scores of different verifiers cannot be compared.
        checkpoint: the verifier's model.
        prompts: its prompts.
        direction: "t2i" or "i2t".
        shortlists: queries with their candidates.
        features: image id -> visual features (visual tokens, hidden) of all images in prompts.
        num_shifts: cyclic shifts of the candidates; only a listwise verifier has an order to shift.
        blocks: reader of a listwise verifier's questions, if it was trained in candidate blocks.
    """
    if verifier in ("listwise", "blocks"):
        return listwise_scores(checkpoint, prompts, direction, shortlists, features, num_shifts, blocks)
    score = pointwise_scores if verifier == "pointwise" else likelihood_scores
    return score(checkpoint, prompts, direction, shortlists, features)


def combine_likelihoods(
    direction: Direction,
    shortlists: Sequence[Shortlist],
    conditional: Mapping[tuple[str, str], float],
    alone: Mapping[str, float],
) -> list[list[float]]:
    """Return each candidate's score from log p(sentence | image) and log p(sentence)."""
    return [
        [
            conditional[pair] - alone[pair[1]]
            for pair in (pair_of(direction, shortlist.query, item) for item in shortlist.items)
        ]
        for shortlist in shortlists
    ]
