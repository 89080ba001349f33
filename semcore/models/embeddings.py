"""Embedding matrices of a model: the input's, and an untied head's."""

from __future__ import annotations

from typing import Any

import torch


def embedding_weights(model: Any) -> list[torch.Tensor]:
    """Return the weight (vocabulary, hidden) of the input embedding and, where it is untied, of the output head."""
    embedding, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    return [embedding] if head is embedding else [embedding, head]
