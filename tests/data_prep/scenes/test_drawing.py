from __future__ import annotations

import random

import numpy as np
import pytest
from PIL import Image

from data_prep.scenes.drawing import COLOUR_VALUES, IMAGE_SIZE, draw
from data_prep.scenes.scene_graph import BACKGROUNDS, COLOURS, PLACES, SHAPES, Scene, SceneObject, draw_scenes

QUADRANT = IMAGE_SIZE // 2


def nearest_colour(picture: Image.Image, at: tuple[int, int], names: tuple[str, ...]) -> str:
    pixel = np.asarray(picture)[at[1], at[0]].tolist()
    return min(names, key=lambda name: sum((a - b) ** 2 for a, b in zip(pixel, COLOUR_VALUES[name], strict=True)))


def test_the_same_seed_draws_the_same_image_and_another_one_a_variation() -> None:
    scene = draw_scenes(1, random.Random(0))[0]
    assert draw(scene, random.Random(1)).tobytes() == draw(scene, random.Random(1)).tobytes()
    assert draw(scene, random.Random(1)).tobytes() != draw(scene, random.Random(2)).tobytes()


def test_objects_stand_in_their_quadrants_in_their_colours() -> None:
    rng = random.Random(0)
    for scene in draw_scenes(60, rng):
        picture = draw(scene, rng)
        assert picture.size == (IMAGE_SIZE, IMAGE_SIZE)
        at = {o.place: o for o in scene.objects}
        for index, place in enumerate(PLACES):
            row, column = divmod(index, 2)
            centre = (column * QUADRANT + QUADRANT // 2, row * QUADRANT + QUADRANT // 2)
            corner = (column * (IMAGE_SIZE - 1), row * (IMAGE_SIZE - 1))
            assert nearest_colour(picture, corner, BACKGROUNDS) == scene.background
            if place not in at:
                assert nearest_colour(picture, centre, BACKGROUNDS) == scene.background
            elif at[place].shape not in ("ring", "moon"):  # these are hollow in the middle
                assert nearest_colour(picture, centre, COLOURS) == at[place].colour


@pytest.mark.parametrize("size", ["small", "large"])
def test_shapes_look_different_and_stay_in_their_quadrant(size: str) -> None:
    masks = {}
    for shape in SHAPES:
        scene = Scene((SceneObject(size, "red", shape, "upper left"),), "white")
        mask = draw(scene, random.Random(0)).getchannel("G").point(lambda value: 255 * (value < 150))
        box = mask.getbbox()
        assert box is not None
        left, top, right, bottom = box
        assert right <= QUADRANT
        assert bottom <= QUADRANT
        assert left >= 0
        assert top >= 0
        masks[shape] = mask.tobytes()
    for shape, mask_bytes in masks.items():
        for other, other_bytes in masks.items():
            if shape < other:
                assert sum(a != b for a, b in zip(mask_bytes, other_bytes, strict=True)) > 15, (shape, other)
