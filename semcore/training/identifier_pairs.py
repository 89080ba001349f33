"""Training pairs <query, identifier> as token ids (paper, section 3.4).

Labels come from `semcore.models.tokenization.answer_tokens`, as the sequences of the index do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, pairwise
from operator import itemgetter
from typing import Any

from semcore.data.dataset import ImageRecord
from semcore.data.directions import Direction
from semcore.data.identifier_files import IdentifierRow, all_identifiers
from semcore.models.prompts import IMAGE, Prompts
from semcore.models.tokenization import (
    answer_tokens,
    chat_prompt,
    expand_images,
    flat_answer_tokens,
    tokenize,
    tokenize_all,
)
from semcore.runtime.errors import UserError
from semcore.runtime.long_lists import chosen, kept, keyed
from semcore.training.held_out import HeldOut
from semcore.training.image_inputs import Visuals

_PAIRS_AT_ONCE = 1024
_MOST_ANSWERS = 20_000


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
) -> tuple[Sequence[Example], Sequence[Sequence[Example]]]:
    """Return the pairs of both directions; many of them lie on the disk (`semcore.runtime.long_lists`).

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
    texts = {direction: identifiers_by_item(rows) for direction, rows in identifiers.items()}
    of_image, of_sentence = texts.get(Direction.T2I), texts.get(Direction.I2T, {})
    known = images if of_image is None else chosen(images, lambda record: record.image_id in of_image)
    asked = (
        (sentence.text, identifier)
        for record in (() if of_image is None else known)
        for sentence in record.sentences
        if sentence.sentence_id not in held_out.sentence_ids
        for identifier in (of_image or {})[record.image_id]
    )
    t2i = text_examples(tokenizer, prompts, asked, units)
    shown = (
        (record.image_id, [identifier for s in record.sentences for identifier in of_sentence.get(s.sentence_id, ())])
        for record in known
        if record.image_id not in held_out.image_ids
    )
    i2t = image_examples(tokenizer, prompts, Direction.I2T.identify_prompt, shown, visuals, units)
    if not t2i and not i2t:
        raise UserError(
            f"there is nothing to train on: {len(images)} training images, {len(known)} of them with an identifier; "
            "make the identifiers again, or hold fewer queries out with --held-out.image-fraction"
        )
    return t2i, i2t


def identifiers_by_item(rows: Sequence[IdentifierRow]) -> Mapping[str, list[str]]:
    """Return item id -> its identifiers."""
    return keyed(rows, itemgetter("item_id"), all_identifiers)


def text_examples(
    tokenizer: Any,
    prompts: Prompts,
    pairs: Iterable[tuple[str, str]],
    units: Mapping[str, Sequence[int]] | None = None,
) -> Sequence[Example]:
    """Return an example for each text that asks for an image.

    Args:
        tokenizer: with the identifiers' tokens.
        prompts: `identify_t2i` is used.
        pairs: texts, each with the image's identifier.
        units: as in `identifier_examples`.
    """
    return kept(_text_examples(tokenizer, prompts, iter(pairs), units or {}), _plain, _from_plain)


def _text_examples(
    tokenizer: Any, prompts: Prompts, pairs: Iterator[tuple[str, str]], units: Mapping[str, Sequence[int]]
) -> Iterator[Example]:
    name = Direction.T2I.identify_prompt
    answers = AnswerTokens(tokenizer, chat_prompt(tokenizer, prompts.render(name, query="")))
    while some := list(islice(pairs, _PAIRS_AT_ONCE)):
        answers.learn(identifier for _, identifier in some)
        turns = [chat_prompt(tokenizer, prompts.render(name, query=text)) for text, _ in some]
        for tokens, (_, identifier) in zip(tokenize_all(tokenizer, turns), some, strict=True):
            yield Example(tokens, answers[identifier], units=units.get(identifier, ()))


def _plain(example: Example) -> tuple[Any, ...]:
    lists = (example.prompt, example.answer, example.candidates, example.units)
    return *map(list, lists), example.images, example.right, dict(example.shares)


def _from_plain(content: tuple[Any, ...]) -> Example:
    prompt, answer, candidates, units, images, right, shares = content
    return Example(prompt, answer, images, candidates or (), right, shares, units or ())


def image_examples(
    tokenizer: Any,
    prompts: Prompts,
    prompt_name: str,
    shown: Iterable[tuple[str, Sequence[str]]],
    visuals: Visuals,
    units: Mapping[str, Sequence[int]] | None = None,
) -> Sequence[list[Example]]:
    """Return the examples of each image that asks for identifiers; images without any, or unreadable, have none.

    Args:
        tokenizer: with the identifiers' tokens.
        prompts: hold the named one.
        prompt_name: what is asked of the image.
        shown: ids of images, each with the identifiers that it asks for.
        visuals: the source of the images.
        units: as in `identifier_examples`.
    """
    turn = chat_prompt(tokenizer, prompts.render(prompt_name, image=IMAGE))
    groups = _image_examples(tokenizer, turn, iter(shown), visuals, units or {})
    return kept(
        groups,
        lambda group: [_plain(example) for example in group],
        lambda content: [_from_plain(own) for own in content],
    )


def _image_examples(
    tokenizer: Any,
    turn: str,
    shown: Iterator[tuple[str, Sequence[str]]],
    visuals: Visuals,
    units: Mapping[str, Sequence[int]],
) -> Iterator[list[Example]]:
    answers = AnswerTokens(tokenizer, expand_images(turn, [1]))
    tokens_of: dict[int, list[int]] = {}  # images with equally many visual tokens share one prompt
    while some := list(islice(shown, _PAIRS_AT_ONCE)):
        usable = [(image_id, texts) for image_id, texts in some if texts and image_id in visuals]
        answers.learn(text for _, texts in usable for text in texts)
        for image_id, texts in usable:
            count = visuals.num_tokens(image_id)
            if count not in tokens_of:
                tokens_of[count] = tokenize(tokenizer, expand_images(turn, [count]))
            prompt = tokens_of[count]
            yield [Example(prompt, answers[text], (image_id,), units=units.get(text, ())) for text in texts]


class AnswerTokens(dict[str, list[int]]):
    """Answer -> its tokens after a prompt, of those that were learnt last.

    The prompts of one task all end in the chat template's own special tokens, so an answer's tokens
    are the same after each of them.
    """

    def __init__(self, tokenizer: Any, prompt: str):
        super().__init__()
        self._tokenizer, self._prompt = tokenizer, prompt

    def learn(self, answers: Iterable[str]) -> None:
        """Tokenize answers together, those that are not known yet; far too many are forgotten before."""
        if len(self) > _MOST_ANSWERS:
            self.clear()
        new = [answer for answer in dict.fromkeys(answers) if answer not in self]
        tokens, ends = flat_answer_tokens(self._tokenizer, self._prompt, new)
        for answer, (start, end) in zip(new, pairwise(ends.tolist()), strict=True):
            self[answer] = tokens[start:end].tolist()

    def __missing__(self, answer: str) -> list[int]:
        self[answer] = answer_tokens(self._tokenizer, self._prompt, answer)
        return self[answer]
