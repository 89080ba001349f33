"""The key-value cache of a language model: the name under which a model takes it, and how far it reaches."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn
from transformers import Cache, DynamicCache

NAMES = ("cache", "past_key_values")
"""What `forward` of transformers calls its cache from 5.24 on, and what it called it before. Models that bring code
of their own may keep the old name under any release."""

_name_of: WeakKeyDictionary[nn.Module, str | None] = WeakKeyDictionary()


def cache_argument(model: nn.Module, cache: Cache) -> dict[str, Cache]:
    """Return the keyword argument that hands a cache to `model(**arguments)`.

    The name is found by use and not in the signature, where decorators rename arguments: the model reads one token
    with an empty cache under each name, and takes the one under which the cache has grown. A model is tried once.

    Raises:
        TypeError: the model fills a `DynamicCache` under no name.
    """
    name = cache_name(model)
    if name is None:
        raise TypeError(f"{type(model).__name__} fills no key-value cache under any of {', '.join(NAMES)}")
    return {name: cache}


def cache_name(model: nn.Module) -> str | None:
    """Return what the model calls its key-value cache, or None where it has none of the standard kind."""
    if model not in _name_of:
        _name_of[model] = next((name for name in NAMES if _fills(model, name)), None)
    return _name_of[model]


def longest_window(config: Any) -> int | None:
    """Return how many tokens the layer that sees the fewest can look back over, or None where all see everything."""
    cache = DynamicCache(config=config.get_text_config())
    lengths = [cache.get_max_length(layer) for layer in range(len(cache))]
    return min((length for length in lengths if length > 0), default=None)


@torch.inference_mode()
def _fills(model: nn.Module, name: str) -> bool:
    cache, token = DynamicCache(), torch.zeros(1, 1, dtype=torch.long, device=next(model.parameters()).device)
    try:
        model(input_ids=token, use_cache=True, **{name: cache})
    except torch.OutOfMemoryError:
        raise
    except Exception:  # whatever a model says of an argument that it does not know
        return False
    return cache.get_seq_length() == 1
