"""Priors of identifiers, and the search that takes a share of them off, beside slow references."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from semcore.decoding import (
    IdentifierIndex,
    constrained_beam_search,
    correction_of,
    estimate_priors,
    exhaustive_search,
)
from tests.semcore.decoding import tiny

NORMALIZATIONS = ["vocabulary", "identifiers"]
PARTING = [*tiny.corpus(30), [9], [9, 10], [tiny.END], *tiny.corpus(8)]
"""Shared prefixes, prefixes of others, one token, equal identifiers."""


def index_of(identifiers: list[list[int]]) -> IdentifierIndex:
    return IdentifierIndex.from_sequences(identifiers, [str(row) for row in range(len(identifiers))])


def random_priors(index: IdentifierIndex, spread: float = 4.0) -> dict[tuple[int, ...], Any]:
    """Return priors that fall from prefix to prefix, the same for a prefix that several identifiers share."""
    generator = np.random.default_rng(0)
    of_prefix: dict[tuple[int, ...], float] = {}
    for sequence in sorted(index.sequences()):
        for length in range(1, len(sequence) + 1):
            before = of_prefix[sequence[: length - 1]] if length > 1 else 0.0
            of_prefix.setdefault(sequence[:length], before - spread * generator.random())
    return {
        sequence: np.array([of_prefix[sequence[:length]] for length in range(1, len(sequence) + 1)])
        for sequence in index.sequences()
    }


def step_by_step(
    model: Any,
    prompt: list[int],
    priors: Mapping[tuple[int, ...], Any],
    weight: float,
    num_beams: int,
    normalization: str,
) -> list[tuple[tuple[int, ...], float]]:
    """Search token by token, with a plain pass for each path; to end where others go on is a step like any other."""
    tokens = sorted({token for sequence in priors for token in sequence})
    beams: list[tuple[float, tuple[int, ...]]] = [(0.0, ())]
    found: list[tuple[float, tuple[int, ...]]] = []
    of_prefix = {sequence[: place + 1]: prior for sequence, own in priors.items() for place, prior in enumerate(own)}
    for length in range(1, max(map(len, priors)) + 2):
        found += [each for each in beams if each[1] in priors]
        longer = []
        for cost, path in beams:
            with torch.inference_mode():
                logits = model(input_ids=torch.tensor([[*prompt, *path]])).logits[0, -1].float()
            gains = logits - (logits if normalization == "vocabulary" else logits[tokens]).logsumexp(0)
            for prefix in {sequence[:length] for sequence in priors if sequence[: length - 1] == path}:
                if len(prefix) == length:
                    off = of_prefix[prefix] - (of_prefix[path] if path else 0.0)
                    longer.append((cost - gains[prefix[-1]].item() + weight * off, prefix))
        going_on = {path for _, path in longer if any(s[:length] == path != s for s in priors)}
        found += [each for each in longer if each[1] not in going_on]
        beams = sorted(each for each in longer if each[1] in going_on)[:num_beams]
    return [(path, -cost) for cost, path in sorted(found)[:num_beams]]


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("num_batches", [1, 3])
def test_a_prior_is_the_mean_probability_over_the_queries(normalization: Any, num_batches: int) -> None:
    """Beside an exhaustive search of each query, whole identifiers and their prefixes."""
    model, index = tiny.qwen2(), index_of(PARTING)
    batches = [tiny.text_prompts([5, 3], seed) for seed in range(num_batches)]
    priors = estimate_priors(model, batches, index, normalization, nodes_per_pass=20)
    scores: dict[tuple[int, ...], list[float]] = {}
    for inputs in batches:
        result = exhaustive_search(model, inputs, index, normalization)
        for found, own in zip(result.sequences, result.scores.tolist(), strict=True):
            for sequence, score in zip(found, own, strict=True):
                scores.setdefault(sequence, []).append(score)
    assert priors.keys() == scores.keys() == set(map(tuple, PARTING))
    for sequence, own in scores.items():
        expected = math.log(sum(map(math.exp, own)) / len(own))
        assert priors[sequence][-1] == pytest.approx(expected, abs=1e-4)
        assert len(priors[sequence]) == len(sequence)
        assert all(later <= earlier for earlier, later in pairwise(priors[sequence]))
    assert priors[(9, 10)][0] == pytest.approx(priors[(9,)][0], abs=1e-5)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("num_beams", [1, 2, 5, 12])
def test_the_corrected_search_is_one_step_by_step(normalization: Any, num_beams: int) -> None:
    model, inputs, index = tiny.qwen2(), tiny.text_prompts([5]), index_of(PARTING)
    priors = random_priors(index)
    result = constrained_beam_search(
        model, inputs, index, num_beams, normalization, bonus=correction_of(index, priors, 0.8)
    )
    expected = step_by_step(model, inputs["input_ids"][0].tolist(), priors, 0.8, num_beams, normalization)
    assert result.sequences[0] == [path for path, _ in expected]
    assert result.scores[0, : len(expected)].tolist() == pytest.approx([score for _, score in expected], abs=1e-4)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("weight", [0.3, 1.0])
def test_a_beam_as_wide_as_the_corpus_finds_what_an_exhaustive_search_and_its_priors_say(
    normalization: Any, weight: float
) -> None:
    model, inputs, index = tiny.internvl(), tiny.image_prompts(1, [3, 5]), index_of(PARTING)
    priors = random_priors(index)
    correction = correction_of(index, priors, weight)
    everything = exhaustive_search(model, inputs, index, normalization)
    for top_k in (None, 1, 4):
        result = constrained_beam_search(model, inputs, index, 40, normalization, top_k, correction)
        for query, found in enumerate(everything.sequences):
            scored = zip(found, everything.scores[query].tolist(), strict=True)
            best = sorted((-(score - weight * priors[sequence][-1]), sequence) for sequence, score in scored)[:top_k]
            assert result.sequences[query] == [sequence for _, sequence in best]
            costs = [-score for score in result.scores[query, : len(best)].tolist()]
            assert costs == pytest.approx([cost for cost, _ in best], abs=1e-4)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_a_weight_of_zero_changes_nothing(normalization: Any) -> None:
    model, inputs, index = tiny.llama(), tiny.text_prompts([5, 9, 3]), index_of(tiny.corpus(60))
    off = correction_of(index, random_priors(index), 0.0)
    for top_k in (None, 2):
        plain = constrained_beam_search(model, inputs, index, 6, normalization, top_k)
        result = constrained_beam_search(model, inputs, index, 6, normalization, top_k, off)
        assert result.sequences == plain.sequences
        assert torch.equal(result.scores, plain.scores)


identifiers = st.lists(
    st.lists(st.integers(tiny.FIRST_WORD, tiny.FIRST_WORD + 3), max_size=5).map(lambda words: [*words, tiny.END]),
    min_size=1,
    max_size=25,
)


@settings(max_examples=25, deadline=None)
@given(identifiers, st.integers(1, 6), st.integers(1, 6), st.sampled_from(NORMALIZATIONS))
def test_pruning_loses_nothing_though_scores_may_rise(
    corpus: list[list[int]], num_beams: int, top_k: int, normalization: Any
) -> None:
    """Priors so large that every path gains by going on."""
    model, inputs, index = tiny.qwen2(), tiny.text_prompts([6, 2]), index_of(corpus)
    correction = correction_of(index, random_priors(index, spread=20.0), 1.0)
    whole = constrained_beam_search(model, inputs, index, num_beams, normalization, bonus=correction)
    head = constrained_beam_search(model, inputs, index, num_beams, normalization, top_k, correction)
    assert head.sequences == [found[:top_k] for found in whole.sequences]


def test_pruning_spares_passes_over_paths_that_cannot_win() -> None:
    """One identifier ends early and is far ahead: the other paths are not read to their ends."""
    model, inputs = tiny.qwen2(), tiny.text_prompts([6])
    index = index_of(
        [[7], *([first, *rest] for first in range(10, 16) for rest in tiny.corpus(12, 6, same_length=True))]
    )
    ahead = {sequence: np.linspace(0, -1, len(sequence)) for sequence in index.sequences()} | {(7,): np.array([-50.0])}
    correction, rows = correction_of(index, ahead, 1.0), []
    constrained_beam_search(model, inputs, index, 4, bonus=correction)
    hook = model.model.layers[0].register_forward_hook(lambda _m, states, _o: rows.append(states[0].shape[1]))
    for top_k in (4, 1):
        rows.append(0)
        constrained_beam_search(model, inputs, index, 4, top_k=top_k, bonus=correction)
    hook.remove()
    assert len(rows[rows.index(0, 1) :]) == 2 < len(rows[: rows.index(0, 1)])


def test_changed_indexes_take_the_priors_of_what_they_hold() -> None:
    """Nodes that changes have left unused, split leaves and added words."""
    model, inputs = tiny.qwen2(), tiny.text_prompts([5, 3])
    first = tiny.corpus(40)
    index = index_of(first)
    index.add([[*first[0][:-1], 20, 21, tiny.END], [5, 9, 22, tiny.END]], ["new", "newer"])
    index.remove(["3", "4"])
    priors = random_priors(index)
    fresh = IdentifierIndex.from_sequences(index.sequences(), [str(row) for row in range(len(index.sequences()))])
    expected, result = (
        constrained_beam_search(model, inputs, each, 7, bonus=correction_of(each, priors, 0.7))
        for each in (fresh, index)
    )
    assert result.sequences == expected.sequences
    assert torch.allclose(result.scores, expected.scores, atol=1e-5)


def test_a_path_ends_with_its_own_prior_where_priors_of_a_shared_prefix_differ() -> None:
    """As they do in the last digits where identifiers were added later."""
    index = index_of([[5, 6, 7], [5, 6, 8], [5, 9]])
    priors = {sequence: -np.arange(1.0, len(sequence) + 1) - 0.1 * sequence[-1] for sequence in index.sequences()}
    model, inputs = tiny.qwen2(), tiny.text_prompts([5])
    plain = exhaustive_search(model, inputs, index)
    result = constrained_beam_search(model, inputs, index, 3, bonus=correction_of(index, priors, 1.0))
    score = dict(zip(plain.sequences[0], plain.scores[0].tolist(), strict=True))
    for sequence, found in zip(result.sequences[0], result.scores[0].tolist(), strict=True):
        assert found == pytest.approx(score[sequence] - priors[sequence][-1], abs=1e-4)


def test_of_equal_corrected_scores_the_first_tokens_win() -> None:
    """All tokens are equally likely and all priors equal: the order is that of the tokens."""
    model = tiny.qwen2()
    torch.nn.init.zeros_(model.lm_head.weight)
    identifiers = sorted({tuple(row) for row in tiny.corpus(60, num_words=3, same_length=True)}, reverse=True)
    index = index_of([list(row) for row in identifiers])
    even = {sequence: -np.arange(1.0, len(sequence) + 1) for sequence in index.sequences()}
    result = constrained_beam_search(model, tiny.text_prompts([5, 3]), index, 9, bonus=correction_of(index, even, 0.5))
    assert result.sequences == [sorted(identifiers)[:9]] * 2


def test_a_negative_weight_and_no_query_are_refused() -> None:
    index = index_of([[5, 6]])
    with pytest.raises(ValueError, match=r"-0\.5"):
        correction_of(index, random_priors(index), -0.5)
    with pytest.raises(ValueError, match="query"):
        estimate_priors(tiny.qwen2(), [], index)
