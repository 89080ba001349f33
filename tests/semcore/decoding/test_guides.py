"""Guides of the beam search beside slow, obvious references: a search step by step, `generate`, and everything."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LogitsProcessor, LogitsProcessorList

from semcore.decoding import IdentifierIndex, constrained_beam_search, correction_of, exhaustive_search
from semcore.decoding.bonus import Bonus, added
from semcore.decoding.cached_model import Prompts
from semcore.decoding.guides import look_ahead, released_form, sequence_sums, token_by_token, weights_in_use
from semcore.decoding.potentials import best_by_sequence, potentials, queries_at_a_time, sequences_of_items
from semcore.decoding.transformers_engine import BEAM_SETTINGS, prefix_callback
from semcore.runtime.errors import UserError
from tests.semcore.decoding import tiny
from tests.semcore.decoding.test_prior import random_priors

PARTING = [*tiny.corpus(40), [9], [9, 10], [tiny.END], *tiny.corpus(8)]
"""Shared prefixes, prefixes of others, one token, equal identifiers."""
Sequence = tuple[int, ...]


def index_of(identifiers: list[list[int]]) -> IdentifierIndex:
    return IdentifierIndex.from_sequences(identifiers, [str(row) for row in range(len(identifiers))])


def random_scores(index: IdentifierIndex, num_queries: int, spread: float = 6.0, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return spread * torch.randn(num_queries, index.trie.num_sequences, generator=generator)


def random_weights(index: IdentifierIndex, num_queries: int, seed: int = 0) -> torch.Tensor:
    """Return weights of the tokens in use, 0 for the end token, as a set head has them."""
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(num_queries, tiny.VOCABULARY, generator=generator).mul(4).relu().log1p()
    weights[:, tiny.END] = 0.0
    return weights_in_use(index, torch.arange(tiny.VOCABULARY), weights)


def step_by_step(
    model: Any, prompt: list[int], sequences: list[Sequence], bonus: Callable[[Sequence, bool], float], num_beams: int
) -> list[tuple[Sequence, float]]:
    """Search token by token; `bonus` is of a prefix and whether it ends there, which is a step where others go on."""
    whole, found = set(sequences), list[tuple[float, Sequence]]()
    beams: list[tuple[float, Sequence]] = [(0.0, ())]
    for length in range(1, max(map(len, sequences)) + 2):
        found += [(gain + bonus(path, True), path) for gain, path in beams if path in whole]
        longer = []
        for gain, path in beams:
            with torch.inference_mode():
                logits = model(input_ids=torch.tensor([[*prompt, *path]])).logits[0, -1].float().log_softmax(-1)
            nexts = {own[:length] for own in whole if len(own) >= length and own[: length - 1] == path}
            longer += [(gain + logits[prefix[-1]].item(), prefix) for prefix in nexts]
        going_on = {path for _, path in longer if any(s[:length] == path != s for s in whole)}
        found += [(gain + bonus(path, True), path) for gain, path in longer if path not in going_on]
        alive = [each for each in longer if each[1] in going_on]
        beams = sorted(alive, key=lambda each: (-each[0] - bonus(each[1], False), each[1]))[:num_beams]
    ranked = sorted(found, key=lambda each: (-each[0], each[1]))
    return [(path, score) for score, path in ranked if score > -torch.inf][:num_beams]


def compare(result: Any, query: int, expected: list[tuple[Sequence, float]]) -> None:
    assert result.sequences[query] == [path for path, _ in expected]
    scores = result.scores[query, : len(expected)].tolist()
    assert scores == pytest.approx([score for _, score in expected], abs=1e-4)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.integers(3, 7), min_size=1, max_size=4), min_size=1, max_size=25), st.integers(0, 99))
def test_a_potential_is_the_best_score_of_what_begins_with_the_prefix(words: list[list[int]], seed: int) -> None:
    index = index_of([[*own, tiny.END] for own in words] + words)
    scores = random_scores(index, 2, seed=seed)
    scores[1, ::3] = -torch.inf
    best = potentials(index.tensors, scores)
    sequences = index.sequences()
    for prefix in {own[:length] for own in sequences for length in range(len(own))}:
        node, consumed = index.find(prefix)
        below = [number for number, own in enumerate(sequences) if own[: len(prefix)] == prefix]
        if consumed == 0:
            assert best[:, node].tolist() == scores[:, below].amax(1).tolist()


@pytest.mark.parametrize("num_beams", [1, 3, 8])
def test_looking_ahead_is_a_search_step_by_step(num_beams: int) -> None:
    model, index, inputs = tiny.qwen2(), index_of(PARTING), tiny.text_prompts([5, 5])
    scores, sequences = random_scores(index, 2), index.sequences()
    result = constrained_beam_search(model, inputs, index, num_beams, bonus=look_ahead(index, scores, 0.7))
    for query in range(2):
        own = dict(zip(sequences, (0.7 * scores[query]).tolist(), strict=True))

        def bonus(prefix: Sequence, ended: bool, own: dict[Sequence, float] = own) -> float:
            return own[prefix] if ended else max(own[each] for each in own if each[: len(prefix)] == prefix)

        compare(result, query, step_by_step(model, inputs["input_ids"][query].tolist(), sequences, bonus, num_beams))
        assert result.bonuses is not None
        assert result.bonuses[query] == pytest.approx([own[each] for each in result.sequences[query]], abs=1e-5)


@pytest.mark.parametrize("num_beams", [1, 3, 8])
def test_adding_token_by_token_is_a_search_step_by_step(num_beams: int) -> None:
    model, index, inputs = tiny.qwen2(), index_of(PARTING), tiny.text_prompts([5, 5])
    weights, vocabulary = random_weights(index, 2), index.tensors.vocabulary.tolist()
    result = constrained_beam_search(model, inputs, index, num_beams, bonus=token_by_token(index, weights, 1.5))
    for query in range(2):
        own = dict(zip(vocabulary, (1.5 * weights[query]).tolist(), strict=True))

        def bonus(prefix: Sequence, ended: bool, own: dict[int, float] = own) -> float:
            return sum(own[token] for token in prefix)

        expected = step_by_step(model, inputs["input_ids"][query].tolist(), index.sequences(), bonus, num_beams)
        compare(result, query, expected)
        assert result.bonuses is not None
        assert result.bonuses[query] == pytest.approx([bonus(each, True) for each, _ in expected], abs=1e-4)


class _Tokens(LogitsProcessor):
    """ComGTIR's weights of tokens, from the second token on."""

    def __init__(self, weights: torch.Tensor, weight: float, prompt: int):
        self.added, self.prompt = weight * weights, prompt

    def __call__(self, ids: Any, scores: Any) -> Any:
        return scores if ids.shape[1] == self.prompt else scores + self.added


