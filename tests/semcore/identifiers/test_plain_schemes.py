"""Identifiers that are a number, or what is said."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from semcore.data.caption_files import TextItem
from semcore.identifiers.oracle import measure_oracle
from semcore.identifiers.plain_schemes import make_atomic, make_caption, make_string
from semcore.identifiers.scheme import SchemeInputs
from tests.semcore.identifiers.scheme_inputs import scheme_inputs


def test_numbers_run_in_the_datasets_order() -> None:
    made = make_string(scheme_inputs(num_images=12))
    assert [row["identifier"] for row in made.t2i] == [str(n) for n in range(12)]
    assert [row["identifier"] for row in made.i2t] == [str(n) for n in range(24)]
    assert made.tokens is None and made.t2i[0]["global_id"] == -1


def test_captions_are_identifiers_without_special_tokens() -> None:
    inputs: SchemeInputs = replace(
        scheme_inputs(), captions=[TextItem("a", "test", "A red  star."), TextItem("b", "test", "<|im_end|> of <b>")]
    )
    made = make_caption(inputs)
    assert [row["identifier"] for row in made.t2i] == ["A red star.", "im_end of b"]
    assert made.t2i[0]["lexical_id"] == ["A", "red", "star."]


def test_every_item_has_a_token_that_starts_at_its_vector() -> None:
    inputs = scheme_inputs(num_images=20, protocol="transductive")
    made = make_atomic(inputs)
    assert [row["identifier"] for row in made.t2i] == [f"<|image_{n}|>" for n in range(20)]
    assert [row["identifier"] for row in made.i2t] == [f"<|sentence_{n}|>" for n in range(40)]
    assert made.tokens is not None and made.tokens.vectors is not None and made.tokens.init == "codebook"
    assert made.tokens.texts == [row["identifier"] for row in [*made.t2i, *made.i2t]]
    said = inputs.vectors().sentences
    assert said is not None
    np.testing.assert_array_equal(made.tokens.vectors[20 + 3], said[3])
    oracle = measure_oracle(made, inputs.captions, inputs.sentences, inputs.image_of_sentence)
    assert oracle["t2i"]["R@1"] == 100.0  # sentences lie near their images
