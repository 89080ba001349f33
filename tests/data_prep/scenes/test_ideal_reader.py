from __future__ import annotations

import random
from itertools import permutations

import numpy as np
import pytest

from data_prep.scenes.captions import Reading, write_sentences
from data_prep.scenes.ideal_reader import ceiling, expected_recall, posterior
from data_prep.scenes.scene_graph import PLACES, Scene, SceneObject, draw_scenes


def place_of(item: SceneObject) -> tuple[int, int]:
    row, column = divmod(PLACES.index(item.place), 2)
    return row, column


def stands(first: SceneObject, relation: str, second: SceneObject) -> bool:
    (row, column), (other_row, other_column) = place_of(first), place_of(second)
    return {
        "left": column < other_column,
        "right": column > other_column,
        "above": row < other_row,
        "below": row > other_row,
    }[relation]


def slow_likelihood(reading: Reading, scene: Scene) -> float:
    """Try every ordered choice of the scene's objects, and count those of which the reading is true."""
    if reading.background not in (None, scene.background) or reading.count not in (None, len(scene.objects)):
        return 0.0
    choices = list(permutations(scene.objects, len(reading.mentions)))
    true = 0
    for choice in choices:
        said = all(
            getattr(item, name) == value
            for item, mention in zip(choice, reading.mentions, strict=True)
            for name, value in mention.items()
        )
        true += said and (reading.relation is None or stands(choice[0], reading.relation, choice[1]))
    return true / len(choices) if choices else 0.0


def test_the_posterior_is_that_of_the_slow_reference() -> None:
    rng = random.Random(0)
    scenes = draw_scenes(60, rng, hard_negative_fraction=0.8)
    readings = [reading for scene in scenes[:20] for _, reading in write_sentences(scene, 3, rng)]
    slow = np.array([[slow_likelihood(reading, scene) for scene in scenes] for reading in readings])
    np.testing.assert_allclose(posterior(readings, scenes), slow / slow.sum(axis=1, keepdims=True), atol=1e-12)


def test_a_reading_that_fits_no_scene_gives_no_scene_any_probability() -> None:
    scene = Scene((SceneObject("small", "red", "star", "upper left"),), "white")
    assert posterior([Reading(({"shape": "ring"},))], [scene]).tolist() == [[0.0]]


def slow_recall(row: np.ndarray, truth: np.ndarray, k: int) -> float:
    """Break the ties in every possible way and average."""
    orders = {tuple(sorted(order, key=lambda item: -row[item])) for order in permutations(range(len(row)))}
    return float(np.mean([any(truth[item] for item in order[:k]) for order in orders]))


def test_expected_recall_averages_over_all_ways_to_break_ties() -> None:
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 3, size=(12, 6)).astype(float)
    right = rng.random((12, 6)) < 0.3
    right[:, 0] |= ~right.any(axis=1)
    for k, found in ((1, "R@1"), (2, "R@2"), (5, "R@5")):
        slow = 100 * np.mean([slow_recall(row, truth, k) for row, truth in zip(scores, right, strict=True)])
        assert expected_recall(scores, right, ks=(k,))[found] == pytest.approx(slow)


def test_the_ceiling_is_100_where_sentences_say_everything_and_chance_where_they_say_nothing() -> None:
    scenes = draw_scenes(20, random.Random(0))
    everything = [
        [Reading(tuple(vars(o) for o in scene.objects), background=scene.background, count=len(scene.objects))]
        for scene in scenes
    ]
    for scores in ceiling(everything, scenes).values():
        assert scores == {"R@1": 100.0, "R@5": 100.0, "R@10": 100.0}
    nothing = [[Reading(())] for _ in scenes]
    assert ceiling(nothing, scenes)["t2i"] == pytest.approx({"R@1": 5.0, "R@5": 25.0, "R@10": 50.0})
