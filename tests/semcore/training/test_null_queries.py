"""Pairs without their query: which answers are learnt so, and that they read what the prior is asked with."""

from __future__ import annotations

from pathlib import Path

import pytest

from semcore.data.directions import Direction
from semcore.models.checkpoint import Checkpoint
from semcore.models.null_queries import NULL_QUERIES, knows_null_queries, null_queries_record
from semcore.models.prompts import load_prompts
from semcore.models.session import FeaturesInMemory, ModelSession
from semcore.retrieval.generator import null_query_inputs
from semcore.runtime.errors import UserError
from semcore.runtime.files import write_json
from semcore.training.identifier_pairs import Example
from semcore.training.null_queries import null_examples

T2I = [Example([1], [100 + number]) for number in range(30)]
I2T = [[Example([2], [200 + 5 * group + place], (str(group),)) for place in range(5)] for group in range(4)]


def test_a_fraction_of_each_directions_answers_is_learnt_with_the_prompt_of_a_null_query(
    tiny_checkpoint: Checkpoint,
) -> None:
    session = ModelSession(
        tiny_checkpoint, load_prompts(special_tokens=tiny_checkpoint.special_tokens), FeaturesInMemory()
    )
    drawn = null_examples(tiny_checkpoint.tokenizer, session.prompts, T2I, I2T, 0.2, seed=0)
    assert sum(example.answer[0] < 200 for example in drawn) == 6
    assert sum(example.answer[0] >= 200 for example in drawn) == 4
    assert len({tuple(example.answer) for example in drawn}) == len(drawn)
    assert not any(example.images for example in drawn)
    for direction, example in ((Direction.T2I, drawn[0]), (Direction.I2T, drawn[-1])):
        inputs = null_query_inputs(session, direction)
        assert inputs["attention_mask"].sum() == len(example.prompt)
        assert inputs["input_ids"][0].tolist() == list(example.prompt)


def test_the_draw_depends_on_the_seed_alone_and_nothing_is_drawn_of_nothing(tiny_checkpoint: Checkpoint) -> None:
    prompts, tokenizer = load_prompts(special_tokens=tiny_checkpoint.special_tokens), tiny_checkpoint.tokenizer
    first, again, other = (null_examples(tokenizer, prompts, T2I, I2T, 0.3, seed) for seed in (0, 0, 1))
    assert first == again != other
    assert null_examples(tokenizer, prompts, T2I, I2T, 0.0, 0) == []
    assert null_examples(tokenizer, prompts, T2I, [], 1.0, 0)[-1].answer == [129]


def test_a_models_record_says_whether_it_knows_null_queries(tmp_path: Path) -> None:
    assert not knows_null_queries(tmp_path)
    for fraction in (0.0, 0.1):
        write_json(tmp_path / NULL_QUERIES, null_queries_record(fraction))
        assert knows_null_queries(tmp_path) == (fraction > 0)
    write_json(tmp_path / NULL_QUERIES, {})
    with pytest.raises(UserError, match=NULL_QUERIES):
        knows_null_queries(tmp_path)
