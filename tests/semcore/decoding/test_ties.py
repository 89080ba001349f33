"""Scores in float32 whatever the model's precision, and the order of equal scores."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from semcore.decoding import IdentifierIndex, constrained_beam_search, exhaustive_search
from semcore.decoding.beam_state import first_of_best
from tests.semcore.decoding import tiny


def index_of(identifiers: list[list[int]]) -> IdentifierIndex:
    return IdentifierIndex.from_sequences(identifiers, [str(row) for row in range(len(identifiers))])


def level_model() -> Any:
    """Return a model that finds every token equally likely, so that only lengths tell identifiers apart."""
    model = tiny.qwen2()
    torch.nn.init.zeros_(model.lm_head.weight)
    return model


def half_level_model() -> Any:
    """Return a model that knows two kinds of tokens, even and odd ones: a few scores, and many ties."""
    model = level_model()
    with torch.no_grad():
        model.lm_head.weight[::2] = torch.randn(model.config.hidden_size, generator=torch.Generator().manual_seed(0))
    return model


@pytest.mark.parametrize("normalization", ["vocabulary", "identifiers"])
def test_a_model_in_bfloat16_is_scored_in_float32(normalization: Any) -> None:
    """As on a GPU: rounded to bfloat16, some of these tokens would share their logit with another."""
    model, inputs = tiny.qwen2().to(torch.bfloat16), tiny.text_prompts([6])
    tokens = list(range(tiny.FIRST_WORD, tiny.VOCABULARY))
    with torch.inference_mode():
        states = model.get_decoder()(inputs["input_ids"]).last_hidden_state[0, -1]
    logits = states.float() @ model.lm_head.weight.float().T
    assert logits[tokens].bfloat16().unique().numel() < logits[tokens].unique().numel() == len(tokens)
    expected = logits.log_softmax(0) if normalization == "vocabulary" else logits[tokens].log_softmax(0)
    chosen = expected[tokens] if normalization == "vocabulary" else expected
    result = constrained_beam_search(model, inputs, index_of([[t] for t in tokens]), len(tokens), normalization)
    best = chosen.sort(descending=True)
    assert result.sequences[0] == [(tokens[place],) for place in best.indices.tolist()]
    torch.testing.assert_close(result.scores[0], best.values, atol=1e-5, rtol=0)


def test_later_tokens_are_scored_in_float32_too() -> None:
    model, inputs = tiny.qwen2().to(torch.bfloat16), tiny.text_prompts([6])
    tokens = list(range(tiny.FIRST_WORD, tiny.VOCABULARY))
    index = index_of([[7, token] for token in tokens])
    for result in (constrained_beam_search(model, inputs, index, 60), exhaustive_search(model, inputs, index)):
        assert result.scores[0, : len(tokens)].unique().numel() == len(tokens)


@pytest.mark.parametrize("num_beams", [1, 4, 9])
def test_of_equal_scores_the_first_tokens_win(num_beams: int) -> None:
    """Whatever the order in which the items were given."""
    identifiers = sorted({tuple(row) for row in tiny.corpus(60, num_words=3, same_length=True)}, reverse=True)
    index = index_of([list(row) for row in identifiers])
    result = constrained_beam_search(level_model(), tiny.text_prompts([5, 3]), index, num_beams)
    assert result.sequences == [sorted(identifiers)[:num_beams]] * 2


@pytest.mark.parametrize("num_beams", [1, 2, 5, 12])
def test_ties_are_those_of_a_search_step_by_step(num_beams: int) -> None:
    model, inputs = half_level_model(), tiny.text_prompts([5])
    identifiers = [tuple(row) for row in tiny.corpus(80, num_words=4, same_length=True)]
    found = constrained_beam_search(model, inputs, index_of([list(row) for row in identifiers]), num_beams)
    expected = step_by_step(model, inputs["input_ids"][0].tolist(), set(identifiers), num_beams)
    assert found.sequences[0] == expected


def step_by_step(model: Any, prompt: list[int], sequences: set[tuple[int, ...]], num_beams: int) -> list[Any]:
    """Search token by token with a plain pass for each path; scores are rounded, so that equal ones are equal here."""
    beams: list[tuple[float, tuple[int, ...]]] = [(0.0, ())]
    for length in range(1, len(next(iter(sequences))) + 1):
        found = []
        for cost, path in beams:
            with torch.inference_mode():
                gains = model(input_ids=torch.tensor([[*prompt, *path]])).logits[0, -1].log_softmax(0)
            following = {sequence[:length] for sequence in sequences if sequence[: length - 1] == path}
            found += [(round(cost - gains[longer[-1]].item(), 3), longer) for longer in following]
        beams = sorted(found)[:num_beams]
    return [path for _, path in beams]


def test_a_beam_as_wide_as_the_corpus_orders_ties_as_the_exhaustive_search() -> None:
    model, inputs = half_level_model(), tiny.text_prompts([5, 3])
    index = index_of([*tiny.corpus(30), [9], [9, 10]])
    everything = exhaustive_search(model, inputs, index)
    assert constrained_beam_search(model, inputs, index, 60).sequences == everything.sequences


def test_the_best_columns_are_the_first_ones() -> None:
    generator = torch.Generator().manual_seed(0)
    for most in (1, 3, 8):
        scores = torch.randint(0, 4, (50, 8), generator=generator).float()
        scores[::7, 2:] = -torch.inf
        expected = [sorted(sorted(range(8), key=lambda c: (-row[c], c))[:most]) for row in scores.tolist()]
        assert first_of_best(scores, most).tolist() == expected
