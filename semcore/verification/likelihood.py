"""Verification by likelihood: log p(sentence | image) - log p(sentence), from the captioner, without training.

Subtracting the sentence's prior log-probability leaves the information from the image: a generic sentence
is likely for any image.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from semcore.models.checkpoint import Checkpoint
from semcore.models.prompts import IMAGE, escape_special_tokens
from semcore.models.session import ModelSession
from semcore.models.tokenization import answer_tokens, chat_prompt
from semcore.runtime.resumable import RunStep, run_at_once
from semcore.verification.answer_scoring import ScoringRequest, answer_log_probabilities

IMAGES_PER_CHUNK = 64
SENTENCES_PER_CHUNK = 2_048


class Pair(NamedTuple):
    """An image, by its id, and a sentence."""

    image_id: str
    sentence: str


def likelihood_gains(session: ModelSession, pairs: Iterable[Pair], run: RunStep = run_at_once) -> dict[Pair, float]:
    """Return log p(sentence | image) - log p(sentence) of every pair, each scored once.

    Args:
        session: the captioner; its prompts hold "sentence_of_image" and "sentence_alone".
        pairs: in any order, possibly with repetitions.
        run: runs the two steps, "likelihood with the image" and "likelihood without".
    """
    sentences_of: dict[str, set[str]] = {}
    for pair in pairs:
        sentences_of.setdefault(pair.image_id, set()).add(pair.sentence)
    tasks = [(image_id, sorted(own)) for image_id, own in sorted(sentences_of.items())]
    sentences = sorted(set().union(*sentences_of.values()))

    def given_image(chunk: list[tuple[str, list[str]]]) -> list[list[float]]:
        return given_image_log_probabilities(session, chunk)

    def without_image(chunk: list[str]) -> list[float]:
        return sentence_log_probabilities(session, chunk)

    given = run("likelihood with the image", tasks, IMAGES_PER_CHUNK, given_image, "image")
    alone = run("likelihood without", sentences, SENTENCES_PER_CHUNK, without_image, "sentence")
    without = dict(zip(sentences, alone, strict=True))
    return {
        Pair(image_id, sentence): score - without[sentence]
        for (image_id, own), scores in zip(tasks, given, strict=True)
        for sentence, score in zip(own, scores, strict=True)
    }


def given_image_log_probabilities(
    session: ModelSession, sentences: Sequence[tuple[str, Sequence[str]]]
) -> list[list[float]]:
    """Return log p(sentence | image) for some sentences of each image; an image is read once for about a dozen.

    Args:
        session: the captioner; its prompts hold "sentence_of_image".
        sentences: (image id, sentences) of every image.
    """
    turn = session.prompts.render("sentence_of_image", image=IMAGE)
    rows = session.make_prompts([turn] * len(sentences), [[image_id] for image_id, _ in sentences])
    answers = _answers(session.checkpoint, turn, [text for _, texts in sentences for text in texts])
    requests = [
        ScoringRequest(row, [answers[text] for text in texts]) for row, (_, texts) in zip(rows, sentences, strict=True)
    ]
    return answer_log_probabilities(session.checkpoint, requests)


def sentence_log_probabilities(session: ModelSession, sentences: Sequence[str]) -> list[float]:
    """Return log p(sentence), without an image."""
    turn = session.prompts.render("sentence_alone")
    answers = _answers(session.checkpoint, turn, sentences)
    [row] = session.make_prompts([turn], [()])
    request = ScoringRequest(row, [answers[text] for text in sentences])
    return answer_log_probabilities(session.checkpoint, [request])[0]


def _answers(checkpoint: Checkpoint, turn: str, sentences: Sequence[str]) -> dict[str, list[int]]:
    """Return the tokens of each sentence as an answer; special tokens in it are escaped."""
    harmless = escape_special_tokens(checkpoint.special_tokens)
    prompt = chat_prompt(checkpoint.tokenizer, turn)
    return {text: answer_tokens(checkpoint.tokenizer, prompt, harmless(text)) for text in dict.fromkeys(sentences)}
