import json

import pytest

from semcore.data.directions import Direction, named_directions
from semcore.models.prompts import VARIABLES
from semcore.runtime.errors import UserError


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


def test_directions_are_named_in_any_order_and_never_none():
    assert named_directions(["i2t", "t2i", "i2t"]) == (Direction.T2I, Direction.I2T)
    assert named_directions(["i2t"]) == (Direction.I2T,)
    with pytest.raises(UserError, match=r"--directions .*\[t2i\].*found none"):
        named_directions([])
