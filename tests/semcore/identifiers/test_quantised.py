"""Vokens and coarse-fine identifiers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from semcore.data.identifier_files import all_identifiers, identifier_parts, units_of
from semcore.identifiers.clusters import nearest_centroids
from semcore.identifiers.code_settings import QuantizerSettings
from semcore.identifiers.quantised import make_coarse_fine, make_vokens
from semcore.identifiers.residual import encode
from semcore.identifiers.scheme import Vectors
from semcore.runtime.errors import UserError
from tests.semcore.identifiers.scheme_inputs import scheme_inputs


def small(**changes: Any) -> QuantizerSettings:
    return QuantizerSettings(**{"num_levels": 2, "num_codes": 4, "num_steps": 5, "layers": [8], "dim": 4, **changes})


def test_vokens_are_the_codes_of_the_vector() -> None:
    inputs = scheme_inputs(quantizer=small())
    made: Any = make_vokens(inputs)
    codes = encode(inputs.vectors().images, made.arrays["quantizer.safetensors"]["books"])
    assert [row["codes"] for row in made.t2i] == codes.tolist()
    assert made.t2i[0]["identifier"] == f"<|code_0_{codes[0, 0]}|><|code_1_{codes[0, 1]}|>"
    assert made.tokens.texts == [f"<|code_{level}_{code}|>" for level in range(2) for code in range(4)]
    np.testing.assert_allclose(made.tokens.vectors[5], made.arrays["quantizer.safetensors"]["books"][1, 1])


def test_coarse_fine_is_the_nearest_cluster_and_the_codes_of_the_rest() -> None:
    inputs = scheme_inputs(quantizer=small(), coarse=3, collisions="count")
    made: Any = make_coarse_fine(inputs)
    images = inputs.vectors().images
    centroids = made.arrays["clusters.safetensors"]["centroids"]
    labels = nearest_centroids(images, centroids)
    codes = encode(images - centroids[labels], made.arrays["quantizer.safetensors"]["books"])
    assert [row["global_id"] for row in made.t2i] == labels.tolist()
    assert [row["codes"][:2] for row in made.t2i] == codes.tolist()
    assert len({row["identifier"] for row in made.t2i}) == len(made.t2i)
    parts = identifier_parts(made.t2i[0])
    assert (
        parts[0] == f"<|cluster_{labels[0]}|>"
        and parts[-1] == "<|same_0|>"
        and "".join(parts) == made.t2i[0]["identifier"]
    )
    assert {part for row in made.t2i + made.i2t for part in identifier_parts(row)} <= set(made.tokens.texts)


@pytest.mark.parametrize("make", [make_vokens, make_coarse_fine])
def test_several_identifiers_are_those_of_the_next_nearest(make: Any) -> None:
    inputs = scheme_inputs(quantizer=small(), coarse=3, per_item=3)
    made = make(inputs)
    single = make(replace(inputs, codes=replace(inputs.codes, per_item=1)))
    assert [row["identifier"] for row in made.t2i] == [row["identifier"] for row in single.t2i]
    for row in made.t2i:
        firsts = [text.split("|>")[0] for text in all_identifiers(row)]
        assert len(firsts) == len(set(firsts)) == 3
    vector = inputs.vectors().images[0]
    if make is make_coarse_fine:
        centroids = made.arrays["clusters.safetensors"]["centroids"]
        order = np.argsort(((vector - centroids) ** 2).sum(1))
        assert [text.split("|>")[0] for text in all_identifiers(made.t2i[0])] == [f"<|cluster_{n}" for n in order]


def test_a_shared_book_and_a_token_for_images() -> None:
    made: Any = make_vokens(scheme_inputs(quantizer=small(kind="rq-vae", shared=True), modality_token=True))
    assert made.tokens.texts == ["<|item_image|>", "<|item_text|>", *(f"<|code_{code}|>" for code in range(4))]
    assert units_of(made.t2i[0])[0] == "<|item_image|>" and units_of(made.i2t[0])[0] == "<|item_text|>"
    assert np.isnan(made.tokens.vectors[0]).all() and not np.isnan(made.tokens.vectors[2:]).any()


def test_the_words_of_a_code_are_those_of_its_captions() -> None:
    made: Any = make_vokens(scheme_inputs(num_images=80, quantizer=small(num_levels=1)))
    assert sorted(words[0] for words in made.tokens.words) == ["circle", "ring", "square", "star"]


def test_without_vectors_of_sentences_they_have_no_identifiers() -> None:
    inputs = scheme_inputs(quantizer=small())
    images = inputs.vectors().images
    made: Any = make_vokens(replace(inputs, vectors=lambda: Vectors(images, None)))
    assert len(made.t2i) == 40 and made.i2t == []


def test_the_figures_are_those_of_the_codes() -> None:
    made: Any = make_vokens(scheme_inputs(quantizer=small(), collisions="next"))
    figures = made.figures
    assert figures["levels"][0]["used"] == 4 and 1 < figures["levels"][0]["perplexity"] <= 4.0001
    assert 0 < figures["variance_left"]["train"] < 1
    own = figures["collisions"]["t2i"]
    assert own["num_codes"] < own["num_identifiers"] == own["num_items"] == 40
    assert figures["tokens_per_identifier"] >= 2


@pytest.mark.parametrize(
    ("make", "changes", "parts"),
    [
        (make_vokens, {"quantizer": small(num_codes=99)}, ["99 codes a level", "found 24", "--quantizer.num-codes 24"]),
        (make_coarse_fine, {"coarse": 50}, ["50 clusters", "found 24", "--coarse 24 or less"]),
        (make_vokens, {"quantizer": small(), "per_item": 5}, ["--per-item 5", "--quantizer.num-codes 4"]),
        (make_coarse_fine, {"quantizer": small(), "coarse": 3, "per_item": 4}, ["--per-item 4", "--coarse 3"]),
        (make_vokens, {"quantizer": small(), "per_item": 2, "collisions": "count"}, ["--collisions count", "share"]),
    ],
)
def test_what_cannot_be_is_one_sentence(make: Any, changes: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(UserError) as error:
        make(scheme_inputs(**changes))
    assert all(part in str(error.value) for part in parts) and "\n" not in str(error.value)


def test_alignment_needs_sentences() -> None:
    inputs = scheme_inputs(quantizer=small(kind="rq-vae", align=1.0))
    images = inputs.vectors().images
    with pytest.raises(UserError, match=r"--quantizer.align 1 pulls images .*--vectors caption or a CLIP checkpoint"):
        make_vokens(replace(inputs, vectors=lambda: Vectors(images, None)))
