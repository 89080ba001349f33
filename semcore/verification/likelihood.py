"""Verification by likelihood: log p(sentence | image) - log p(sentence), from the captioner, without training.

Subtracting the sentence's prior log-probability leaves the information from the image: a generic sentence
is likely for any image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from semcore.models.batching import make_prompts
from semcore.models.checkpoint import Checkpoint
from semcore.models.prompts import IMAGE, Prompts, escape_special_tokens
from semcore.models.tokenization import answer_tokens, chat_prompt
from semcore.verification.answer_scoring import ScoringRequest, answer_log_probabilities


def given_image_log_probabilities(
    checkpoint: Checkpoint,
    prompts: Prompts,
    sentences: Sequence[tuple[str, Sequence[str]]],
    features: Mapping[str, torch.Tensor],
) -> list[list[float]]:
    """Return log p(sentence | image) for some sentences of each image; an image is read once for about a dozen.

    Args:
        checkpoint: the captioner.
        prompts: hold "sentence_of_image".
        sentences: (image id, sentences) of every image.
        features: image id -> visual features (visual tokens, hidden).
    """
    turn = prompts.render("sentence_of_image", image=IMAGE)
    images = [[features[image_id]] for image_id, _ in sentences]
    rows = make_prompts(checkpoint, [turn] * len(images), images)
    answers = _answers(checkpoint, turn, [text for _, texts in sentences for text in texts])
    requests = [
        ScoringRequest(row, [answers[text] for text in texts]) for row, (_, texts) in zip(rows, sentences, strict=True)
    ]
    return answer_log_probabilities(checkpoint, requests)


def sentence_log_probabilities(checkpoint: Checkpoint, prompts: Prompts, sentences: Sequence[str]) -> list[float]:
    """Return log p(sentence), without an image."""
    turn = prompts.render("sentence_alone")
    answers = _answers(checkpoint, turn, sentences)
    [row] = make_prompts(checkpoint, [turn])
    return answer_log_probabilities(checkpoint, [ScoringRequest(row, [answers[text] for text in sentences])])[0]


def _answers(checkpoint: Checkpoint, turn: str, sentences: Sequence[str]) -> dict[str, list[int]]:
    """Return the tokens of each sentence as an answer; special tokens in it are escaped."""
    harmless = escape_special_tokens(checkpoint.special_tokens)
    prompt = chat_prompt(checkpoint.tokenizer, turn)
    return {text: answer_tokens(checkpoint.tokenizer, prompt, harmless(text)) for text in dict.fromkeys(sentences)}
