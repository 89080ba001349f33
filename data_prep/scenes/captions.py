"""Captions of a scene: the full description, and sentences as people would write them.

A sentence comes with its reading: the facts it states, which the ideal reader (`ideal_reader.py`)
compares with every scene.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TypeVar

from data_prep.scenes.scene_graph import PLACES, Scene, SceneObject

T = TypeVar("T")

SIZE_WORDS = {"small": ("small", "little", "tiny"), "large": ("large", "big", "huge")}
SHAPE_WORDS = {
    "circle": ("circle", "disc"),
    "cross": ("cross", "plus sign"),
    "ring": ("ring", "hoop"),
    "moon": ("moon", "crescent"),
    "diamond": ("diamond", "diamond shape"),
}
COLOUR_WORDS = {"purple": ("purple", "violet"), "pink": ("pink", "pink"), "gray": ("gray", "grey")}
PLACE_WORDS = {
    "upper left": ("in the upper left", "at the top left", "in the top left corner"),
    "upper right": ("in the upper right", "at the top right", "in the top right corner"),
    "lower left": ("in the lower left", "at the bottom left", "in the bottom left corner"),
    "lower right": ("in the lower right", "at the bottom right", "in the bottom right corner"),
}
RELATION_WORDS = {
    "left": ("to the left of", "left of"),
    "right": ("to the right of", "right of"),
    "above": ("above", "higher than"),
    "below": ("below", "under"),
}
BACKGROUND_WORDS = ("on a {} background", "against a {} backdrop", "on {}")
COUNT_WORDS = {2: "two", 3: "three", 4: "four"}
OPENINGS = ("{}.", "there is {}.", "{} can be seen.", "a picture of {}.", "i see {}.", "this shows {}.")

# Which details a mention names, and how often. Most mentions leave something out.
MENTION_WEIGHTS = {
    ("colour", "shape"): 0.58,
    ("size", "colour", "shape"): 0.06,
    ("colour", "shape", "place"): 0.26,
    ("size", "colour", "shape", "place"): 0.02,
    ("shape", "place"): 0.05,
    ("shape",): 0.03,
}
# A sentence about one object alone says all of it; else it would fit a tenth of all scenes.
LONE_MENTION = ("size", "colour", "shape", "place")
NUM_MENTIONS_WEIGHTS = {1: 0.03, 2: 0.50, 3: 0.47}
RELATION_SHARE = 0.40
BACKGROUND_SHARE = 0.12
COUNT_SHARE = 0.08


@dataclass(frozen=True)
class Reading:
    """The facts of a sentence.

    Attributes:
        mentions: one dict per mentioned object, from detail ("shape", ...) to its value.
        relation: ("left" | "right" | "above" | "below") between the first two mentions, or None.
        background: the background's colour, or None.
        count: how many objects there are in all, or None.
    """

    mentions: tuple[dict[str, str], ...]
    relation: str | None = None
    background: str | None = None
    count: int | None = None

    def as_dict(self) -> dict:
        return asdict(self)


def describe(scene: Scene) -> str:
    """Return the full description of a scene; equal scenes have equal descriptions."""
    objects = ", ".join(f"a {o.size} {o.colour} {o.shape} in the {o.place}" for o in scene.objects)
    return f"{objects}, on a {scene.background} background."


def parse_description(text: str) -> tuple[dict[str, tuple[str, str, str]], str]:
    """Parse a description into quadrant -> (size, colour, shape), and the background.

    Clauses that do not have the description's form are skipped, so that a model's caption can be
    compared slot by slot.
    """
    slots: dict[str, tuple[str, str, str]] = {}
    background = ""
    for part in text.strip().rstrip(".").split(", "):
        words = part.split()
        if len(words) == 8 and words[0] == "a" and words[4:6] == ["in", "the"]:
            slots.setdefault(" ".join(words[6:]), (words[1], words[2], words[3]))
        elif len(words) == 4 and words[:2] == ["on", "a"]:
            background = words[2]
    return slots, background


def write_sentence(scene: Scene, rng: random.Random) -> tuple[str, Reading]:
    """Write a sentence a person might say of `scene`, and the facts it states."""
    num_mentions = min(_choose(rng, NUM_MENTIONS_WEIGHTS), len(scene.objects))
    objects = rng.sample(scene.objects, num_mentions)
    details = [LONE_MENTION] if num_mentions == 1 else [_choose(rng, MENTION_WEIGHTS) for _ in objects]
    relation = relation_of(objects[0], objects[1], rng) if num_mentions > 1 else None
    if rng.random() > RELATION_SHARE:
        relation = None
    background = scene.background if rng.random() < BACKGROUND_SHARE else None
    count = len(scene.objects) if rng.random() < COUNT_SHARE else None
    reading = Reading(
        tuple({name: getattr(o, name) for name in names} for o, names in zip(objects, details, strict=True)),
        relation,
        background,
        count,
    )
    return word_reading(reading, rng), reading


def write_sentences(scene: Scene, num_sentences: int, rng: random.Random) -> list[tuple[str, Reading]]:
    """Write different sentences about one scene."""
    sentences: dict[str, Reading] = {}
    while len(sentences) < num_sentences:
        text, reading = write_sentence(scene, rng)
        sentences.setdefault(text, reading)
    return list(sentences.items())


def word_reading(reading: Reading, rng: random.Random) -> str:
    """Put a reading into words, chosen at random among the wordings people use."""
    mentions = [word_mention(mention, rng) for mention in reading.mentions]
    if reading.relation:
        relation = rng.choice(RELATION_WORDS[reading.relation])
        mentions[:2] = [f"{mentions[0]} {relation} {mentions[1]}"]
    if len(mentions) == 3:
        text = f"{mentions[0]}, {mentions[1]} and {mentions[2]}"
    else:
        text = rng.choice((" and ", " with ")).join(mentions)
    if reading.background:
        colour = rng.choice(COLOUR_WORDS.get(reading.background, (reading.background,)))
        text += " " + rng.choice(BACKGROUND_WORDS).format(colour)
    if reading.count:
        return f"{COUNT_WORDS[reading.count]} shapes, among them {text}."
    return rng.choice(OPENINGS).format(text)


def relation_of(first: SceneObject, second: SceneObject, rng: random.Random) -> str:
    """Return one of the relations in which `first` stands to `second`."""
    row, column = divmod(PLACES.index(first.place), 2)
    other_row, other_column = divmod(PLACES.index(second.place), 2)
    true = []
    if column != other_column:
        true.append("left" if column < other_column else "right")
    if row != other_row:
        true.append("above" if row < other_row else "below")
    return rng.choice(true)


def word_mention(mention: dict[str, str], rng: random.Random) -> str:
    """Name an object by some of its details."""
    words = []
    if "size" in mention:
        words.append(rng.choice(SIZE_WORDS[mention["size"]]))
    if "colour" in mention:
        words.append(rng.choice(COLOUR_WORDS.get(mention["colour"], (mention["colour"],))))
    words.append(rng.choice(SHAPE_WORDS.get(mention["shape"], (mention["shape"],))))
    article = "an" if words[0][0] in "aeiou" else "a"
    if "place" in mention:
        words.append(rng.choice(PLACE_WORDS[mention["place"]]))
    return " ".join([article, *words])


def _choose(rng: random.Random, weights: Mapping[T, float]) -> T:
    return rng.choices(list(weights), weights=list(weights.values()))[0]
