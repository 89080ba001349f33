"""More beams can cost recall, and do not with the prior off: short, likely identifiers crowd the list.

A narrow beam loses identifiers whose first token is no favourite, though nothing follows it and the whole is likely,
whatever is asked. A wider beam finds them, and they stand before the right one, which is less likely by far and says
more about the query. It is why 50 beams ranked image -> text worse than 20.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from semcore.decoding import (
    IdentifierIndex,
    constrained_beam_search,
    correction_of,
    estimate_priors,
    exhaustive_search,
)
from tests.semcore.decoding import tiny

QUERY, OTHERS = 30, (31, 32, 33)
FAVOURITE, SECOND = 10, 11
LIKELY = (20, 21, 22, 23)
"""Sentences of one word, each a tenth of the probability of every query."""
RIGHT = (FAVOURITE, 12, tiny.END)
NEXT: dict[int, dict[int, float]] = {
    QUERY: {FAVOURITE: 0.4, SECOND: 0.2, **dict.fromkeys(LIKELY, 0.1)},
    **{other: {FAVOURITE: 0.01, SECOND: 0.59, **dict.fromkeys(LIKELY, 0.1)} for other in OTHERS},
    FAVOURITE: {12: 0.2, 13: 0.16, 14: 0.16, 15: 0.16, 16: 0.16, 17: 0.16},
    SECOND: {13: 0.2, 14: 0.2, 15: 0.2, 16: 0.2, 17: 0.2},
    **{last: {tiny.END: 1.0} for last in (*LIKELY, *range(12, 18))},
}
"""Last token -> the probability of the next one."""


def bigram_model(table: dict[int, dict[int, float]]) -> Any:
    """Return a language model that looks at the last token only and knows these probabilities."""
    model = tiny.qwen2(hidden_size=tiny.VOCABULARY + 4, tie_word_embeddings=False)
    with torch.no_grad():
        for layer in model.model.layers:  # nothing is added to the embeddings: what is left of a layer is its input
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        model.model.embed_tokens.weight.copy_(torch.eye(tiny.VOCABULARY, tiny.VOCABULARY + 4))
        model.lm_head.weight.fill_(-40.0)
        for token, following in table.items():
            for next_token, probability in following.items():
                model.lm_head.weight[next_token, token] = math.log(probability)
        model.lm_head.weight /= math.sqrt(tiny.VOCABULARY + 4)  # the last norm makes one of a one-hot vector's root
    return model


def index() -> IdentifierIndex:
    """Return six sentences that begin with the favourite word, five with the second, and four likely ones."""
    longer = [[FAVOURITE, word, tiny.END] for word in range(12, 18)] + [[SECOND, w, tiny.END] for w in range(13, 18)]
    sequences = longer + [[word, tiny.END] for word in LIKELY]
    return IdentifierIndex.from_sequences(sequences, [str(row) for row in range(len(sequences))])


def ask(token: int) -> dict[str, torch.Tensor]:
    return {"input_ids": torch.tensor([[token]]), "attention_mask": torch.ones(1, 1, dtype=torch.long)}


def test_the_model_says_what_the_table_says() -> None:
    result = exhaustive_search(bigram_model(NEXT), ask(QUERY), index())
    score = dict(zip(result.sequences[0], result.scores[0].tolist(), strict=True))
    assert score[RIGHT] == pytest.approx(math.log(0.4 * 0.2), abs=1e-3)
    assert score[LIKELY[0], tiny.END] == pytest.approx(math.log(0.1), abs=1e-3)


def test_more_beams_cost_recall_unless_the_prior_is_off() -> None:
    model, identifiers = bigram_model(NEXT), index()
    narrow, wide = (constrained_beam_search(model, ask(QUERY), identifiers, num_beams=width) for width in (2, 8))
    assert narrow.sequences[0][0] == RIGHT
    assert [len(sequence) for sequence in wide.sequences[0][:4]] == [2] * 4, "the short, likely ones stand first"
    assert wide.sequences[0][4] == RIGHT

    priors = estimate_priors(model, [ask(token) for token in (QUERY, *OTHERS)], identifiers)
    for result in (narrow, wide):
        scores = zip(result.sequences[0], result.scores[0].tolist(), strict=True)
        rescored = sorted(scores, key=lambda each: priors[each[0]][-1] - each[1])
        assert rescored[0][0] == RIGHT
    correction = correction_of(identifiers, priors, 1.0)
    for width in (2, 8):
        corrected = constrained_beam_search(model, ask(QUERY), identifiers, num_beams=width, bonus=correction)
        assert corrected.sequences[0][0] == RIGHT
