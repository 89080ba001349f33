"""The training-free oracle beside slow references."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from data_prep.scenes.ideal_reader import expected_recall
from semcore.data.identifier_files import NO_CLUSTER, make_row
from semcore.identifiers.code_settings import QuantizerSettings
from semcore.identifiers.hierarchical import make_hierarchical
from semcore.identifiers.oracle import code_scores, expected_hits, measure_oracle, sentence_of, word_scores
from semcore.identifiers.plain_schemes import make_caption, make_string
from semcore.identifiers.quantised import make_coarse_fine, make_vokens
from semcore.identifiers.scheme import CodeReader
from tests.semcore.identifiers.scheme_inputs import scheme_inputs

RNG = np.random.default_rng(0)


def test_hits_are_those_of_the_ideal_readers_slow_loop() -> None:
    scores = RNG.integers(0, 4, (50, 12)).astype(float)  # many equal ones
    right = RNG.random((50, 12)) < 0.2
    right[:, 0] |= ~right.any(axis=1)
    slow = expected_recall(scores, right)
    for cutoff in (1, 5, 10):
        assert 100 * expected_hits(scores, right, cutoff).mean() == pytest.approx(slow[f"R@{cutoff}"])
    assert expected_hits(scores[:, :3], right[:, :3] | np.eye(50, 3, dtype=bool), 5)[0] == 1.0  # fewer than places


def test_codes_are_compared_one_by_one() -> None:
    queries, items = (
        CodeReader(RNG.integers(-1, 2, (9, 3)), RNG.normal(size=(9, 4)), RNG.normal(size=(9, 4))) for _ in range(2)
    )
    scores = code_scores(queries, items)(slice(0, 9))
    for q in range(9):
        keys = []
        for i in range(9):
            common = 0
            while common < 3 and queries.codes[q, common] == items.codes[i, common] >= 0:
                common += 1
            keys.append((common, -np.linalg.norm(queries.vectors[q] - items.rebuilt[i])))
        assert np.argsort(-scores[q]).tolist() == sorted(range(9), key=lambda i: keys[i], reverse=True)


def test_words_count_by_how_rare_they_are() -> None:
    rows = [make_row(str(n), "val", n % 2, words) for n, words in enumerate((["red", "dog"], ["red", "cat"], ["red"]))]
    own = [make_row("q", "val", 0, [])]
    scores = word_scores(["a red dog"], own, rows, [])(slice(0, 1))[0]
    # units: red in 3 of 3, dog 1, cat 1, cluster 0 in 2, cluster 1 in 1; idf = log(4 / (1 + count))
    expected = [np.log(4 / 4) + np.log(4 / 2) + np.log(4 / 3), 0.0, np.log(4 / 4) + np.log(4 / 3)]
    np.testing.assert_allclose(scores, expected, atol=1e-6)
    bare: Any = [{**row, "global_id": NO_CLUSTER} for row in rows]
    assert word_scores(["a red dog"], [{**own[0], "global_id": NO_CLUSTER}], bare, [])(slice(0, 1))[0][2] == 0.0


def oracle(made: Any, inputs: Any) -> dict[str, Any]:
    return measure_oracle(made, inputs.captions, inputs.sentences, inputs.image_of_sentence)


def test_codes_find_items_and_numbers_do_not() -> None:
    inputs = scheme_inputs(
        num_images=200, quantizer=QuantizerSettings(num_levels=3, num_codes=8), coarse=8, branch=4, leaf=4
    )
    for make in (make_vokens, make_coarse_fine, make_hierarchical, make_caption):
        figures = oracle(make(inputs), inputs)
        assert figures["t2i"]["num_items"] == 40 and figures["i2t"]["num_items"] == 80
        for own in figures.values():
            assert not own["at_chance"] and own["R@10"] > own["chance"]["R@10"] + 5
        assert sentence_of(figures) == ""
    figures = oracle(make_string(inputs), inputs)
    assert figures["t2i"]["R@5"] == figures["t2i"]["chance"]["R@5"] == pytest.approx(12.5)
    assert "no training on them will find an item" in sentence_of(figures)
    assert "(text to image and image to text)" in sentence_of(figures)


def test_nothing_to_ask_is_no_oracle() -> None:
    inputs = scheme_inputs(num_images=3)  # no val
    assert oracle(make_string(inputs), inputs) == {}
