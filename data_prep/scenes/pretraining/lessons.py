"""What the base checkpoint is taught: the lessons, and the order they come in.

Text comes first: to look back at what was said is learnt in a few hundred cheap steps by a fresh
model, and hardly any more by one that has learnt to describe pictures before (LOG.md).
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import IterableDataset

from data_prep.scenes.captions import Reading, describe, write_sentence, write_sentences
from data_prep.scenes.drawing import draw
from data_prep.scenes.pretraining.keywords import KeywordExample
from data_prep.scenes.pretraining.shared_prefix import Exchange, Row, collate, merge
from data_prep.scenes.scene_graph import Scene, draw_hard_negative, draw_scene
from semcore.models.prompts import IMAGE, Prompts
from semcore.models.tokenization import IMAGE_START, chat_prompt, expand_images, tokenize

LETTERS = "ABCDEFGHIJ"
LOOK_ALIKES_PER_SCENE = 3


class ScenePool:
    """Scenes in families of look-alikes, drawn once: `pixels[i]` is the picture of `scenes[i]`."""

    def __init__(self, num_families: int, seed: int):
        rng = random.Random(seed)
        self.scenes: list[Scene] = []
        for _ in range(num_families):
            scene = draw_scene(rng, "pretraining")
            self.scenes.append(scene)
            self.scenes.extend(draw_hard_negative(scene, rng, "pretraining") for _ in range(LOOK_ALIKES_PER_SCENE))
        self.pixels = np.stack([np.asarray(draw(scene, rng)) for scene in self.scenes])


def words_to_repeat(scenes: Sequence[Scene], common_words: Sequence[str], seed: int) -> list[str]:
    """Return the words that are said of scenes, each twenty times, and common words once."""
    rng = random.Random(seed)
    said = {word for scene in scenes for word in re.findall("[a-z]+", describe(scene) + write_sentence(scene, rng)[0])}
    return sorted(said) * 20 + list(common_words)


@dataclass(frozen=True)
class Classroom:
    """What every lesson needs.

    Attributes:
        keyword_examples: of scenes of the pool.
        words: to repeat, as often as they are to come.
        num_visual_tokens: of an image.
    """

    tokenizer: Any
    prompts: Prompts
    pool: ScenePool
    keyword_examples: list[KeywordExample]
    words: list[str]
    num_visual_tokens: int

    def exchange(
        self, name: str, answer: str, images: Sequence[int] = (), *, end: bool = True, **variables: Any
    ) -> Exchange:
        text = chat_prompt(self.tokenizer, self.prompts.render(name, **variables))
        prompt = tokenize(self.tokenizer, expand_images(text, [self.num_visual_tokens] * len(images)))
        ending = [self.tokenizer.eos_token_id] if end else []
        return Exchange(prompt, tokenize(self.tokenizer, answer) + ending, tuple(images))


def describe_image(room: Classroom, rng: random.Random, num_sentences: int) -> list[Exchange]:
    """One image: its description, and some sentences."""
    index = rng.randrange(len(room.pool.scenes))
    scene = room.pool.scenes[index]
    written = [
        room.exchange("sentence_of_image", text, [index], image=IMAGE)
        for text, _ in write_sentences(scene, num_sentences, rng)
    ]
    return [room.exchange("caption", describe(scene), [index], image=IMAGE), *written]


def repeat_words(room: Classroom, rng: random.Random, num_rows: int) -> list[Exchange]:
    """Text alone: words at random, once more. Nothing else teaches so fast to look back at what was said."""
    exchanges = []
    for _ in range(num_rows):
        words = " ".join(rng.choices(room.words, k=rng.randint(4, 16)))
        exchanges.append(room.exchange("repeat", words, query=words))
    return exchanges


def read_sentences(room: Classroom, rng: random.Random, num_sentences: int) -> list[Exchange]:
    """Text alone: what a sentence says in plain words."""
    exchanges = []
    for scene in rng.sample(room.pool.scenes, num_sentences):
        text, reading = write_sentence(scene, rng)
        exchanges.append(room.exchange("read_sentence", list_facts(reading), query=text))
    return exchanges


def write_alone(room: Classroom, rng: random.Random, num_sentences: int) -> list[Exchange]:
    """Text alone: what sentences are like."""
    scenes = rng.sample(room.pool.scenes, num_sentences)
    return [room.exchange("sentence_alone", write_sentence(scene, rng)[0]) for scene in scenes]


def imagine(room: Classroom, rng: random.Random, num_sentences: int) -> list[Exchange]:
    """Text alone: the description of a scene that a sentence was written of."""
    exchanges = []
    for scene in rng.sample(room.pool.scenes, num_sentences):
        text, _ = write_sentence(scene, rng)
        exchanges.append(room.exchange("imagine", describe(scene), query=text))
    return exchanges


def find_keywords(room: Classroom, rng: random.Random, num_sentences: int) -> list[Exchange]:
    """Text alone: the keywords of the description of a scene that a sentence was written of."""
    return [
        room.exchange("keywords_t2i", " ".join(example.of_description), query=example.sentence)
        for example in rng.sample(room.keyword_examples, num_sentences)
    ]


def find_sentence_keywords(room: Classroom, rng: random.Random, num_sentences: int) -> list[Exchange]:
    """One image: the keywords of a sentence about it."""
    example = rng.choice(room.keyword_examples)
    return [room.exchange("keywords_i2t", " ".join(example.of_sentence), [example.scene], image=IMAGE)]


def locate(room: Classroom, rng: random.Random, num_questions: int) -> list[Exchange]:
    """One image: where is a thing of this colour and shape? Looking for what is named begins here."""
    index = rng.randrange(len(room.pool.scenes))
    objects = room.pool.scenes[index].objects
    asked = rng.sample(objects, min(num_questions, len(objects)))
    return [
        room.exchange("locate", item.place, [index], image=IMAGE, query=f"a {item.colour} {item.shape}")
        for item in asked
    ]


def point(room: Classroom, rng: random.Random, num_candidates: int) -> list[Exchange]:
    """Several images, one thing of this colour and shape: which letter?"""
    chosen = rng.sample(range(len(room.pool.scenes)), num_candidates)

    def name_a_thing(scene: Scene) -> str:
        item = rng.choice(scene.objects)
        return f"a {item.colour} {item.shape}."

    return _ask_which_image(room, rng, chosen, name_a_thing)


def match_description(room: Classroom, rng: random.Random, num_candidates: int) -> list[Exchange]:
    """Images that are quite different and the whole description of one: which letter? Judging begins here."""
    chosen = rng.sample(range(len(room.pool.scenes)), num_candidates)
    return _ask_which_image(room, rng, chosen, lambda scene: describe(scene), num_questions=6)


def list_facts(reading: Reading) -> str:
    """Say what a sentence states in the words of the full description."""
    facts = []
    for mention in reading.mentions:
        words = [mention[name] for name in ("size", "colour", "shape") if name in mention]
        article = "an" if words[0][0] in "aeiou" else "a"
        facts.append(f"{article} {' '.join(words)}" + (f" in the {mention['place']}" if "place" in mention else ""))
    if reading.relation:
        relation = reading.relation + (" of" if reading.relation in ("left", "right") else "")
        facts[:2] = [f"{facts[0]} {relation} {facts[1]}"]
    if reading.background:
        facts.append(f"on a {reading.background} background")
    return ", ".join(facts) + "."


@dataclass(frozen=True)
class Term:
    """A stretch of the training: how many steps, and the lessons with (weight, rows a batch)."""

    num_steps: int
    lessons: dict[str, tuple[float, int]]


@dataclass(frozen=True)
class Course:
    """Terms under one learning-rate schedule: warm up, stay at the peak, go down to nothing.

    A step on one lesson undoes some of what the step before taught in another: steps that mix
    several lessons are steadier.
    """

    learning_rate: float
    num_decay_steps: int
    lessons_per_step: int
    terms: tuple[Term, ...]


LESSONS: dict[str, Callable[[Classroom, random.Random, int], list[Exchange]]] = {
    lesson.__name__: lesson
    for lesson in (
        describe_image, repeat_words, read_sentences, write_alone, imagine, find_keywords,
        find_sentence_keywords, locate, point, match_description,
    )
}  # fmt: skip

# Every course has its own learning-rate schedule. A lesson's number is how many sentences, or how
# many candidates, it has.
COURSES = (
    Course(1e-3, 0, 1, (
        Term(500, {
            "read_sentences:4": (0.35, 16), "repeat_words:6": (0.25, 12),
            "find_keywords:4": (0.2, 16), "imagine:4": (0.2, 16),
        }),
    )),
    Course(1e-3, 120, 1, (
        Term(320, {"read_sentences:4": (0.55, 16), "repeat_words:6": (0.25, 12), "find_keywords:4": (0.2, 16)}),
    )),
    Course(7e-4, 300, 4, (
        Term(1200, {
            "describe_image:0": (0.4, 24), "read_sentences:4": (0.12, 8), "repeat_words:6": (0.08, 6),
            "find_keywords:4": (0.2, 8), "imagine:4": (0.12, 8), "locate:4": (0.08, 12),
        }),
    )),
    Course(6e-4, 200, 4, (
        Term(450, {
            "describe_image:0": (0.12, 24), "describe_image:3": (0.22, 14), "write_alone:6": (0.04, 8),
            "find_keywords:4": (0.16, 8), "find_sentence_keywords:1": (0.1, 24), "read_sentences:4": (0.05, 8),
            "imagine:4": (0.06, 8), "repeat_words:6": (0.03, 6), "match_description:2": (0.12, 6), "point:2": (0.1, 6),
        }),
    )),
)  # fmt: skip


class Lessons(IterableDataset):
    """Batches, ready for the model, from `first_batch` on; a seed gives the same batches.

    A term has as many batches as it has steps.
    """

    def __init__(self, room: Classroom, terms: Sequence[Term], seed: int, first_batch: int = 0):
        self.room, self.terms, self.seed, self.first_batch = room, terms, seed, first_batch

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        number = 0
        for term in self.terms:
            for _ in range(term.num_steps):
                if number >= self.first_batch:
                    yield self.batch(term, random.Random(f"{self.seed} {number}"))
                number += 1

    def batch(self, term: Term, rng: random.Random) -> dict[str, torch.Tensor]:
        """Draw one lesson of the term and fill a batch with it."""
        weights = [weight for weight, _ in term.lessons.values()]
        name = rng.choices(list(term.lessons), weights=weights)[0]
        kind, _, number = name.partition(":")
        start = self.room.tokenizer.convert_tokens_to_ids(IMAGE_START)
        rows = [merge(LESSONS[kind](self.room, rng, int(number)), start) for _ in range(term.lessons[name][1])]
        return as_tensors(self.room, rows)


def as_tensors(room: Classroom, rows: Sequence[Row]) -> dict[str, torch.Tensor]:
    """Collate rows and add their pixels, scaled as the image processor scales them."""
    batch = collate(rows, room.tokenizer.pad_token_id)
    images = [index for row in rows for index in row.images]
    if images:
        pixels = torch.from_numpy(room.pool.pixels[images]).permute(0, 3, 1, 2)
        batch["pixel_values"] = pixels.float() / 127.5 - 1.0
    return batch


def _ask_which_image(
    room: Classroom,
    rng: random.Random,
    chosen: Sequence[int],
    say: Callable[[Scene], str],
    num_questions: int = 8,
) -> list[Exchange]:
    candidates = _image_candidates(room, chosen, rng)
    exchanges = []
    for _ in range(num_questions):
        position = rng.randrange(len(chosen))
        text = say(room.pool.scenes[chosen[position]])
        exchanges.append(
            room.exchange("verify_t2i", LETTERS[position], chosen, end=False, candidates=candidates, query=text)
        )
    return exchanges


def _image_candidates(room: Classroom, chosen: Sequence[int], rng: random.Random) -> list[dict[str, Any]]:
    shown = rng.random() < 0.5
    return [
        {
            "label": letter,
            "image": IMAGE,
            "keywords": _some_words(_scene_words(room.pool.scenes[index]), rng) if shown else "",
        }
        for letter, index in zip(LETTERS, chosen, strict=False)
    ]


def _some_words(words: Sequence[str], rng: random.Random) -> str:
    words = list(dict.fromkeys(words))
    return " ".join(rng.sample(words, min(4, len(words))))


def _scene_words(scene: Scene) -> list[str]:
    return [word for item in scene.objects for word in (item.colour, item.shape)] + [scene.background]
