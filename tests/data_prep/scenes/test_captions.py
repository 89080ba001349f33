from __future__ import annotations

import random

from data_prep.scenes.captions import describe, parse_description, word_reading, write_sentences
from data_prep.scenes.ideal_reader import posterior
from data_prep.scenes.scene_graph import draw_scenes


def test_a_description_says_everything_and_can_be_read_back() -> None:
    scenes = draw_scenes(300, random.Random(0))
    assert len({describe(scene) for scene in scenes}) == 300
    for scene in scenes:
        slots, background = parse_description(describe(scene))
        assert slots == {o.place: (o.size, o.colour, o.shape) for o in scene.objects}
        assert background == scene.background


def test_parts_that_are_no_description_are_left_out() -> None:
    text = "a small red star in the upper left, a blue thing, on a white background."
    assert parse_description(text) == ({"upper left": ("small", "red", "star")}, "white")
    assert parse_description("") == ({}, "")


def test_sentences_of_a_scene_differ_and_are_true() -> None:
    rng = random.Random(0)
    for scene in draw_scenes(60, rng):
        sentences = write_sentences(scene, 5, rng)
        assert len({text for text, _ in sentences}) == 5
        assert (posterior([reading for _, reading in sentences], [scene]) == 1).all()


def test_the_same_seed_writes_the_same_sentences() -> None:
    scene = draw_scenes(1, random.Random(0))[0]
    assert write_sentences(scene, 5, random.Random(7)) == write_sentences(scene, 5, random.Random(7))
    assert write_sentences(scene, 5, random.Random(7)) != write_sentences(scene, 5, random.Random(8))


def test_one_reading_has_many_wordings() -> None:
    rng = random.Random(0)
    scene = draw_scenes(1, rng)[0]
    _, reading = write_sentences(scene, 1, rng)[0]
    assert len({word_reading(reading, rng) for _ in range(50)}) > 5
