"""Pointwise verification: one candidate per prompt, "A. match" or "B. mismatch", scored by the letters' log-odds.

It needs no training and has no order bias. Answering by letter avoids the bias towards "yes" of models
of this kind (FreeRet).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from semcore.data.directions import Direction
from semcore.models.batching import make_prompts
from semcore.models.checkpoint import Checkpoint
from semcore.models.prompts import IMAGE, Prompts
from semcore.verification.option_logits import LETTERS, TOKENS_PER_BATCH, option_tokens, read_options
from semcore.verification.question import Choice, Question

MATCH, MISMATCH = LETTERS[0], LETTERS[1]


def match_log_odds(
    checkpoint: Checkpoint,
    prompts: Prompts,
    direction: Direction,
    questions: Sequence[Question],
    features: Mapping[str, torch.Tensor],
    *,
    tokens_per_batch: int = TOKENS_PER_BATCH,
) -> list[list[float]]:
    """Return log p(match) - log p(mismatch) of each choice of each question, in the order of its choices.

    The order is that of p(match). If exactly one choice is relevant, its posterior is the softmax of the
    log-odds, not of the log-probabilities.

    Args:
        checkpoint: the verifier.
        prompts: hold "verify_pointwise_t2i" and "verify_pointwise_i2t".
        direction: "t2i" (choices are images) or "i2t" (choices are sentences).
        questions: any number of choices each; every choice has a separate prompt.
        features: image id -> visual features (visual tokens, hidden) of all images in the questions.
        tokens_per_batch: bounds the memory of a forward pass.
    """
    pairs = [(question.query, choice) for question in questions for choice in question.choices]
    if not pairs:
        return [[] for _ in questions]
    turns = [pair_turn(prompts, direction, query, choice) for query, choice in pairs]
    images = [[features[i] for i in direction.images_shown(query, [choice.item_id])] for query, choice in pairs]
    options = option_tokens(checkpoint.tokenizer, turns[0], (MATCH, MISMATCH))
    logits = read_options(checkpoint, make_prompts(checkpoint, turns, images), options, tokens_per_batch)
    odds = (logits[:, 0] - logits[:, 1]).split([len(question.choices) for question in questions])
    return [own.tolist() for own in odds]


def pair_turn(prompts: Prompts, direction: Direction, query: str, choice: Choice) -> str:
    """Return the user's turn of one candidate: whether it matches the query."""
    candidate: dict[str, Any] = {"keywords": choice.keywords, "image": IMAGE, "sentence": choice.sentence}
    return prompts.render(
        direction.pointwise_prompt, candidate=candidate, query=query, image=IMAGE, match=MATCH, mismatch=MISMATCH
    )
