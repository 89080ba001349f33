"""Pairs without their query, from which a model learns how probable identifiers are whatever is asked."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import chain
from typing import Any

from semcore.data.directions import Direction
from semcore.models.prompts import Prompts
from semcore.models.tokenization import chat_prompt, tokenize
from semcore.training.identifier_pairs import Example


def null_examples(
    tokenizer: Any,
    prompts: Prompts,
    t2i: Sequence[Example],
    i2t: Sequence[Sequence[Example]],
    fraction: float,
    seed: int,
) -> Sequence[Example]:
    """Return some pairs of each direction with the prompt of the null query: no sentence and no image stands in it.

    Args:
        tokenizer: with the cluster tokens.
        prompts: `identify_t2i` and `identify_i2t` are used.
        t2i: the pairs that are trained on.
        i2t: likewise, image by image.
        fraction: how many of them are learnt without their query too.
        seed: of the draw.
    """
    drawn: list[Example] = []
    for direction, number, own in (
        (Direction.T2I, len(t2i), t2i),
        (Direction.I2T, sum(map(len, i2t)), chain.from_iterable(i2t)),
    ):
        turn = prompts.render(direction.identify_prompt, query="", image="")
        prompt = tokenize(tokenizer, chat_prompt(tokenizer, turn))
        chosen = set(random.Random(f"{seed} {direction}").sample(range(number), round(fraction * number)))
        drawn += [Example(prompt, pair.answer) for place, pair in enumerate(own if chosen else ()) if place in chosen]
    return drawn
