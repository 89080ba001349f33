"""Training pairs <query, identifier> as token ids (paper, section 3.4).

Labels come from `semcore.models.tokenization.answer_tokens`, as the sequences of the index do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from semcore.data.dataset import ImageRecord
from semcore.data.directions import Direction
from semcore.data.identifier_files import IdentifierRow, all_identifiers
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
        units: numbers of the answer's units, for the set head; empty where it is not trained.
    """

    prompt: Sequence[int]
    answer: Sequence[int]
    images: tuple[str, ...] = ()
    candidates: Sequence[int] = ()
    right: int = 0
    shares: Mapping[int, float] = field(default_factory=dict)
    units: Sequence[int] = ()


def identifier_examples(
    tokenizer: Any,
    prompts: Prompts,
    images: Sequence[ImageRecord],
    identifiers: Mapping[Direction, Sequence[IdentifierRow]],
    held_out: HeldOut,
    visuals: Visuals,
    units: Mapping[str, Sequence[int]] | None = None,
) -> tuple[list[Example], list[list[Example]]]:
    """Return the pairs of both directions.

    t2i: every sentence is paired with its image's identifier. i2t: every image is paired with the
    identifier of each of its sentences. An image without an identifier is left out of both. A direction
    without identifiers has no pairs. An item of several identifiers has a pair with each: they share their prompt, and
    so a row, where it is read once.

    Args:
        tokenizer: with the cluster tokens.
        prompts: `identify_t2i` and `identify_i2t` are used.
        images: the training split.
        identifiers: direction that is trained -> its rows, as `read_identifiers` gives them.
        held_out: queries that are left out.
        visuals: the source of the images; an image that it lacks is left out as a query.
        units: identifier -> numbers of its units, for the set head.

    Returns:
        The examples of t2i, and those of i2t image by image.

    Raises:
        UserError: no pair is left in either direction.
    """
    texts = {
        direction: {row["item_id"]: all_identifiers(row) for row in rows} for direction, rows in identifiers.items()
    }
    of_image, of_sentence = texts.get(Direction.T2I), texts.get(Direction.I2T, {})
    known = [record for record in images if of_image is None or record.image_id in of_image]
    asked = (
        [
            (sentence.text, identifier)
            for record in known
            for sentence in record.sentences
            if sentence.sentence_id not in held_out.sentence_ids
            for identifier in of_image[record.image_id]
        ]
        if of_image is not None
        else []
    )
    t2i = text_examples(tokenizer, prompts, asked, units)
    shown = [
        (record.image_id, [identifier for s in record.sentences for identifier in of_sentence.get(s.sentence_id, ())])
        for record in known
        if record.image_id not in held_out.image_ids
    ]
    i2t = image_examples(tokenizer, prompts, Direction.I2T.identify_prompt, shown, visuals, units)
    if not t2i and not i2t:
        raise UserError(
            f"there is nothing to train on: {len(images)} training images, {len(known)} of them with an identifier; "
            "make the identifiers again, or hold fewer queries out with --held-out.image-fraction"
        )
    return t2i, i2t


def text_examples(
    tokenizer: Any,
    prompts: Prompts,
    pairs: Iterable[tuple[str, str]],
    units: Mapping[str, Sequence[int]] | None = None,
) -> list[Example]:
    """Return an example for each text that asks for an image.

    Args:
        tokenizer: with the identifiers' tokens.
        prompts: `identify_t2i` is used.
        pairs: texts, each with the image's identifier.
        units: as in `identifier_examples`.
    """
    name, units = Direction.T2I.identify_prompt, units or {}
    answers = AnswerTokens(tokenizer, chat_prompt(tokenizer, prompts.render(name, query="")))
    return [
        Example(
            tokenize(tokenizer, chat_prompt(tokenizer, prompts.render(name, query=text))),
            answers[identifier],
            units=units.get(identifier, ()),
        )
        for text, identifier in pairs
    ]


def image_examples(
    tokenizer: Any,
    prompts: Prompts,
    prompt_name: str,
    shown: Iterable[tuple[str, Sequence[str]]],
    visuals: Visuals,
    units: Mapping[str, Sequence[int]] | None = None,
) -> list[list[Example]]:
    """Return the examples of each image that asks for identifiers; images without any, or unreadable, have none.

    Args:
        tokenizer: with the identifiers' tokens.
        prompts: hold the named one.
        prompt_name: what is asked of the image.
        shown: ids of images, each with the identifiers that it asks for.
        visuals: the source of the images.
        units: as in `identifier_examples`.
    """
    turn, units = chat_prompt(tokenizer, prompts.render(prompt_name, image=IMAGE)), units or {}
    answers = AnswerTokens(tokenizer, expand_images(turn, [1]))
    tokens_of: dict[int, list[int]] = {}  # images with equally many visual tokens share one prompt
    groups = []
    for image_id, identifiers in shown:
        if image_id not in visuals or not identifiers:
            continue
        count = visuals.num_tokens(image_id)
        if count not in tokens_of:
            tokens_of[count] = tokenize(tokenizer, expand_images(turn, [count]))
        groups.append([
            Example(tokens_of[count], answers[text], (image_id,), units=units.get(text, ())) for text in identifiers
        ])  # fmt: skip
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
