import json

import pytest

from semcore.data.directions import Direction
from semcore.models.prompts import VARIABLES


def test_files_know_a_direction_by_its_name(tmp_path):
    assert json.loads(json.dumps({Direction.T2I: list(Direction)})) == {"t2i": ["t2i", "i2t"]}
    assert (tmp_path / Direction.I2T).name == "i2t"
    assert {"t2i": 1}[Direction.T2I] == 1


@pytest.mark.parametrize("direction", list(Direction))
def test_every_prompt_of_a_direction_shows_its_query_and_its_items(direction):
    for name in (direction.identify_prompt, direction.verify_prompt, direction.pointwise_prompt):
        assert ("image" if direction.queries_are_images else "query") in VARIABLES[name]
    [shown] = VARIABLES[direction.verify_prompt]["candidates"][:1]
    assert ("image" if direction.items_are_images else "sentence") in shown


def test_either_the_candidates_or_the_query_are_images():
    assert Direction.T2I.images_shown("a dog", iter(["one", "other"])) == ["one", "other"]
    assert Direction.I2T.images_shown("dog", iter(["one", "other"])) == ["dog"]
