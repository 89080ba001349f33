"""The published models on the meta device: nothing is downloaded or allocated."""

from __future__ import annotations

import json
import math

import pytest

from semcore.models.conversion.config import native_config
from semcore.models.conversion.weights import native_shapes
from semcore.runtime.packaged_files import asset_folder

PUBLISHED = asset_folder("published")
# Parameters of the published weight files.
NUM_PARAMETERS = {
    "InternVL2_5-1B": 938_193_024,
    "InternVL2_5-2B": 2_205_754_368,
    "InternVL2_5-4B": 3_712_637_952,
    "InternVL2_5-8B": 8_075_365_376,
}


@pytest.mark.parametrize("name", NUM_PARAMETERS)
def test_the_native_model_has_the_published_number_of_parameters(name: str) -> None:
    original = json.loads((PUBLISHED / name / "config.json").read_text())
    config = native_config(original, tied=False, dtype="bfloat16", image_token_id=92546, end_token_id=2)
    assert sum(map(math.prod, native_shapes(config).values())) == NUM_PARAMETERS[name]
    assert config.image_seq_length == 256


def test_every_published_configuration_is_counted() -> None:
    assert {path.parent.name for path in PUBLISHED.glob("*/config.json")} == set(NUM_PARAMETERS)
