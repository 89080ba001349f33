"""Pointwise verification: one candidate per prompt, "A. match" or "B. mismatch", scored by the letters' log-odds.

It needs no training and has no order bias. Answering by letter avoids the bias towards "yes" of models
of this kind (FreeRet).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from semcore.data.directions import Direction
from semcore.models.prompts import IMAGE, Prompts
from semcore.models.session import ModelSession
from semcore.verification.option_logits import LETTERS, TOKENS_PER_BATCH, option_tokens, read_options
from semcore.verification.question import Choice, Question

MATCH, MISMATCH = LETTERS[0], LETTERS[1]


def match_log_odds(
    session: ModelSession,
    direction: Direction,
    questions: Sequence[Question],
    *,
    tokens_per_batch: int = TOKENS_PER_BATCH,
) -> list[list[float]]:
    """Return log p(match) - log p(mismatch) of each choice of each question, in the order of its choices.

    The order is that of p(match). If exactly one choice is relevant, its posterior is the softmax of the
    log-odds, not of the log-probabilities.

    Args:
        session: the verifier; its prompts hold "verify_pointwise_t2i" and "verify_pointwise_i2t".
        direction: "t2i" (choices are images) or "i2t" (choices are sentences).
        questions: any number of choices each; every choice has a separate prompt.
        tokens_per_batch: bounds the memory of a forward pass.
    """
    pairs = [(question.query, choice) for question in questions for choice in question.choices]
    if not pairs:
        return [[] for _ in questions]
    turns = [pair_turn(session.prompts, direction, query, choice) for query, choice in pairs]
    images = [direction.images_shown(query, [choice.item_id]) for query, choice in pairs]
    options = option_tokens(session.checkpoint.tokenizer, turns[0], (MATCH, MISMATCH))
    logits = read_options(session.checkpoint, session.make_prompts(turns, images), options, tokens_per_batch)
    odds = (logits[:, 0] - logits[:, 1]).split([len(question.choices) for question in questions])
    return [own.tolist() for own in odds]


def pair_turn(prompts: Prompts, direction: Direction, query: str, choice: Choice) -> str:
    """Return the user's turn of one candidate: whether it matches the query."""
    candidate: dict[str, Any] = {"keywords": choice.keywords, "image": IMAGE, "sentence": choice.sentence}
    return prompts.render(
        direction.pointwise_prompt, candidate=candidate, query=query, image=IMAGE, match=MATCH, mismatch=MISMATCH
    )
