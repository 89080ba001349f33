"""Initial weights for matching, previous-token and copying attention heads.

From the library's random weights a model of this size does not learn within its steps to attend to an equal word
(LOG.md). So one key-value head of every layer starts by matching equal hidden states (mimetic initialisation: Trockman
& Kolter, "Mimetic Initialization of Self-Attention Layers", 2023) and one by attending to the token before or to the
last few; head 0 of the later layers starts by copying what it attends to, without which captions stay at chance while
letters are learnt. The model remains a plain Qwen2 that any library loads.
"""

from __future__ import annotations

from typing import Any

import torch

MATCH_SCALE = 0.8
COPY_SCALE = 0.5
FIRST_COPYING_LAYER = 3  # where answers are written from what they attend to (`losses.py`)
EMBEDDING_SCALE = 3.0  # large beside what the blocks add, so that deeper layers still see the word itself
BLOCK_SCALE = 0.25
# How sharply a previous-token head attends, and how many rotary pairs encode the position.
ONE_BACK = (4.0, slice(0, 6))
FEW_BACK = (2.0, slice(6, 14))


@torch.no_grad()
def set_lookup_heads(text_model: Any) -> None:
    """Set the heads of a freshly made Qwen2 text model with two key-value heads, in place.

    The query heads of key-value head 0 match equal content, through the rotary pairs of lowest frequency, which hardly
    depend on position. In key-value head 1, the first query head attends to the token before, the others to a few more.

    Args:
        text_model: a `Qwen2Model`; every layer's matching is drawn separately from torch's generator.
    """
    text_model.get_input_embeddings().weight.mul_(EMBEDDING_SCALE)
    theta = text_model.config.rope_parameters["rope_theta"]
    for number, layer in enumerate(text_model.layers):
        _match_equal_content(layer.self_attn)
        _look_back(layer.self_attn, theta)
        layer.self_attn.o_proj.weight.mul_(BLOCK_SCALE)
        layer.mlp.down_proj.weight.mul_(BLOCK_SCALE)
        if number >= FIRST_COPYING_LAYER:
            _copy(layer.self_attn)


def _match_equal_content(attention: Any) -> None:
    size = attention.head_dim
    slow = torch.arange(size // 4, size // 2)
    rows = torch.cat([slow, slow + size // 2])
    hidden_size = attention.q_proj.in_features
    projection = torch.linalg.qr(torch.randn(hidden_size, len(rows)))[0].T * MATCH_SCALE
    for head in range(attention.num_key_value_groups):
        attention.q_proj.weight[rows + head * size] = projection
    attention.k_proj.weight[rows] = projection


def _copy(attention: Any) -> None:
    """Let head 0 copy what it attends to, as far as a head's size holds it, into the state it attends from."""
    size = attention.head_dim
    projection = torch.linalg.qr(torch.randn(attention.o_proj.out_features, size))[0] * COPY_SCALE
    attention.v_proj.weight[:size] = projection.T
    attention.o_proj.weight[:, :size] = projection


def _look_back(attention: Any, theta: float) -> None:
    """Let the biases of queries and keys meet when the key is the right number of tokens before the query."""
    size, group = attention.head_dim, attention.num_key_value_groups
    one, few = torch.zeros(size), torch.zeros(size)
    one[ONE_BACK[1]], few[FEW_BACK[1]] = ONE_BACK[0], FEW_BACK[0]
    attention.k_proj.bias[size : 2 * size] = one + few
    for head in range(group, 2 * group):
        aim = _rotate(one, -1, theta) if head == group else _rotate(few, -2, theta)
        attention.q_proj.bias[head * size : (head + 1) * size] = aim


def _rotate(vector: torch.Tensor, places: int, theta: float) -> torch.Tensor:
    """Rotate a head's vector (head dim,) as rotary position embedding does at a position."""
    size = len(vector)
    angles = places / theta ** (torch.arange(0, size, 2) / size)
    first, second = vector.chunk(2)
    rotated = first * angles.cos() - second * angles.sin(), second * angles.cos() + first * angles.sin()
    return torch.cat(rotated)
