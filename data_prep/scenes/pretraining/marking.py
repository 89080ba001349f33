"""Alignment of a text's words and an image's visual tokens with the things they are about, for lookups between them.

A query may name less of a thing than is known of it ("a star", where the star is red), so whatever shows it has
several names: ("red",), ("red", "star") and so on.
"""

from __future__ import annotations

import random
import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from data_prep.scenes.captions import COLOUR_WORDS, PLACE_WORDS, SHAPE_WORDS, Reading, describe, word_mention
from data_prep.scenes.scene_graph import COLOURS, PLACES, SHAPES, Scene, SceneObject

Names = tuple[Hashable, ...]


@dataclass(frozen=True)
class MarkedText:
    """A text, with end of a word -> names of what the word is about."""

    text: str
    words: dict[int, Names]


def names_of(thing: SceneObject) -> Names:
    """Return every name that a thing may be sought by, the most specific first."""
    colour, shape, place = thing.colour, thing.shape, thing.place
    return (colour, shape, place), (colour, shape), (shape, place), (colour,), (shape,)


def mark_quadrants(scene: Scene) -> list[Names]:
    """Return the names of what each quadrant of an image shows, in the order of the quadrants."""
    things = {thing.place: thing for thing in scene.objects}
    return [names_of(things[place]) if place in things else () for place in PLACES]


def by_visual_token(quadrants: Sequence[Any], num_visual_tokens: int) -> list[Any]:
    """Spread the values of four quadrants over the visual tokens of a square image, row by row."""
    side = round(num_visual_tokens**0.5)
    return [quadrants[2 * (2 * row // side) + 2 * column // side] for row in range(side) for column in range(side)]


def mark_description(scene: Scene) -> MarkedText:
    """Describe a scene; each word about a thing is marked with the whole thing."""
    text = describe(scene)
    words: dict[int, Names] = {}
    for phrase, thing in zip(re.finditer("[^,]+", text), scene.objects, strict=False):
        ends = [phrase.start() + word.end() for word in re.finditer(r"\w+", phrase[0])]
        words.update(dict.fromkeys(ends, names_of(thing)))
    return MarkedText(text, words)


def mark_sentence(text: str, reading: Reading) -> MarkedText:
    """Mark what a sentence mentions: each word with the details of the thing up to that word."""
    mentions = iter(reading.mentions)
    words: dict[int, Names] = {}
    mention: dict[str, str] = {}
    complete = True
    for found in _THINGS.finditer(text):
        if complete and found.lastgroup != "place":
            mention = next(mentions)
        complete = found.lastgroup != "colour"
        said = {"colour": ("colour",), "shape": ("colour", "shape"), "place": ("colour", "shape", "place")}
        name = tuple(mention[detail] for detail in said[str(found.lastgroup)] if detail in mention)
        words[found.end()] = (name,)
    return MarkedText(text, words)


def mark_mention(thing: SceneObject, rng: random.Random) -> MarkedText:
    """Mention a thing by colour and shape."""
    reading = Reading(({"colour": thing.colour, "shape": thing.shape},))
    return mark_sentence(word_mention(reading.mentions[0], rng), reading)


def _any_of(words: Iterable[str]) -> str:
    return "|".join(sorted(words, key=len, reverse=True))


def _wordings(of: Mapping[str, tuple[str, ...]], values: Iterable[str]) -> str:
    return _any_of(word for value in values for word in of.get(value, (value,)))


_THINGS = re.compile(
    rf"\b(?:(?P<colour>{_wordings(COLOUR_WORDS, COLOURS)})"
    rf"|(?P<shape>{_wordings(SHAPE_WORDS, SHAPES)})"
    rf"|(?P<place>{_wordings(PLACE_WORDS, PLACES)}))\b"
)
