"""Embedding matrices of a model: the input's, and an untied head's."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch


def embedding_weights(model: Any) -> list[torch.Tensor]:
    """Return the weight (vocabulary, hidden) of the input embedding and, where it is untied, of the output head."""
    embedding, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    return [embedding] if head is embedding else [embedding, head]


def random_rows(known_rows: torch.Tensor, num_rows: int, seed: int) -> torch.Tensor:
    """Return new rows: the mean of the known ones, and normal noise of their standard deviation.

    Args:
        known_rows: (vocabulary, hidden).
        num_rows: how many.
        seed: of the noise.

    Returns:
        (num_rows, hidden).
    """
    noise = torch.randn(num_rows, known_rows.shape[1], generator=torch.Generator().manual_seed(seed)).to(known_rows)
    return known_rows.mean(0) + noise * known_rows.std(0)


def projected_rows(vectors: np.ndarray, known_rows: torch.Tensor, seed: int) -> torch.Tensor:
    """Return new rows that point where vectors do, as long as the known ones are on average.

    Vectors of the hidden size are copied (AVG, section 3.2); others go through a random map with orthonormal rows or
    columns, which keeps angles as far as the dimensions allow. AVG copies lengths too, which its codebook has learnt
    to be small; ours are scaled, so that a code is neither louder nor lower than a word.

    Args:
        vectors: (T, e); a row of NaN becomes the mean of the known rows.
        known_rows: (vocabulary, hidden).
        seed: of the map.

    Returns:
        (T, hidden).
    """
    given = torch.from_numpy(np.ascontiguousarray(vectors, np.float32))
    missing = given.isnan().any(dim=1)
    rows = given.nan_to_num() @ _orthonormal(given.shape[1], known_rows.shape[1], seed)
    lengths = rows.norm(dim=1, keepdim=True).clamp_min(1e-12)
    rows = (rows / lengths).to(known_rows) * known_rows.norm(dim=1).mean()
    rows[missing.to(rows.device)] = known_rows.mean(0)
    return rows


def _orthonormal(num_rows: int, num_columns: int, seed: int) -> torch.Tensor:
    """Return a matrix (num_rows, num_columns) with orthonormal rows or columns; the identity where it is square."""
    if num_rows == num_columns:
        return torch.eye(num_rows)
    longer, shorter = max(num_rows, num_columns), min(num_rows, num_columns)
    drawn = torch.randn(longer, shorter, generator=torch.Generator().manual_seed(seed))
    columns = torch.linalg.qr(drawn)[0]
    return columns if num_rows == longer else columns.T
