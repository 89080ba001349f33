"""Verification questions to train on (paper, section 3.3): mined candidates, one letter each, one is right.

The candidates' order is drawn anew for every question and epoch, so that no letter is a better guess
than another. Reading ten candidates is what costs, so a row asks about them more than once: beside
the query they were mined with, queries whose right answer is another of them.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from semcore.data.dataset import ImageRecord
from semcore.data.directions import Direction
from semcore.data.items_and_queries import Item
from semcore.models.prompts import Prompts
from semcore.models.tokenization import chat_prompt, expand_images, tokenize
from semcore.runtime.errors import UserError
from semcore.runtime.files import read_numbered_jsonl
from semcore.runtime.typed_commands import data_command
from semcore.training.identifier_pairs import Example
from semcore.training.image_inputs import Visuals
from semcore.verification.option_logits import LETTERS, option_tokens
from semcore.verification.question import Choice, Question, images_of, question_turn

KEYS = ("direction", "query", "candidates", "right")


@dataclass(frozen=True)
class CandidateSet:
    """Candidates that were mined together.

    Attributes:
        direction: tells whether the candidates are images or sentences.
        query: what they were mined with: a sentence, or an image's id.
        image_id: the image that the query is, or was written about.
        items: the candidates.
    """

    direction: Direction
    query: str
    image_id: str
    items: tuple[Item, ...]

    def right(self, image_id: str) -> list[int]:
        """Return the places of the candidates that answer a query about an image."""
        return [place for place, item in enumerate(self.items) if item.image_id == image_id]


def read_candidates(
    folder: Path,
    items: Mapping[Direction, Mapping[str, Item]],
    directions: Collection[Direction] | None = None,
) -> list[CandidateSet]:
    """Read RUN/candidates/*.jsonl.

    Args:
        folder: RUN/candidates.
        items: direction -> item id -> item, as `read_items` gives them.
        directions: whose candidates are wanted; those that there are by default.

    Raises:
        UserError: there are none, of a direction that is asked for too, or a line lacks something or names an unknown
            item.
    """
    sets = []
    for path in sorted(folder.glob("*.jsonl")):
        for number, row in read_numbered_jsonl(path):
            try:
                candidates = _to_set(row, items)
            except (KeyError, ValueError) as error:
                raise UserError(f"{path}, line {number}: {error.args[0]!r} is missing or unknown") from None
            if not 2 <= len(candidates.items) <= len(LETTERS):
                raise UserError(
                    f"{path}, line {number}: a question needs 2 to {len(LETTERS)} candidates, "
                    f"found {len(candidates.items)}; mine them anew with another --num-candidates"
                )
            sets.append(candidates)
    there = {own.direction for own in sets}
    missing = [direction for direction in directions or () if direction not in there]
    if missing or not sets:
        raise UserError(
            f"there are no candidates {' and '.join(missing)}{' ' * bool(missing)}in {folder}; "
            f"mine them with `{data_command('candidates', '--run', folder.parent)}`"
        )
    return [own for own in sets if directions is None or own.direction in directions]


@dataclass(frozen=True)
class QuestionSeed:
    """One row to be: a candidate set, and the seed of its order and of its further questions."""

    candidates: CandidateSet
    seed: str


class Drawn(NamedTuple):
    """A question to train on: a letter's token is the answer; `images` are the ids of its images, in order."""

    question: Question
    answer: int
    images: tuple[str, ...]


class QuestionMaker:
    """Make the examples of a row: questions about the same candidates in the same order.

    Args:
        tokenizer: the checkpoint's.
        prompts: `verify_t2i` and `verify_i2t` are used.
        images: whose sentences, or which themselves, are further queries.
        visuals: where the images come from.
        num_extra: further questions a row, at most.
    """

    def __init__(
        self, tokenizer: Any, prompts: Prompts, images: Sequence[ImageRecord], visuals: Visuals, num_extra: int
    ):
        self.tokenizer, self.prompts, self.visuals, self._num_extra = tokenizer, prompts, visuals, num_extra
        self.letters = option_tokens(tokenizer)
        self._sentences = {record.image_id: [sentence.text for sentence in record.sentences] for record in images}

    def __call__(self, question_seed: QuestionSeed) -> list[Example]:
        """Return one example a question; the answer is a letter's token."""
        return [self._example(question_seed.candidates.direction, drawn) for drawn in self.draw(question_seed)]

    def draw(self, question_seed: QuestionSeed) -> list[Drawn]:
        """Return questions about the same candidates in the same order."""
        rng, candidates = random.Random(question_seed.seed), question_seed.candidates
        items = tuple(rng.sample(candidates.items, len(candidates.items)))
        shuffled = CandidateSet(candidates.direction, candidates.query, candidates.image_id, items)
        queries = [(candidates.query, candidates.image_id), *self._further_queries(candidates, rng)]
        return [self._drawn(shuffled, query, rng.choice(shuffled.right(image_id))) for query, image_id in queries]

    def _further_queries(self, candidates: CandidateSet, rng: random.Random) -> list[tuple[str, str]]:
        """Return (query, image id) of other images among the candidates."""
        others = sorted({item.image_id for item in candidates.items} - {candidates.image_id})
        with_images = candidates.direction.queries_are_images
        known = [i for i in others if (i in self.visuals if with_images else self._sentences.get(i))]
        chosen = rng.sample(known, min(self._num_extra, len(known)))
        if with_images:
            return [(image_id, image_id) for image_id in chosen]
        return [(rng.choice(self._sentences[image_id]), image_id) for image_id in chosen]

    def _drawn(self, candidates: CandidateSet, query: str, right: int) -> Drawn:
        choices = tuple(Choice(item.item_id, item.keywords, item.text) for item in candidates.items)
        question = Question(query, choices)
        return Drawn(question, self.letters[right], tuple(images_of(candidates.direction, question)))

    def _example(self, direction: Direction, drawn: Drawn) -> Example:
        turn = question_turn(self.prompts, direction, drawn.question)
        text = expand_images(chat_prompt(self.tokenizer, turn), [self.visuals.num_tokens(i) for i in drawn.images])
        return Example(tokenize(self.tokenizer, text), [drawn.answer], drawn.images)

    def length(self, question_seed: QuestionSeed) -> int:
        """Return about how many tokens a row has, without making it."""
        words = sum(len(item.text.split()) + len(item.keywords.split()) for item in question_seed.candidates.items)
        if question_seed.candidates.direction.queries_are_images:
            return words + (1 + self._num_extra) * self.visuals.num_tokens(question_seed.candidates.query)
        return words + sum(self.visuals.num_tokens(item.item_id) for item in question_seed.candidates.items)

    def can_ask(self, candidates: CandidateSet) -> bool:
        """Tell whether all images are there to be shown."""
        items = (item.item_id for item in candidates.items)
        return all(image_id in self.visuals for image_id in candidates.direction.images_shown(candidates.query, items))


def _to_set(row: Mapping[str, Any], items: Mapping[Direction, Mapping[str, Item]]) -> CandidateSet:
    direction, query, candidates, right = (row[key] for key in KEYS)
    known = items[direction]
    chosen = tuple(known[item_id] for item_id in candidates)
    if right not in candidates:
        raise ValueError("right")
    return CandidateSet(Direction(direction), query, known[right].image_id, chosen)
