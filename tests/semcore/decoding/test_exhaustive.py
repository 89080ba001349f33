"""Exhaustive search: every identifier, exactly."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from semcore.decoding import IdentifierIndex, constrained_beam_search, exhaustive_search
from tests.semcore.decoding import tiny


@pytest.mark.parametrize("nodes_per_pass", [7, 512])
def test_every_identifier_has_its_exact_score(nodes_per_pass: int) -> None:
    """One identifier is a prefix of another, one is a single token, two are equal; in one pass and in many."""
    identifiers = [*tiny.corpus(20), [9], [9, 10], [tiny.END]]
    index = IdentifierIndex.from_sequences(identifiers, [str(row) for row in range(len(identifiers))])
    model, inputs = tiny.llama(), tiny.text_prompts([4, 8])
    result = exhaustive_search(model, inputs, index, nodes_per_pass=nodes_per_pass)
    distinct = {tuple(sequence) for sequence in identifiers}
    for query, found in enumerate(result.sequences):
        assert sorted(found) == sorted(distinct)
        assert [index.items_of_leaf(leaf) for leaf in result.leaves[query]] == [index.items(own) for own in found]
        expected = [tiny.teacher_forced(model, inputs, query, sequence) for sequence in found]
        assert result.scores[query].tolist() == pytest.approx(expected, abs=1e-4)
        assert expected == pytest.approx(sorted(expected, reverse=True), abs=1e-4)


@pytest.mark.parametrize("normalization", ["vocabulary", "identifiers"])
def test_a_beam_as_wide_as_the_corpus_finds_the_same(normalization: Any) -> None:
    index = IdentifierIndex.from_sequences(tiny.corpus(50), [str(row) for row in range(50)])
    model, inputs = tiny.internvl(), tiny.image_prompts(1, [3, 5])
    everything = exhaustive_search(model, inputs, index, normalization)
    beams = constrained_beam_search(model, inputs, index, len(everything.sequences[0]), normalization)
    assert beams.sequences == everything.sequences
    assert torch.allclose(beams.scores, everything.scores, atol=1e-4)


def test_identifier_normalisation_is_a_softmax_over_identifier_tokens() -> None:
    """Two one-token identifiers share all the probability."""
    index = IdentifierIndex.from_sequences([[7], [9]], ["a", "b"])
    result = exhaustive_search(tiny.qwen2(), tiny.text_prompts([4]), index, "identifiers")
    assert float(result.scores.exp().sum()) == pytest.approx(1.0, abs=1e-5)