class _Prefixes(LogitsProcessor):
    """Its weights of tokens again, and the best of what begins with the prefix that is written."""

    def __init__(self, weights: torch.Tensor, tables: list[dict[Sequence, float]], prompt: int, num_beams: int):
        self.weights, self.tables, self.prompt, self.num_beams = weights, tables, prompt, num_beams

    def __call__(self, ids: Any, scores: Any) -> Any:
        scores = scores + self.weights
        for row in range(len(scores)):
            scores[row] += self.tables[row // self.num_beams].get(tuple(ids[row, self.prompt :].tolist()), 0.0)
        return scores


@pytest.mark.parametrize("num_beams", [3, 10])
def test_the_released_form_is_generate_with_two_logits_processors(num_beams: int) -> None:
    model, inputs = tiny.qwen2(), tiny.text_prompts([5, 3])
    index = index_of(tiny.corpus(80, same_length=True))
    weights = random_weights(index, 2)
    whole = torch.zeros(2, tiny.VOCABULARY).index_copy(1, index.tensors.vocabulary, weights)
    sums = [{own: sum(whole[q, t].item() for t in own) for own in index.sequences()} for q in range(2)]
    ranked = [sorted(own.values(), reverse=True) for own in sums]  # the same tokens in another order have the same sum
    best = next(n for n in range(10, 40) if all(own[n - 1] - own[n] > 1e-3 for own in ranked))
    tables: list[dict[Sequence, float]] = [{}, {}]
    for table, own in zip(tables, sums, strict=True):
        for sequence in sorted(own, key=lambda each: -own[each])[:best]:
            for length in range(1, 5):
                prefix = sequence[:length]
                table[prefix] = max(table.get(prefix, 0.0), own[sequence] / (4 * 8.0))
    result = constrained_beam_search(model, inputs, index, num_beams, bonus=released_form(index, weights, best=best))
    ends, width = index.end_tokens(), inputs["input_ids"].shape[1]
    rows = whole.repeat_interleave(num_beams, 0)
    output = model.generate(
        **inputs, max_new_tokens=index.max_length, num_beams=num_beams, num_return_sequences=num_beams,
        do_sample=False, **BEAM_SETTINGS, prefix_allowed_tokens_fn=prefix_callback(index, width, ends),
        logits_processor=LogitsProcessorList([_Tokens(rows, 0.5, width), _Prefixes(rows, tables, width, num_beams)]),
        eos_token_id=ends, pad_token_id=ends[0], return_dict_in_generate=True, output_scores=True,
    )  # fmt: skip
    answers = output.sequences[:, width:].view(2, num_beams, -1).tolist()
    for query in range(2):
        assert result.sequences[query] == [tuple(own) for own in answers[query]]
        theirs = output.sequences_scores.view(2, num_beams)[query]
        assert torch.allclose(result.scores[query], theirs, atol=1e-4)
        plain = dict(zip(*_everything(model, inputs, index, query), strict=True))
        assert result.bonuses is not None
        parts = [plain[own] + more for own, more in zip(result.sequences[query], result.bonuses[query], strict=True)]
        assert parts == pytest.approx(result.scores[query].tolist(), abs=1e-4)


def _everything(model: Any, inputs: Any, index: IdentifierIndex, query: int) -> tuple[list[Sequence], list[float]]:
    result = exhaustive_search(model, inputs, index)
    return result.sequences[query], result.scores[query].tolist()


def test_a_beam_as_wide_as_the_corpus_finds_the_best_of_all() -> None:
    model, index, inputs = tiny.internvl(), index_of(PARTING), tiny.image_prompts(1, [3, 5])
    scores = random_scores(index, 2)
    result = constrained_beam_search(model, inputs, index, 60, bonus=look_ahead(index, scores))
    for query in range(2):
        own = dict(zip(index.sequences(), scores[query].tolist(), strict=True))
        total = [
            (each, score + own[each]) for each, score in zip(*_everything(model, inputs, index, query), strict=True)
        ]
        compare(result, query, sorted(total, key=lambda each: -each[1]))


@pytest.mark.parametrize("top_k", [1, 4])
def test_dropping_what_cannot_come_back_changes_nothing(top_k: int) -> None:
    model, index, inputs = tiny.qwen2(), index_of(PARTING), tiny.text_prompts([4, 6])
    for seed in range(4):
        bonus = look_ahead(index, random_scores(index, 2, seed=seed))
        whole = constrained_beam_search(model, inputs, index, 6, bonus=bonus)
        head = constrained_beam_search(model, inputs, index, 6, top_k=top_k, bonus=bonus)
        assert [own[:top_k] for own in whole.sequences] == head.sequences


@pytest.mark.parametrize("num_beams", [1, 7])
def test_a_weight_of_nothing_is_no_guide_to_the_bit(num_beams: int) -> None:
    model, index, inputs = tiny.qwen2(), index_of(PARTING), tiny.text_prompts([4, 6])
    plain = constrained_beam_search(model, inputs, index, num_beams)
    for bonus in (
        look_ahead(index, random_scores(index, 2), 0.0),
        token_by_token(index, random_weights(index, 2), 0.0),
    ):
        guided = constrained_beam_search(model, inputs, index, num_beams, bonus=bonus)
        assert guided.sequences == plain.sequences
        assert torch.equal(guided.scores, plain.scores)


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_a_score_of_minus_infinity_excludes_an_item(weight: float) -> None:
    """What is left is what a search of an index without these items finds; without any item left it finds nothing."""
    model, identifiers, inputs = tiny.qwen2(), tiny.corpus(40), tiny.text_prompts([4, 6])
    index = index_of(identifiers)
    numbers = sequences_of_items(index, [str(row) for row in range(40)])
    kept = {tuple(own) for row, own in enumerate(identifiers) if row % 3 == 0}
    items = torch.tensor([0.0 if tuple(own) in kept else -torch.inf for own in identifiers]).expand(2, -1).clone()
    items[1] = -torch.inf
    guided = constrained_beam_search(
        model, inputs, index, 8, bonus=look_ahead(index, best_by_sequence(index, numbers, items), weight)
    )
    smaller = constrained_beam_search(model, inputs, index_of([list(own) for own in kept]), 8)
    assert guided.sequences[0] == smaller.sequences[0]
    assert guided.sequences[1] == []
    assert not guided.scores.isnan().any()


def test_the_best_item_of_an_identifier_speaks_for_it() -> None:
    index = IdentifierIndex.from_sequences([[5, 1], [6, 1], [5, 1]], ["a", "b", "c"])
    numbers = sequences_of_items(index, ["c", "b", "a"])
    best = best_by_sequence(index, numbers, torch.tensor([[2.0, 4.0, 3.0]]))
    by_number = dict(zip(index.sequences(), best[0].tolist(), strict=True))
    assert by_number == {(5, 1): 3.0, (6, 1): 4.0}
    several = IdentifierIndex.from_sequences([[5, 1], [6, 1], [5, 1], [7, 1]], ["a", "a", "b", "b"])
    best = best_by_sequence(several, sequences_of_items(several, ["a", "b"]), torch.tensor([[2.0, 3.0]]))
    by_number = dict(zip(several.sequences(), best[0].tolist(), strict=True))
    assert by_number == {(5, 1): 3.0, (6, 1): 2.0, (7, 1): 3.0}, "each of an item's identifiers has its score"
    with pytest.raises(UserError) as raised:
        sequences_of_items(index, ["a", "z"])
    assert str(raised.value) == "1 items are not in the index, the first is 'z': index them first"


def test_an_index_that_has_changed_is_guided_like_one_built_anew() -> None:
    identifiers, more = tiny.corpus(30), tiny.corpus(12, seed=1)
    changed = index_of(identifiers)
    changed.add(more, [f"new {row}" for row in range(12)])
    changed.remove([str(row) for row in range(0, 30, 2)])
    left = [own for row, own in enumerate(identifiers) if row % 2] + more
    ids = [str(row) for row in range(1, 30, 2)] + [f"new {row}" for row in range(12)]
    anew = IdentifierIndex.from_sequences(left, ids)
    items = torch.randn(2, len(ids), generator=torch.Generator().manual_seed(5)) * 5
    model, inputs, found = tiny.qwen2(), tiny.text_prompts([4, 6]), []
    for index in (changed, anew):
        scores = best_by_sequence(index, sequences_of_items(index, ids), items)
        guides = look_ahead(index, scores), token_by_token(index, random_weights(index, 2))
        found.append([constrained_beam_search(model, inputs, index, 7, bonus=guide) for guide in guides])
    for ours, expected in zip(*found, strict=True):
        assert ours.sequences == expected.sequences
        assert torch.allclose(ours.scores, expected.scores, atol=1e-5)


def test_sums_over_tokens_are_those_of_the_sequences() -> None:
    for identifiers in (PARTING, [[5, 6, tiny.END]]):
        index = index_of(identifiers)
        weights = random_weights(index, 3)
        places = [torch.searchsorted(index.tensors.vocabulary, torch.tensor(own)) for own in index.sequences()]
        expected = torch.stack([weights[:, own].sum(1) for own in places], 1)
        assert torch.allclose(sequence_sums(index, weights), expected, atol=1e-5)


def test_the_prior_comes_off_and_a_guide_is_added_in_one_search() -> None:
    """With a beam as wide as the corpus: log p - w * prior + s; the guide is made from the prompts' states."""
    model, index, inputs = tiny.qwen2(), index_of(PARTING), tiny.text_prompts([4, 6])
    priors, seen = random_priors(index), []

    def guide(prompts: Prompts) -> Bonus:
        assert prompts.hidden is not None
        seen.append(prompts.hidden.shape)
        return look_ahead(index, prompts.hidden[:, -1, :1].repeat(1, index.trie.num_sequences).cumsum(1))

    result = constrained_beam_search(
        model, inputs, index, 60, top_k=20, bonus=added(correction_of(index, priors, 0.8), None, guide)
    )
    assert seen == [(2, 6, 32)]
    states = model.model(**inputs).last_hidden_state[:, -1, 0].tolist()
    for query in range(2):
        order = {own: number for number, own in enumerate(index.sequences())}
        total = [
            (own, score - 0.8 * priors[own][-1] + (order[own] + 1) * states[query])
            for own, score in zip(*_everything(model, inputs, index, query), strict=True)
        ]
        compare(result, query, sorted(total, key=lambda each: -each[1])[:20])


def test_what_is_refused() -> None:
    index = index_of([[5, 1], [6, 7, 1]])
    with pytest.raises(UserError) as raised:
        released_form(index, random_weights(index, 1))
    assert str(raised.value) == (
        "guide mode released needs identifiers of one length, found 2 to 3 tokens, of which the longer would gain by "
        "their length alone; use mode lookahead"
    )
    with pytest.raises(ValueError, match="0 or more, found -1"):
        look_ahead(index, torch.zeros(1, 2), -1)


def test_fewer_queries_are_searched_at_once_in_a_large_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    index = index_of(PARTING)
    assert queries_at_a_time(index, 32) == 32
    monkeypatch.setattr("semcore.decoding.potentials.NODES_AT_A_TIME", 3 * len(index.trie.node_token) + 1)
    assert queries_at_a_time(index, 32) == 3
