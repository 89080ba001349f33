"""Initial weights with attention heads that look things up: equal content, the tokens just before; and one that copies.

A model of this size with the library's own random weights does not come to look a word up by what it is within the
steps it has here (LOG.md). So one key-value head of every layer begins by matching equal hidden states (as mimetic
initialisation does: Trockman & Kolter, "Mimetic Initialization of Self-Attention Layers", 2023) and one by looking back
a token or a few; and head 0 of the later layers begins by writing down what it looks at, without which captions stay
at guesses while letters are learnt. The model stays a plain Qwen2 that any library loads.
"""

from __future__ import annotations

from typing import Any

import torch

MATCH_SCALE = 0.8
COPY_SCALE = 0.5
FIRST_COPYING_LAYER = 3  # where answers are written from what they look at (`losses.py`)
EMBEDDING_SCALE = 3.0  # beside blocks that write little, so that a layer still sees which word it is
BLOCK_SCALE = 0.25
# How sharply a head looks back, and how many rotary pairs say where it looks.
ONE_BACK = (4.0, slice(0, 6))
FEW_BACK = (2.0, slice(6, 14))


@torch.no_grad()
def set_lookup_heads(text_model: Any) -> None:
    """Set the heads of a freshly made Qwen2 text model with two key-value heads, in place.

    The query heads of key-value head 0 match equal content, through the rotary pairs that turn slowest and so hardly
    tell places apart. Of key-value head 1, the first query head looks at the token before, the others at the last few.

    Args:
        text_model: a `Qwen2Model`; every layer has a matching of its own, drawn from torch's generator.
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
    """Let head 0 add what it attends to, as far as a head's size holds it, to the state it attends from."""
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
        aim = _turn(one, -1, theta) if head == group else _turn(few, -2, theta)
        attention.q_proj.bias[head * size : (head + 1) * size] = aim


def _turn(vector: torch.Tensor, places: int, theta: float) -> torch.Tensor:
    """Turn a head's vector as rotary position embedding does at a position."""
    size = len(vector)
    angles = places / theta ** (torch.arange(0, size, 2) / size)
    first, second = vector.chunk(2)
    turned = first * angles.cos() - second * angles.sin(), second * angles.cos() + first * angles.sin()
    return torch.cat(turned)
