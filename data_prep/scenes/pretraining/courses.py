"""The curriculum of the base checkpoint: the order of its lessons, their mixture and the weights of the losses.

Matching words comes first, on text alone: a fresh model learns it in minutes, one that already describes images hardly
at all. Then the vision tower learns the words of what an image shows, and only after that do questions with images
and letters follow (LOG.md). B is the rows of a batch, L the tokens of the longest row.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch.utils.data import IterableDataset, get_worker_info

from data_prep.scenes.pretraining import lessons, letter_lessons
from data_prep.scenes.pretraining.lesson_data import LessonData
from data_prep.scenes.pretraining.losses import LossWeights
from data_prep.scenes.pretraining.shared_prefix import Exchange, Row, collate, merge
from data_prep.scenes.pretraining.visual_words import visual_words
from semcore.models.compatibility import IMAGE_START

NAME_THINGS = "name_things"  # images alone: each visual token predicts the words of what it shows
LOOKUPS_ALONE = LossWeights(answer=0.0, hint=0.0, lookup=3.0, words=0.0, kept_words=0.0)


@dataclass(frozen=True)
class Term:
    """A stretch of the training: its steps, its lessons as name -> (weight, rows per batch), and the loss weights."""

    num_steps: int
    lessons: dict[str, tuple[float, int]]
    loss_weights: LossWeights = field(default_factory=LossWeights)


@dataclass(frozen=True)
class Course:
    """Terms under one learning-rate schedule: warmup, plateau, linear decay to zero.

    A step on one lesson undoes part of what the previous step learnt in another; steps that mix
    several lessons are more stable.
    """

    learning_rate: float
    num_decay_steps: int
    lessons_per_step: int
    terms: tuple[Term, ...]


LESSONS: dict[str, Callable[[LessonData, random.Random, int], list[Exchange]]] = {
    lesson.__name__: lesson
    for lesson in (
        lessons.describe_image, lessons.read_sentences, lessons.write_alone, lessons.imagine, lessons.find_keywords,
        lessons.find_sentence_keywords, lessons.locate,
        letter_lessons.sort_words, letter_lessons.choose_words, letter_lessons.sort_mentions,
        letter_lessons.choose_description, letter_lessons.choose_either, letter_lessons.choose_image,
        letter_lessons.choose_sentence, letter_lessons.choose_similar_image, letter_lessons.choose_similar_sentence,
        letter_lessons.choose_confusable_image, letter_lessons.choose_confusable_sentence,
    )
}  # fmt: skip

_WORDS = {
    "sort_words:2": (0.17, 8), "sort_words:4": (0.17, 8), "sort_words:10": (0.16, 8),
    "choose_words:2": (0.17, 6), "choose_words:4": (0.17, 6), "choose_words:10": (0.16, 6),
}  # fmt: skip

# Every course has its own learning-rate schedule. The number in a lesson's name counts its sentences or candidates.
COURSES = (
    # Matching equal words. Attention has to find them before the loss on the letters counts.
    Course(1e-3, 70, 2, (Term(40, _WORDS, LOOKUPS_ALONE), Term(460, _WORDS))),
    # The vision tower learns the text model's words for what it sees; the text model is frozen.
    Course(2e-3, 250, 1, (Term(550, {NAME_THINGS: (1.0, 48)}),)),
    # Images meet letters, attention first again.
    Course(1e-3, 300, 4, (
        Term(25, {"choose_image:4": (0.25, 6), "sort_mentions:4": (0.25, 8), "sort_mentions:10": (0.25, 6),
                  "choose_sentence:4": (0.25, 6)}, LOOKUPS_ALONE),
        Term(850, {
            "describe_image:0": (0.3, 32), "choose_image:2": (0.03, 6), "choose_image:4": (0.09, 6),
            "choose_image:10": (0.12, 6), "sort_mentions:4": (0.05, 8), "sort_mentions:10": (0.09, 6),
            "choose_sentence:4": (0.06, 6), "choose_sentence:10": (0.12, 4), "choose_words:10": (0.04, 8),
            "read_sentences:4": (0.05, 16), "find_keywords:4": (0.05, 16),
        }),
    )),
    # The other skills that training on data sets builds on.
    Course(6e-4, 250, 4, (
        Term(650, {
            "describe_image:0": (0.12, 40), "describe_image:3": (0.18, 24), "write_alone:6": (0.03, 16),
            "read_sentences:4": (0.06, 16), "imagine:4": (0.06, 16), "find_keywords:4": (0.12, 16),
            "find_sentence_keywords:1": (0.08, 40), "locate:4": (0.03, 20), "choose_words:10": (0.03, 8),
            "choose_either:10": (0.02, 4), "choose_image:10": (0.04, 6), "choose_similar_image:10": (0.09, 6),
            "sort_mentions:10": (0.02, 6), "choose_sentence:10": (0.04, 4), "choose_similar_sentence:10": (0.09, 4),
        }),
    )),
    # Candidates as a search confuses them, where only careful reading tells.
    Course(5e-4, 200, 4, (
        Term(400, {
            "choose_confusable_image:10": (0.46, 6), "choose_confusable_sentence:10": (0.26, 4),
            "describe_image:3": (0.14, 24), "describe_image:0": (0.06, 40),
            "choose_image:10": (0.04, 6), "choose_sentence:10": (0.04, 4),
        }),
    )),
)  # fmt: skip


class Lessons(IterableDataset):
    """Batches for the model, from `first_batch` on, reproducible by seed; one batch per step of a term.

    The n worker processes of a loader make every n-th batch each, and the loader takes them in turn.
    """

    def __init__(self, data: LessonData, terms: Sequence[Term], seed: int, first_batch: int = 0):
        self.data, self.terms, self.seed, self.first_batch = data, terms, seed, first_batch

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        worker = get_worker_info()
        mine, num_workers = (worker.id, worker.num_workers) if worker else (0, 1)
        terms = [term for term in self.terms for _ in range(term.num_steps)]
        for number in range(self.first_batch + mine, len(terms), num_workers):
            yield self.batch(terms[number], random.Random(f"{self.seed} {number}"))

    def batch(self, term: Term, rng: random.Random) -> dict[str, torch.Tensor]:
        """Draw one lesson of the term and return a batch of it: tensors (B, L) as of `as_tensors`."""
        weights = [weight for weight, _ in term.lessons.values()]
        name = rng.choices(list(term.lessons), weights=weights)[0]
        num_rows = term.lessons[name][1]
        kind, _, number = name.partition(":")
        if kind == NAME_THINGS:
            batch = image_tensors(self.data, rng.choices(range(len(self.data.pool.scenes)), k=num_rows), rng)
        else:
            start = self.data.tokenizer.convert_tokens_to_ids(IMAGE_START)
            rows = [merge(LESSONS[kind](self.data, rng, int(number)), start) for _ in range(num_rows)]
            batch = as_tensors(self.data, rows, rng)
        return batch | {"loss_weights": term.loss_weights.as_tensor()}


def as_tensors(data: LessonData, rows: Sequence[Row], rng: random.Random) -> dict[str, torch.Tensor]:
    """Return the rows as tensors (B, L), from `collate`, and their images', from `image_tensors`."""
    batch = collate(rows, data.tokenizer.pad_token_id)
    images = [index for row in rows for index in row.images]
    return batch | image_tensors(data, images, rng) if images else batch


def image_tensors(data: LessonData, images: Sequence[int], rng: random.Random) -> dict[str, torch.Tensor]:
    """Return drawn images as `pixel_values` (I, 3, H, W), and `visual_words` (I, V, G) of their visual tokens."""
    words = [visual_words(data.pool.scenes[index], data.num_visual_tokens) for index in images]
    return {"pixel_values": data.pool.pixels(images, rng), "visual_words": torch.tensor(words)}
