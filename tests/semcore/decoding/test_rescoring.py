"""Rescoring of identifiers that each query names itself, beside an exhaustive search."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from semcore.decoding import IdentifierIndex, constrained_beam_search, exhaustive_search
from semcore.decoding.guides import look_ahead, token_by_token
from semcore.decoding.rescoring import score_sequences
from tests.semcore.decoding import tiny
from tests.semcore.decoding.test_guides import random_scores, random_weights

IDENTIFIERS = [*tiny.corpus(30), [9], [9, 10], [tiny.END], *tiny.corpus(5)]


@pytest.mark.parametrize("normalization", ["vocabulary", "identifiers"])
@pytest.mark.parametrize("per_pass", [1, 3, 32])
@pytest.mark.parametrize("name", ["qwen2", "llama", "internvl"])
def test_each_querys_own_identifiers_have_their_exact_scores(
    name: str, per_pass: int, normalization: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unlike numbers of them, none, repeated, and some that are prefixes of others; prompts of unlike lengths."""
    monkeypatch.setattr("semcore.decoding.rescoring.SEQUENCES_PER_PASS", per_pass)
    index = IdentifierIndex.from_sequences(IDENTIFIERS, [str(row) for row in range(len(IDENTIFIERS))])
    model: Any = getattr(tiny, name)()
    inputs = tiny.image_prompts(1, [3, 6, 4]) if name == "internvl" else tiny.text_prompts([3, 6, 4])
    everything = exhaustive_search(model, inputs, index, normalization)
    sequences = index.sequences()
    wanted = [sequences[:7] + sequences[2:4], [], [(9,), (tiny.END,), (9, 10)]]
    found = score_sequences(model, inputs, index, wanted, normalization).log_probabilities
    for query, own in enumerate(wanted):
        exact = dict(zip(everything.sequences[query], everything.scores[query].tolist(), strict=True))
        assert found[query] == pytest.approx([exact[sequence] for sequence in own], abs=1e-4)


def test_what_a_search_has_found_is_scored_as_the_search_did() -> None:
    index = IdentifierIndex.from_sequences(IDENTIFIERS, [str(row) for row in range(len(IDENTIFIERS))])
    model, inputs = tiny.qwen2(), tiny.text_prompts([3, 6])
    result = constrained_beam_search(model, inputs, index, 6)
    found = score_sequences(model, inputs, index, result.sequences)
    assert torch.allclose(torch.tensor(found.log_probabilities), result.scores, atol=1e-4)
    assert found.bonuses is None


def test_a_bonus_is_that_of_the_search() -> None:
    index = IdentifierIndex.from_sequences(IDENTIFIERS, [str(row) for row in range(len(IDENTIFIERS))])
    model, inputs = tiny.qwen2(), tiny.text_prompts([3, 6])
    for bonus in (look_ahead(index, random_scores(index, 2)), token_by_token(index, random_weights(index, 2))):
        result = constrained_beam_search(model, inputs, index, 6, bonus=bonus)
        found = score_sequences(model, inputs, index, [result.sequences[0], result.sequences[1][:2]], bonus=bonus)
        assert result.bonuses is not None and found.bonuses is not None
        assert found.bonuses[0] == pytest.approx(result.bonuses[0], abs=1e-5)
        assert found.bonuses[1] == pytest.approx(result.bonuses[1][:2], abs=1e-5)
        whole = torch.tensor(found.log_probabilities[0]) + torch.tensor(found.bonuses[0])
        assert torch.allclose(whole, result.scores[0], atol=1e-4)


def test_items_and_their_sequences() -> None:
    index = IdentifierIndex.from_sequences([[5, 1], [6, 7, 1], [5, 1]], ["a", "b", "c"])
    index.remove(["b"])
    index.add([[8, 1], [6, 1]], ["d", "b"])
    expected = {"a": [(5, 1)], "c": [(5, 1)], "d": [(8, 1)], "b": [(6, 1)]}
    assert index.item_sequences() == expected
    numbers = index.sequence_numbers()
    assert numbers.keys() == expected.keys()
    assert {numbers[own] for own in "ac"} == {numbers["a"]} != {numbers["b"]}
