"""Prefix retention and the steps of a path, against plain forward passes and a beam search over lists."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch

from semcore.decoding import IdentifierIndex, constrained_beam_search, correction_of, estimate_priors
from semcore.decoding.path_steps import path_steps
from semcore.decoding.prefix_retention import Retention, RetentionWatch
from tests.semcore.decoding import tiny

Sequence = tuple[int, ...]


def index_of(identifiers: list[list[int]]) -> IdentifierIndex:
    return IdentifierIndex.from_sequences(identifiers, [str(row) for row in range(len(identifiers))])


def slow_course(score: Any, sequences: list[Sequence], target: Sequence, num_beams: int) -> tuple[int | None, bool]:
    """Return where a beam search over lists loses a target, and whether it is in the end among the best."""
    beams: list[Sequence] = [()]
    finished: list[Sequence] = []
    lost_at, set_aside = None, False
    for depth in range(1, max(map(len, sequences)) + 1):
        prefixes = sorted({own[:depth] for own in sequences if len(own) >= depth and own[: depth - 1] in beams})
        finished = sorted([*finished, *(p for p in prefixes if p in sequences)], key=score, reverse=True)[:num_beams]
        beams = sorted((p for p in prefixes if p not in sequences), key=score, reverse=True)[:num_beams]
        if depth < len(target) and lost_at is None and not set_aside and target[:depth] not in beams:
            lost_at = depth
        if len(finished) == num_beams:
            kept = [prefix for prefix in beams if score(prefix) >= score(finished[-1])]
            set_aside = set_aside or (lost_at is None and target[:depth] in beams and target[:depth] not in kept)
            beams = kept
    return lost_at, target in finished


@pytest.mark.parametrize("num_beams", [1, 2, 5, 24])
@pytest.mark.parametrize("with_prior", [False, True])
def test_retention_is_that_of_a_plain_beam_search(num_beams: int, with_prior: bool) -> None:
    model, inputs = tiny.qwen2(), tiny.text_prompts([5, 9])
    index = index_of(tiny.corpus(24, seed=num_beams))
    sequences = index.sequences()
    priors = estimate_priors(model, [tiny.text_prompts([4, 6, 3], seed=5)], index)
    weight = 0.5 if with_prior else 0.0
    correction = correction_of(index, priors, weight) if with_prior else None
    watch = RetentionWatch(index, [sequences, sequences[:7]])
    found = constrained_beam_search(model, inputs, index, num_beams=num_beams, bonus=correction, watch=watch)
    results = watch.results(found)
    assert [len(own) for own in results] == [len(sequences), 7]
    prior_of = {own[: i + 1]: values[i] for own, values in priors.items() for i in range(len(own))}
    for query, own in enumerate(results):

        @cache
        def score(prefix: Sequence, query: int = query) -> float:
            return tiny.teacher_forced(model, inputs, query, prefix) - weight * float(prior_of[prefix])

        for retention, target in zip(own, sequences, strict=False):
            lost_at, is_found = slow_course(score, sequences, target, num_beams)
            # with a prior a search drops by what can still be gained, so what falls behind may be lost instead
            assert (retention.found, retention.num_tokens) == (is_found, len(target))
            if not with_prior or is_found:
                assert retention.lost_at == lost_at
            if lost_at is not None and retention.lost_at == lost_at:
                assert score(target[:lost_at]) <= retention.last_scores[lost_at - 1] + 1e-4
    if num_beams == 24:
        assert all(each.found and each.lost_at is None for own in results for each in own)
    if num_beams == 1:
        assert any(each.lost_at for each in results[0])


def test_a_watch_changes_no_search() -> None:
    model, inputs = tiny.qwen2(), tiny.text_prompts([5, 9])
    index = index_of(tiny.corpus(40))
    plain = constrained_beam_search(model, inputs, index, num_beams=3)
    watched = constrained_beam_search(model, inputs, index, num_beams=3, watch=RetentionWatch(index, [[], []]))
    assert plain.sequences == watched.sequences
    assert torch.equal(plain.scores, watched.scores)


def test_retention_by_depth() -> None:
    lost = Retention(4, 3, False, ())
    assert [lost.retained(depth) for depth in range(1, 6)] == [True, True, False, False, False]
    outranked = Retention(4, None, False, ())
    assert [outranked.retained(depth) for depth in range(1, 6)] == [True, True, True, False, False]
    assert Retention(4, None, True, ()).retained(4)


def test_a_target_that_is_not_indexed_is_refused() -> None:
    with pytest.raises(ValueError, match="not in the index"):
        RetentionWatch(index_of([[3, 1], [4, 1]]), [[[5, 1]]])


@pytest.mark.parametrize("normalization", ["vocabulary", "identifiers"])
def test_steps_are_those_of_plain_forward_passes(normalization: Any) -> None:
    model, inputs = tiny.qwen2(), tiny.text_prompts([6])
    index = index_of(tiny.corpus(15))
    vocabulary = torch.from_numpy(index.trie.vocabulary.astype("int64"))
    for sequence in index.sequences():
        steps = path_steps(model, inputs, index, sequence, normalization)
        assert [step.taken.token for step in steps] == list(sequence)
        for place, step in enumerate(steps):
            tokens = torch.cat([inputs["input_ids"][0], torch.tensor(sequence[:place], dtype=torch.long)])[None]
            with torch.inference_mode():
                logits = model(input_ids=tokens).logits[0, -1].float()
            if normalization == "identifiers":
                outside = torch.ones_like(logits, dtype=torch.bool).index_fill_(0, vocabulary, False)
                logits = logits.masked_fill(outside, -torch.inf)
            expected = logits.log_softmax(-1)
            branches = [step.taken, *step.others]
            assert sorted(branch.token for branch in branches) == index.allowed_tokens(sequence[:place])
            for branch in branches:
                assert branch.log_probability == pytest.approx(float(expected[branch.token]), abs=1e-4)
            others = [branch.log_probability for branch in step.others]
            assert others == sorted(others, reverse=True)


def test_steps_of_an_image_query_add_up_to_its_score() -> None:
    model, inputs = tiny.internvl(), tiny.image_prompts(2, [4])
    index = index_of(tiny.corpus(30))
    found = constrained_beam_search(model, inputs, index, num_beams=4)
    for sequence, score in zip(found.sequences[0], found.scores[0].tolist(), strict=True):
        steps = path_steps(model, inputs, index, sequence)
        assert sum(step.taken.log_probability for step in steps) == pytest.approx(score, abs=1e-4)


def test_steps_need_one_query_and_a_known_identifier() -> None:
    model, index = tiny.qwen2(), index_of([[3, 1], [4, 1]])
    with pytest.raises(ValueError, match="found 2"):
        path_steps(model, tiny.text_prompts([3, 4]), index, (3, 1))
    with pytest.raises(ValueError, match="not in the index"):
        path_steps(model, tiny.text_prompts([3]), index, (5, 1))
