"""Training questions of the verifier (paper, section 3.3): mined candidates, one letter each, one of them relevant.

The candidates' order is drawn for every question and epoch, so that no letter is more likely than
another. Most of the cost is reading the candidates, so a row has several questions about them: for
the query they were mined with, and for queries whose relevant item is another of them.
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
from semcore.training.candidate_marks import check_marks, tokenize_marked
from semcore.training.identifier_pairs import Example
from semcore.training.image_inputs import Visuals
from semcore.verification.block_layout import cut_question
from semcore.verification.option_logits import LETTERS, option_tokens
from semcore.verification.question import Choice, Question, images_of, question_turn

KEYS = ("direction", "query", "candidates", "right")


@dataclass(frozen=True)
class CandidateSet:
    """The candidates mined with one query.

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

    def relevant(self, image_id: str) -> list[int]:
        """Return the indices of the candidates that are relevant to a query about an image."""
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
    """The seed of a row: a candidate set, and the seed of its order and of its further questions."""

    candidates: CandidateSet
    seed: str


class Drawn(NamedTuple):
    """A training question.

    Attributes:
        question: the query and the candidates.
        answer: the token of a right candidate's letter.
        images: ids of its images, in order.
        shares: token of each right candidate's letter -> its probability as the answer; they are equally right.
    """

    question: Question
    answer: int
    images: tuple[str, ...]
    shares: dict[int, float]


class QuestionMaker:
    """Maker of a row's examples: questions about the same candidates in the same order.

    Args:
        tokenizer: the checkpoint's.
        prompts: `verify_t2i` and `verify_i2t` are used.
        images: the images that are further queries, or whose sentences are.
        visuals: the source of the images.
        num_extra: further questions per row, at most.
        marked: tell which tokens show which candidate, for `semcore.training.attention_loss`.

    Raises:
        UserError: the prompts do not let candidates be told apart that are to be marked.
    """

    def __init__(
        self,
        tokenizer: Any,
        prompts: Prompts,
        images: Sequence[ImageRecord],
        visuals: Visuals,
        num_extra: int,
        *,
        marked: bool = False,
    ):
        self.tokenizer, self.prompts, self.visuals, self._num_extra = tokenizer, prompts, visuals, num_extra
        self.marked = marked
        if marked:
            check_marks(tokenizer, prompts)
        self.letters = option_tokens(tokenizer)
        self._sentences = {record.image_id: [sentence.text for sentence in record.sentences] for record in images}

    def __call__(self, question_seed: QuestionSeed) -> list[Example]:
        """Return one example per question; the answer is a letter's token."""
        return [self._example(question_seed.candidates.direction, drawn) for drawn in self.draw(question_seed)]

    def draw(self, question_seed: QuestionSeed) -> list[Drawn]:
        """Return questions about the same candidates in the same order."""
        rng, candidates = random.Random(question_seed.seed), question_seed.candidates
        items = tuple(rng.sample(candidates.items, len(candidates.items)))
        shuffled = CandidateSet(candidates.direction, candidates.query, candidates.image_id, items)
        queries = [(candidates.query, candidates.image_id), *self._further_queries(candidates, rng)]
        return [self._drawn(shuffled, query, shuffled.relevant(image_id), rng) for query, image_id in queries]

    def _further_queries(self, candidates: CandidateSet, rng: random.Random) -> list[tuple[str, str]]:
        """Return (query, image id): other images among the candidates, or sentences of the candidates.

        Half of the sentences are further ones of the image that the candidates were mined for: among them they are
        the hard questions.
        """
        others = sorted({item.image_id for item in candidates.items} - {candidates.image_id})
        if candidates.direction.queries_are_images:
            known = [image_id for image_id in others if image_id in self.visuals]
            return [(image_id, image_id) for image_id in rng.sample(known, min(self._num_extra, len(known)))]
        own = [text for text in self._sentences.get(candidates.image_id, []) if text != candidates.query]
        hard = rng.sample(own, min(self._num_extra // 2, len(own)))
        known = [image_id for image_id in others if self._sentences.get(image_id)]
        chosen = rng.sample(known, min(self._num_extra - len(hard), len(known)))
        easy = [(rng.choice(self._sentences[image_id]), image_id) for image_id in chosen]
        return [*((text, candidates.image_id) for text in hard), *easy]

    def _drawn(self, candidates: CandidateSet, query: str, relevant: Sequence[int], rng: random.Random) -> Drawn:
        choices = tuple(Choice(item.item_id, item.keywords, item.text) for item in candidates.items)
        question = Question(query, choices)
        images = tuple(images_of(candidates.direction, question))
        shares = {self.letters[place]: 1 / len(relevant) for place in relevant}
        return Drawn(question, self.letters[rng.choice(relevant)], images, shares)

    def _example(self, direction: Direction, drawn: Drawn) -> Example:
        visual_tokens = [self.visuals.num_tokens(image_id) for image_id in drawn.images]
        if self.marked:
            pieces = cut_question(self.tokenizer, self.prompts, direction, drawn.question)
            tokens, candidates = tokenize_marked(self.tokenizer, pieces, visual_tokens)
            right = 1 + self.letters.index(drawn.answer)
            return Example(tokens, [drawn.answer], drawn.images, candidates, right, drawn.shares)
        turn = question_turn(self.prompts, direction, drawn.question)
        text = expand_images(chat_prompt(self.tokenizer, turn), visual_tokens)
        return Example(tokenize(self.tokenizer, text), [drawn.answer], drawn.images, shares=drawn.shares)

    def length(self, question_seed: QuestionSeed) -> int:
        """Estimate the number of tokens of a row without making it."""
        words = sum(len(item.text.split()) + len(item.keywords.split()) for item in question_seed.candidates.items)
        if question_seed.candidates.direction.queries_are_images:
            return words + (1 + self._num_extra) * self.visuals.num_tokens(question_seed.candidates.query)
        return words + sum(self.visuals.num_tokens(item.item_id) for item in question_seed.candidates.items)

    def can_ask(self, candidates: CandidateSet) -> bool:
        """Return whether all images of a candidate set can be used."""
        items = (item.item_id for item in candidates.items)
        return all(image_id in self.visuals for image_id in candidates.direction.images_shown(candidates.query, items))


def _to_set(row: Mapping[str, Any], items: Mapping[Direction, Mapping[str, Item]]) -> CandidateSet:
    direction, query, candidates, right = (row[key] for key in KEYS)
    known = items[direction]
    chosen = tuple(known[item_id] for item_id in candidates)
    if right not in candidates:
        raise ValueError("right")
    return CandidateSet(Direction(direction), query, known[right].image_id, chosen)
