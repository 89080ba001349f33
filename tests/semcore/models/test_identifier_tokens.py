"""First embeddings of new tokens, by each of their starts."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from semcore.data.identifier_tokens import NewTokens
from semcore.models.embeddings import embedding_weights, projected_rows
from semcore.models.identifier_tokens import add_identifier_tokens

TEXTS = ["<|code_0|>", "<|code_1|>", "<|same_0|>"]
WORDS = [["red"], ["star", "red"], []]


def vectors(dimensions: int) -> np.ndarray:
    own = np.random.default_rng(0).normal(size=(3, dimensions)).astype(np.float32)
    own[2] = np.nan
    return own


def test_words(tiny_checkpoint) -> None:
    ids = add_identifier_tokens(tiny_checkpoint, NewTokens(TEXTS, WORDS))
    tokenizer = tiny_checkpoint.tokenizer
    for weight in embedding_weights(tiny_checkpoint.model):
        red = weight[tokenizer(" red", add_special_tokens=False)["input_ids"]].mean(0)
        torch.testing.assert_close(weight[ids[0]], red)
        torch.testing.assert_close(weight[ids[2]], weight[: ids[0]].mean(0))


@pytest.mark.parametrize("wider", [-3, 0, 5])
def test_codebook_rows_point_where_vectors_do(tiny_checkpoint, wider: int) -> None:
    hidden = tiny_checkpoint.model.get_input_embeddings().weight.shape[1]
    given = vectors(hidden + wider)
    before = [weight.detach().clone() for weight in embedding_weights(tiny_checkpoint.model)]
    ids = add_identifier_tokens(tiny_checkpoint, NewTokens(TEXTS, WORDS, given, "codebook"))
    for weight, known in zip(embedding_weights(tiny_checkpoint.model), before, strict=True):
        known = known[: ids[0]]
        lengths = weight[ids[:2]].norm(dim=1)
        torch.testing.assert_close(lengths, known.norm(dim=1).mean().expand(2))
        torch.testing.assert_close(weight[ids[2]], known.mean(0))
        torch.testing.assert_close(weight[: ids[0]], known)
        if wider == 0:
            unit = torch.from_numpy(given[:2]) / np.linalg.norm(given[:2], axis=1, keepdims=True)
            torch.testing.assert_close(weight[ids[:2]] / lengths[:, None], unit)


def test_a_wider_space_keeps_angles() -> None:
    given, known = vectors(6)[:2], torch.randn(20, 9)
    rows = projected_rows(given, known, seed=0)
    cosine = given[0] @ given[1] / np.linalg.norm(given[0]) / np.linalg.norm(given[1])
    assert torch.cosine_similarity(rows[0], rows[1], dim=0).item() == pytest.approx(cosine, abs=1e-5)


def test_noise_is_by_seed(tiny_checkpoint) -> None:
    tokens = NewTokens(TEXTS, WORDS, init="random")
    ids = add_identifier_tokens(tiny_checkpoint, tokens, seed=1)
    weight = tiny_checkpoint.model.get_input_embeddings().weight
    first = weight[ids].detach().clone()
    assert len({tuple(row.tolist()) for row in first}) == 3
    spread = (first - weight[: ids[0]].mean(0)).std() / weight[: ids[0]].std(0).mean()
    assert 0.5 < spread < 2
    assert add_identifier_tokens(tiny_checkpoint, NewTokens(TEXTS, WORDS), seed=2) == ids
    torch.testing.assert_close(weight[ids], first)  # tokens that are there stay as they are
