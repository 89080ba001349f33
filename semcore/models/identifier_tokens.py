"""New tokens of identifiers in a model, and where their embeddings start.

Shapes: T new tokens, e dimensions of their vectors, H the model's hidden size.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from semcore.data.identifier_tokens import NewTokens
from semcore.models.checkpoint import Checkpoint
from semcore.models.embeddings import embedding_weights, projected_rows, random_rows


def add_identifier_tokens(checkpoint: Checkpoint, tokens: NewTokens, seed: int = 0) -> list[int]:
    """Add the new tokens and give their embeddings a start.

    Existing tokens are left unchanged, so this can be called on a trained model.

    Args:
        checkpoint: its tokenizer, its input embedding and, where it is untied, its output head get the tokens.
        tokens: with `init` "words" an embedding starts at the mean of its words', with "codebook" at the token's
            vector, with "random" at the mean of all and noise. A token without words, or without a vector, starts at
            the mean of all.
        seed: of the noise, and of the map from vectors to embeddings where their dimensions differ.

    Returns:
        The ids of the tokens, in order.
    """
    model, tokenizer, texts = checkpoint.model, checkpoint.tokenizer, list(tokens.texts)
    known = tokenizer.get_vocab()
    new = [place for place, text in enumerate(texts) if text not in known]
    tokenizer.add_tokens(texts, special_tokens=True)
    ids = tokenizer.convert_tokens_to_ids(texts)
    if not new:
        return ids
    rows_before = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows_before:
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    for weight in embedding_weights(model):
        with torch.no_grad():
            known_rows = weight[: min(rows_before, ids[new[0]])]
            started = _start(tokenizer, tokens, known_rows, seed)
            for place in new:
                weight[ids[place]] = started(place)
    return ids


def _start(tokenizer: Any, tokens: NewTokens, known_rows: torch.Tensor, seed: int) -> Any:
    """Return a function from a token's place to its first embedding (H,)."""
    if tokens.init == "words":

        def from_words(place: int) -> torch.Tensor:
            words = [f" {word}" for word in tokens.words[place]]  # without special tokens, such as BOS
            ids = [i for word in words for i in tokenizer(word, add_special_tokens=False)["input_ids"]]
            return known_rows[ids].mean(0) if ids else known_rows.mean(0)

        return from_words
    if tokens.init == "random" or tokens.vectors is None:
        return random_rows(known_rows, len(tokens.texts), seed).__getitem__
    rows = projected_rows(np.asarray(tokens.vectors), known_rows, seed)
    return rows.__getitem__
