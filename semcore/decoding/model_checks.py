"""Check by trial that a model supports the search's cache, masks and positions.

The search keeps the tokens of all beams side by side in one cache. That is correct only if the model fills the cache,
if masked tokens have no influence, and if `position_ids`, not positions in the cache, order the tokens. No signature
or configuration says so reliably, so four small trees are read in one batch: as they are, with other masked tokens, in
another order, and after another prompt, whose influence sets the scale.

Shapes: P prompt tokens, R tokens of a tree; vocabulary V.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

from semcore.decoding.cached_model import Prompts, read_prompts, read_tree
from semcore.decoding.key_value_cache import cache_name
from semcore.runtime.errors import UserError
from semcore.runtime.peft_models import without_adapter

WAY_OUT = "use a decoder-only attention model, or the transformers engine"
NO_CACHE = f"keeps no key-value cache of the standard kind; {WAY_OUT}"
NO_POSITIONS = f"takes no position_ids, so beams cannot share a prompt; {WAY_OUT}"
NO_MASKS = (
    "has an attention that takes no masks, through which beams share a prompt: "
    'load the model with attn_implementation="sdpa"'
)
PROMPT, OTHER_PROMPT, TARGET = (3, 4, 5, 6), (5, 3, 7, 4), 8
HIDDEN, OTHER_HIDDEN = (4, 7), (6, 5)
NUM_HIDDEN = 24
"""Far enough for a bias that grows with the distance in the cache (ALiBi) to show."""
NEGLIGIBLE = 0.3
"""As a fraction of the prompt's influence: bfloat16 reaches 0.07 in the checkpoints tried, faults start at 1."""

_fault_of: WeakKeyDictionary[nn.Module, str | None] = WeakKeyDictionary()


def check_model(model: Any, inputs: Mapping[str, Any]) -> None:
    """Refuse a model that the search does not support; a model is tried once, with a few tiny passes.

    A later `set_attn_implementation` is not noticed.

    Raises:
        UserError: it has no key-value cache, free positions or attention masks, or it places the tokens of images in
            more than one dimension.
    """
    if model not in _fault_of:
        with _evaluating(model), torch.inference_mode():
            _fault_of[model] = _find_fault(model)
    fault = _fault_of[model]
    if fault is None and any(name.startswith("pixel_values") for name in inputs) and _has_axes(model):
        fault = "gives image tokens positions of its own kind"
    if fault is not None:
        raise UserError(f"{_name(model)} {fault}")


def _find_fault(model: Any) -> str | None:
    if model.config.is_encoder_decoder:
        return f"is an encoder-decoder, which reads prompts elsewhere than it writes; {WAY_OUT}"
    if cache_name(model) is None:
        return NO_CACHE
    prompts = _attempt(_read_prompts, model)
    if prompts is not None and not _fills_every_layer(prompts):  # hybrid models have layers with another state
        return NO_CACHE
    fault = NO_CACHE if prompts is None else _compare_trees(model, prompts)
    return NO_POSITIONS if fault is not None and not _heeds_positions(model) else fault


def _fills_every_layer(prompts: Prompts) -> bool:
    cache = prompts.cache
    return all(cache.get_seq_length(layer) == len(PROMPT) for layer in range(len(cache)))


def _compare_trees(model: Any, prompts: Prompts) -> str | None:
    logits = _attempt(_read_trees, prompts)
    return NO_MASKS if logits is None else _compare(logits, *_read_plainly(model))


def _compare(logits: torch.Tensor, plain: torch.Tensor, plain_other: torch.Tensor) -> str | None:
    """Compare the logits after the target: (4, V) of the trees, and (V) of plain passes after the two prompts."""
    found, masked, moved, other = logits.float()
    influence = (other - found).norm()
    if not influence > 0:  # a model whose logits ignore the prompt cannot be wrong
        return None if torch.equal(plain, plain_other) else NO_CACHE
    if (masked - found).norm() > NEGLIGIBLE * influence:
        return NO_MASKS
    if max((moved - found).norm(), (plain.float() - found).norm()) > NEGLIGIBLE * influence:
        return NO_POSITIONS
    return None


def _read_prompts(model: Any) -> Prompts:
    tokens = torch.tensor([PROMPT, PROMPT, PROMPT, OTHER_PROMPT], device=model.device)
    return read_prompts(model, {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)})


def _read_trees(prompts: Prompts) -> torch.Tensor:
    """Read the target beside tokens masked for it; return the logits after it (4, V)."""
    hidden, other = ([*tokens] * (NUM_HIDDEN // 2) for tokens in (HIDDEN, OTHER_HIDDEN))
    rows = [[*hidden, TARGET], [*other, TARGET], [TARGET, *hidden], [*hidden, TARGET]]
    tokens = torch.tensor(rows, device=prompts.mask.device)
    each_itself = torch.eye(tokens.shape[1], dtype=torch.bool, device=tokens.device).expand(len(rows), -1, -1)
    states = read_tree(prompts, tokens, torch.zeros_like(tokens), each_itself)
    targets = states[torch.arange(len(rows)), [-1, -1, 0, -1]]
    return targets if prompts.head is None else prompts.head(targets)


def _read_plainly(model: Any) -> torch.Tensor:
    """Return the logits after each prompt and the target, (2, V), with neither cache nor mask."""
    tokens = torch.tensor([[*PROMPT, TARGET], [*OTHER_PROMPT, TARGET]], device=model.device)
    return model(input_ids=tokens, use_cache=False).logits[:, -1]


def _heeds_positions(model: Any) -> bool:
    """Return whether positions further apart change the model's logits."""
    close, apart = (_attempt(_read_spaced, model, step) for step in (1, 2))
    return close is not None and apart is not None and not torch.equal(close, apart)


def _read_spaced(model: Any, step: int) -> torch.Tensor:
    tokens = torch.tensor([PROMPT], device=model.device)
    positions = torch.arange(len(PROMPT), device=model.device)[None] * step
    return model(input_ids=tokens, position_ids=positions, use_cache=False).logits


def _has_axes(model: Any) -> bool:
    """Return whether a token has a position for each of time, height and width, as in Qwen2-VL."""
    with _evaluating(model), torch.inference_mode():
        flat, tall = (_attempt(_read_on_axes, model, height) for height in (1, 9))
    return flat is not None and tall is not None and len(flat) == 1 and not torch.equal(flat, tall)


def _read_on_axes(model: Any, height: int) -> torch.Tensor:
    tokens, times = torch.tensor([PROMPT], device=model.device), torch.arange(len(PROMPT), device=model.device)
    positions = torch.stack([times, times * height, times])[:, None]
    return model(input_ids=tokens, position_ids=positions, use_cache=False).logits


def _attempt(read: Any, *arguments: Any) -> Any:
    """Return the result of a pass, or None where the model refuses it."""
    try:
        return read(*arguments)
    except torch.OutOfMemoryError:
        raise
    except Exception:  # each model raises its own errors
        return None


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Switch to evaluation mode (no dropout) while the context is open."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _name(model: Any) -> str:
    return type(without_adapter(model)).__name__
