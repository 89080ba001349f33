"""Estimated rows, against the rows that the training packs."""

from __future__ import annotations

import random
from typing import Any

import pytest

from semcore.data.directions import Direction
from semcore.training.identifier_pairs import Example
from semcore.training.memory_plan.workload import CHAT_TOKENS, identifier_workload, num_steps, verifier_workload
from semcore.training.schedule import Pairs, identifier_rows

IMAGE_START = 1


def example(prompt: list[int], answer: int, images: tuple[str, ...] = ()) -> Example:
    return Example(prompt=prompt, answer=[9] * answer, images=images)


def test_rows_are_about_as_many_as_are_packed() -> None:
    """Twenty images of five sentences, none held out, with prompts of the length that is assumed."""
    chat = [2] * CHAT_TOKENS
    t2i = [example([*chat, 100 + number, *[3] * 33], 10) for number in range(100)]
    prompts = [[*chat, IMAGE_START, *[4] * 255, *[5] * 20] for _ in range(20)]
    i2t = [[example(prompt, 10, (str(image),)) for _ in range(5)] for image, prompt in enumerate(prompts)]
    rows = identifier_rows(Pairs(t2i, i2t), random.Random(0), max_tokens=512, image_start_id=IMAGE_START)
    estimated = identifier_workload(
        20, 5, image_tokens=256, num_keywords=4, row_tokens=512, held_out_sentences=0, held_out_fraction=0.0
    )
    assert estimated.num_rows == pytest.approx(len(rows), abs=1)


def test_one_direction_has_its_own_rows_alone() -> None:
    sizes: dict[str, Any] = {"image_tokens": 256, "num_keywords": 4, "held_out_sentences": 1, "held_out_fraction": 0.1}
    both, t2i, i2t = (
        identifier_workload(100, 5, row_tokens=512, directions=directions, **sizes)
        for directions in (tuple(Direction), (Direction.T2I,), (Direction.I2T,))
    )
    assert t2i.num_rows + i2t.num_rows == both.num_rows and t2i.num_tokens + i2t.num_tokens == both.num_tokens
    assert t2i.largest.num_images == 0 and i2t.largest == both.largest
    both, t2i, i2t = (
        verifier_workload(100, num_candidates=10, extra_questions=4, limit=None, directions=directions, **sizes)
        for directions in (tuple(Direction), (Direction.T2I,), (Direction.I2T,))
    )
    assert t2i.num_tokens + i2t.num_tokens == both.num_tokens
    assert (t2i.largest.num_images, i2t.largest.num_images) == (10, 5)


def test_a_verifier_is_asked_with_what_is_held_out() -> None:
    def rows(limit: int | None) -> int:
        return verifier_workload(
            1000, image_tokens=256, num_keywords=4, num_candidates=10, extra_questions=4, held_out_sentences=1,
            held_out_fraction=0.1, limit=limit,
        ).num_rows  # fmt: skip

    assert rows(None) == 1000 + 100
    assert rows(50) == 50 + 50


def test_in_candidate_blocks_the_head_stands_before_every_candidate() -> None:
    sizes: dict[str, Any] = {"image_tokens": 256, "num_keywords": 4, "num_candidates": 10, "extra_questions": 4}
    full, blocks = (
        verifier_workload(1000, held_out_sentences=1, held_out_fraction=0.0, limit=None, attention=attention, **sizes)
        for attention in ("full", "blocks")
    )
    assert blocks.num_tokens - full.num_tokens == 1000 * 9 * CHAT_TOKENS
    assert blocks.largest.num_tokens - full.largest.num_tokens == 9 * CHAT_TOKENS


def test_steps_are_whole_and_end_where_they_are_told_to() -> None:
    assert num_steps(100, 8, 3, None) == 37
    assert num_steps(100, 8, 3, 5) == 5
    assert num_steps(3, 8, 1, None) == 1
