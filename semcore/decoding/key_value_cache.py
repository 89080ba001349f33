"""Key-value cache of a language model: the argument that a model takes it by, and its sliding window."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn
from transformers import Cache, DynamicCache

NAMES = ("cache", "past_key_values")
"""Names of the cache argument of `forward` in transformers: from 5.24 on, and before. Models with remote code may keep
the old name under any release."""

_name_of: WeakKeyDictionary[nn.Module, str | None] = WeakKeyDictionary()


def cache_argument(model: nn.Module, cache: Cache) -> dict[str, Cache]:
    """Return the keyword argument that passes a cache to `model(**arguments)`.

    The name is found by a trial and not in the signature, where decorators rename arguments: the model reads one token
    with an empty cache under each name, and the name under which the cache has grown is used. A model is tried once.

    Raises:
        TypeError: the model fills a `DynamicCache` under no name.
    """
    name = cache_name(model)
    if name is None:
        raise TypeError(f"{type(model).__name__} fills no key-value cache under any of {', '.join(NAMES)}")
    return {name: cache}


def cache_name(model: nn.Module) -> str | None:
    """Return the name of the model's cache argument, or None where it has no cache of the standard kind."""
    if model not in _name_of:
        _name_of[model] = next((name for name in NAMES if _fills(model, name)), None)
    return _name_of[model]


def longest_window(config: Any) -> int | None:
    """Return the shortest attention window of any layer in tokens, or None where every layer attends to all tokens."""
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
    except Exception:  # models raise various errors on an argument that they do not know
        return False
    return cache.get_seq_length() == 1
