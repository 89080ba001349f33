from __future__ import annotations

import random
from collections import Counter
from dataclasses import asdict

import pytest

from data_prep.scenes.scene_graph import (
    BACKGROUNDS,
    COLOURS,
    PLACES,
    SHAPES,
    SIZES,
    Pool,
    Scene,
    draw_hard_negative,
    draw_scenes,
    pool_of,
)


def details(scene: Scene) -> dict[str, str]:
    """Name every detail of a scene: "upper left shape" -> "star", and "background"."""
    objects = {f"{o.place} {name}": value for o in scene.objects for name, value in asdict(o).items()}
    return {**objects, "background": scene.background}


@pytest.mark.parametrize("pool", ["datasets", "pretraining"])
def test_scenes_are_well_formed_different_and_of_their_pool(pool: Pool) -> None:
    scenes = draw_scenes(300, random.Random(0), pool=pool)
    assert len(set(scenes)) == 300
    assert {pool_of(scene) for scene in scenes} == {pool}
    for scene in scenes:
        places = [o.place for o in scene.objects]
        assert places == [place for place in PLACES if place in places]  # one a quadrant, in order
        assert 2 <= len(places) <= 4
        assert len({(o.colour, o.shape) for o in scene.objects}) == len(places)
        assert scene.background in BACKGROUNDS
        assert {o.size for o in scene.objects} <= set(SIZES)
        assert {o.colour for o in scene.objects} <= set(COLOURS)
        assert {o.shape for o in scene.objects} <= set(SHAPES)


def test_scenes_that_are_taken_are_not_drawn_again() -> None:
    first = draw_scenes(200, random.Random(0))
    assert set(draw_scenes(200, random.Random(0))) == set(first)
    assert not set(draw_scenes(200, random.Random(0), avoid=set(first))) & set(first)


def test_a_hard_negative_differs_in_one_detail_or_swaps_two_objects() -> None:
    rng = random.Random(0)
    kinds = set()
    for scene in draw_scenes(200, rng):
        alike = draw_hard_negative(scene, rng, "datasets")
        before, after = details(scene), details(alike)
        assert before.keys() == after.keys()
        changed = [name for name in before if before[name] != after[name]]
        if len(changed) > 1:
            kinds.add("swap")
            looks = sorted((o.size, o.colour, o.shape) for o in scene.objects)
            assert looks == sorted((o.size, o.colour, o.shape) for o in alike.objects)
        else:
            kinds.add(changed[0].split()[-1])
    assert kinds == {"swap", "size", "colour", "shape", "background"}


@pytest.mark.parametrize("share", [0.0, 0.4])
def test_about_the_share_asked_for_has_a_hard_negative(share: float) -> None:
    scenes = draw_scenes(500, random.Random(0), hard_negative_fraction=share)
    # Scenes that differ in one detail are equal once that detail is left out.
    with_one_left_out = [
        [
            (left_out, frozenset(item for item in details(scene).items() if item[0] != left_out))
            for left_out in details(scene)
        ]
        for scene in scenes
    ]
    number = Counter(rest for rests in with_one_left_out for rest in rests)
    in_pairs = sum(any(number[rest] > 1 for rest in rests) for rests in with_one_left_out)
    swaps_at_most = 0.25  # pairs that swap two objects differ in more than one detail
    assert share * (1 - swaps_at_most) - 0.06 < in_pairs / 500 < share + 0.06


@pytest.mark.parametrize(("pool", "counts"), [("datasets", {2, 3}), ("pretraining", {2, 3, 4})])
def test_a_pool_has_scenes_of_so_many_objects(pool: Pool, counts: set[int]) -> None:
    scenes = draw_scenes(200, random.Random(4), pool=pool)
    assert {len(scene.objects) for scene in scenes} == counts
