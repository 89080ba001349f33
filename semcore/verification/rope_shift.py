"""Shift of cached keys to new positions by re-applying RoPE (rotary position embedding).

Shapes: N layers, G key-value heads, n tokens, d values per head. A rotation mixes the two halves of d, as in Llama and
Qwen2.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import DynamicCache

from semcore.decoding.key_value_cache import cache_argument
from semcore.runtime.errors import UserError
from semcore.verification.block_cache import stacked

FIXED = ("default", "linear", "llama3", "yarn")
"""Kinds with constant frequencies; those of "dynamic" change beyond the length of the model's training."""
DISTANCE = 50
NUM_TOKENS = 4
TOLERANCE = 0.1  # for bfloat16 and many layers; a key that cannot be shifted is off by about 1


def shift_keys(keys: torch.Tensor, distances: torch.Tensor, frequencies: torch.Tensor) -> torch.Tensor:
    """Return keys (..., n, d) shifted by `distances` positions.

    Args:
        keys: keys (..., n, d) after their own rotation.
        distances: shifts in tokens (n,), or one of all tokens ().
        frequencies: frequencies of the model's rotary embedding, (d / 2,).
    """
    angles = distances.float()[..., None] * frequencies.float()
    cosines, sines = angles.cos(), angles.sin()
    first, second = keys.float().chunk(2, dim=-1)
    return torch.cat([first * cosines - second * sines, second * cosines + first * sines], dim=-1).to(keys.dtype)


def rotary_frequencies(model: Any) -> torch.Tensor:
    """Return the frequencies of a model's rotary position embedding, (d / 2,).

    Raises:
        UserError: it has none, or one whose keys cannot be shifted.
    """
    rotary = getattr(model.get_decoder(), "rotary_emb", None)
    if rotary is None or getattr(rotary, "rope_type", None) not in (*FIXED, "dynamic"):
        raise _unfit(model)
    return rotary.inv_freq


def longest_question(model: Any) -> float:
    """Return the number of tokens up to which the frequencies are constant."""
    rotary = model.get_decoder().rotary_emb
    return float("inf") if rotary.rope_type in FIXED else rotary.original_max_seq_len


@torch.inference_mode()
def check_rope_shift(model: Any) -> None:
    """Check on the model that keys shift by RoPE and values do not depend on the position.

    Raises:
        UserError: the text model's positions work in another way.
    """
    frequencies = rotary_frequencies(model)
    here, there = (_read(model, start) for start in (0, DISTANCE))
    keys = here[:, 0]
    if 2 * len(frequencies) != keys.shape[-1]:
        raise _unfit(model)
    distances = torch.full((NUM_TOKENS,), DISTANCE, device=keys.device)
    shifted = shift_keys(keys, distances, frequencies)
    for found, right in ((shifted, there[:, 0]), (here[:, 1], there[:, 1])):
        if (found - right).float().norm() > TOLERANCE * right.float().norm():
            raise _unfit(model)


def _read(model: Any, start: int) -> torch.Tensor:
    """Return keys and values of a few tokens from a position on, of all layers (N, 2, 1, G, n, d)."""
    cache = DynamicCache()
    tokens = torch.arange(NUM_TOKENS, device=model.device)[None]
    decoder = model.get_decoder()
    decoder(
        input_ids=tokens,
        attention_mask=torch.ones_like(tokens),
        position_ids=tokens + start,
        **cache_argument(decoder, cache),
        use_cache=True,
    )
    return stacked(cache)


def _unfit(model: Any) -> UserError:
    kind = model.config.get_text_config().model_type
    return UserError(
        f"candidate blocks turn keys to other positions, which the position embedding of this text model ({kind}) "
        "does not allow; use --attention full, or a checkpoint with a text model such as Qwen2 or Llama"
    )
