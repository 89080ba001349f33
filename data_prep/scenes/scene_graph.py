"""Scene graphs: the content of scenes, drawn at random or as hard negatives of each other."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Literal, TypeVar

SHAPES = ("circle", "square", "triangle", "star", "heart", "cross", "diamond", "ring", "moon", "arrow")
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown")
SIZES = ("small", "large")
PLACES = ("upper left", "upper right", "lower left", "lower right")
BACKGROUNDS = ("white", "gray", "black", "beige")
# A generator prefers images with a high prior, and an image of four given objects is a hundred times less likely than
# one of three: beside those it would hardly ever be found (LOG.md).
NUM_OBJECTS_WEIGHTS = {"datasets": {2: 0.2, 3: 0.8}, "pretraining": {2: 0.2, 3: 0.5, 4: 0.3}}

# How often the hard negative of a scene differs from it in this way. Sizes and backgrounds are the details that people
# leave out most, so a sentence cannot always tell these pairs apart.
HARD_NEGATIVE_WEIGHTS = {"size": 0.62, "background": 0.22, "colour": 0.04, "shape": 0.03, "swap": 0.09}
HARD_NEGATIVE_FRACTION = 0.42

T = TypeVar("T")
Pool = Literal["datasets", "pretraining"]


@dataclass(frozen=True)
class SceneObject:
    """One object of a scene."""

    size: str
    colour: str
    shape: str
    place: str


@dataclass(frozen=True)
class Scene:
    """An image's content: objects in the order of their quadrants, and the background."""

    objects: tuple[SceneObject, ...]
    background: str

    def as_dict(self) -> dict:
        return asdict(self)


def pool_of(scene: Scene) -> Pool:
    """Return the pool a scene belongs to, whatever the seed that drew it.

    Half of all possible scenes are kept for the base checkpoint's training and the other half for
    datasets, so that no dataset of any seed holds a scene the checkpoint has seen.
    """
    digest = hashlib.sha256(repr(scene.as_dict()).encode()).digest()
    return "pretraining" if digest[0] < 128 else "datasets"


def draw_scene(rng: random.Random, pool: Pool) -> Scene:
    """Draw a scene of the pool; no two of its objects share both colour and shape."""
    while True:
        num_objects = _choose(rng, NUM_OBJECTS_WEIGHTS[pool])
        looks = rng.sample([(colour, shape) for colour in COLOURS for shape in SHAPES], num_objects)
        places = sorted(rng.sample(PLACES, num_objects), key=PLACES.index)
        objects = tuple(
            SceneObject(rng.choice(SIZES), colour, shape, place)
            for (colour, shape), place in zip(looks, places, strict=True)
        )
        scene = Scene(objects, rng.choice(BACKGROUNDS))
        if pool_of(scene) == pool:
            return scene


def draw_hard_negative(scene: Scene, rng: random.Random, pool: Pool) -> Scene:
    """Draw a scene that differs from `scene` in one detail, or in that two objects are swapped."""
    while True:
        alike = _change_one_detail(scene, _choose(rng, HARD_NEGATIVE_WEIGHTS), rng)
        looks = {(item.colour, item.shape) for item in alike.objects}
        if alike != scene and len(looks) == len(alike.objects) and pool_of(alike) == pool:
            return alike


def draw_scenes(
    num_scenes: int,
    rng: random.Random,
    *,
    hard_negative_fraction: float = HARD_NEGATIVE_FRACTION,
    pool: Pool = "datasets",
    avoid: Collection[Scene] = (),
) -> list[Scene]:
    """Draw distinct scenes, `hard_negative_fraction` of them in pairs of hard negatives.

    Args:
        num_scenes: how many scenes to draw.
        rng: the random generator.
        hard_negative_fraction: fraction of the scenes that have a hard negative among the drawn ones.
        pool: which half of all scenes to draw from.
        avoid: scenes that may not be drawn, say those of another split.
    """
    num_with_hard_negatives = round(hard_negative_fraction * num_scenes)
    scenes: dict[Scene, None] = {}
    while len(scenes) < num_scenes:
        pair = [draw_scene(rng, pool)]
        if len(scenes) < num_with_hard_negatives:
            pair.append(draw_hard_negative(pair[0], rng, pool))
        if not any(scene in avoid or scene in scenes for scene in pair):
            scenes.update(dict.fromkeys(pair))
    drawn = list(scenes)[:num_scenes]
    rng.shuffle(drawn)
    return drawn


def _change_one_detail(scene: Scene, detail: str, rng: random.Random) -> Scene:
    objects = list(scene.objects)
    position = rng.randrange(len(objects))
    chosen = objects[position]
    if detail == "background":
        return replace(scene, background=rng.choice(BACKGROUNDS))
    if detail == "swap":
        other = rng.randrange(len(objects))
        objects[position] = replace(objects[other], place=chosen.place)
        objects[other] = replace(chosen, place=objects[other].place)
        return replace(scene, objects=tuple(objects))
    values = {"size": SIZES, "colour": COLOURS, "shape": SHAPES}[detail]
    objects[position] = replace(chosen, **{detail: rng.choice(values)})
    return replace(scene, objects=tuple(objects))


def _choose(rng: random.Random, weights: Mapping[T, float]) -> T:
    return rng.choices(list(weights), weights=list(weights.values()))[0]
