"""Training pairs <query, identifier> as token ids (paper, section 3.4).

Labels come from `semcore.models.tokenization.answer_tokens`, as the sequences of the index do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from semcore.data.dataset import ImageRecord
from semcore.data.directions import Direction
from semcore.data.identifier_files import IdentifierRow
from semcore.models.prompts import IMAGE, Prompts
from semcore.models.tokenization import answer_tokens, chat_prompt, expand_images, tokenize
from semcore.runtime.errors import UserError
from semcore.training.held_out import HeldOut
from semcore.training.image_inputs import Visuals


@dataclass(frozen=True)
class Example:
    """A prompt and its target answer, as token ids.

    Attributes:
        prompt: token ids.
        answer: token ids.
        images: ids of the images of the prompt, in order.
        candidates: the candidate that each token of the prompt shows, from 1 on, 0 for none; empty where attention
            is not supervised.
        right: the candidate that the answer's first token names.
        shares: token -> its probability as the answer, where several single tokens are right; empty where one is.
    """

    prompt: Sequence[int]
    answer: Sequence[int]
    images: tuple[str, ...] = ()
    candidates: Sequence[int] = ()
    right: int = 0
    shares: Mapping[int, float] = field(default_factory=dict)


def identifier_examples(
    tokenizer: Any,
    prompts: Prompts,
    images: Sequence[ImageRecord],
    identifiers: Mapping[Direction, Sequence[IdentifierRow]],
    held_out: HeldOut,
    visuals: Visuals,
) -> tuple[list[Example], list[list[Example]]]:
    """Return the pairs of both directions.

    t2i: every sentence is paired with its image's identifier. i2t: every image is paired with the
    identifier of each of its sentences. An image without an identifier is left out of both. A direction
    without identifiers has no pairs.

    Args:
        tokenizer: with the cluster tokens.
        prompts: `identify_t2i` and `identify_i2t` are used.
        images: the training split.
        identifiers: direction that is trained -> its rows, as `read_identifiers` gives them.
        held_out: queries that are left out.
        visuals: the source of the images; an image that it lacks is left out as a query.

    Returns:
        The examples of t2i, and those of i2t image by image.

    Raises:
        UserError: no pair is left in either direction.
    """
    texts = {direction: {row["item_id"]: row["identifier"] for row in rows} for direction, rows in identifiers.items()}
    of_image = texts.get(Direction.T2I)
    known = [record for record in images if of_image is None or record.image_id in of_image]
    t2i = _t2i_examples(tokenizer, prompts, known, of_image, held_out) if of_image is not None else []
    i2t = _i2t_examples(tokenizer, prompts, known, texts.get(Direction.I2T, {}), held_out, visuals)
    if not t2i and not i2t:
        raise UserError(
            f"there is nothing to train on: {len(images)} training images, {len(known)} of them with an identifier; "
            "make the identifiers again, or hold fewer queries out with --held-out.image-fraction"
        )
    return t2i, i2t


def _t2i_examples(
    tokenizer: Any,
    prompts: Prompts,
    images: Iterable[ImageRecord],
    of_image: Mapping[str, str],
    held_out: HeldOut,
) -> list[Example]:
    answers = AnswerTokens(tokenizer, chat_prompt(tokenizer, prompts.render(Direction.T2I.identify_prompt, query="")))
    return [
        Example(
            tokenize(
                tokenizer, chat_prompt(tokenizer, prompts.render(Direction.T2I.identify_prompt, query=sentence.text))
            ),
            answers[of_image[record.image_id]],
        )
        for record in images
        for sentence in record.sentences
        if sentence.sentence_id not in held_out.sentence_ids
    ]


def _i2t_examples(
    tokenizer: Any,
    prompts: Prompts,
    images: Iterable[ImageRecord],
    of_sentence: Mapping[str, str],
    held_out: HeldOut,
    visuals: Visuals,
) -> list[list[Example]]:
    turn = chat_prompt(tokenizer, prompts.render(Direction.I2T.identify_prompt, image=IMAGE))
    answers = AnswerTokens(tokenizer, expand_images(turn, [1]))
    tokens_of: dict[int, list[int]] = {}  # images with equally many visual tokens share one prompt
    groups = []
    for record in images:
        known = [s.sentence_id for s in record.sentences if s.sentence_id in of_sentence]
        if record.image_id in held_out.image_ids or record.image_id not in visuals or not known:
            continue
        count = visuals.num_tokens(record.image_id)
        if count not in tokens_of:
            tokens_of[count] = tokenize(tokenizer, expand_images(turn, [count]))
        groups.append([Example(tokens_of[count], answers[of_sentence[i]], (record.image_id,)) for i in known])
    return groups


class AnswerTokens(dict[str, list[int]]):
    """Answer -> its tokens after a prompt, computed once per answer.

    The prompts of one task all end in the chat template's own special tokens, so an answer's tokens
    are the same after each of them.
    """

    def __init__(self, tokenizer: Any, prompt: str):
        super().__init__()
        self._tokenizer, self._prompt = tokenizer, prompt

    def __missing__(self, answer: str) -> list[int]:
        self[answer] = answer_tokens(self._tokenizer, self._prompt, answer)
        return self[answer]
