from dataclasses import dataclass
from pathlib import Path

import pytest

from semcore.commands.arguments import require_minimum
from semcore.runtime.errors import UserError
from semcore.runtime.files import hash_of


@dataclass
class Some:
    num_beams: int = 20
    limit: int | None = None


def test_settings_in_range_pass():
    require_minimum(1, Some(), "num_beams", "limit")


def test_a_setting_below_its_range_is_named_as_typed():
    with pytest.raises(UserError, match="^--num-beams must be 1 or more, found 0$"):
        require_minimum(1, Some(num_beams=0), "num_beams")


def test_equal_data_have_equal_hashes():
    assert hash_of({"a": 1, "b": Path("x")}, "y") == hash_of({"b": "x", "a": 1}, "y")
    assert hash_of({"a": 1}) != hash_of({"a": 2})
