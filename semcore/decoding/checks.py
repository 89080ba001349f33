"""What can be wrong with a search before it starts, each in one sentence."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, get_args

from transformers import PreTrainedModel

from semcore.decoding.index import IdentifierIndex
from semcore.decoding.language_model import Prompts, prompt_mask
from semcore.decoding.scoring import Normalization
from semcore.errors import UserError

ATTENTION_THAT_TAKES_MASKS = ("eager", "sdpa")
WAY_OUT = "use a decoder-only attention model, or the transformers engine"
CACHED_LAYERS = {"full_attention", "sliding_attention"}


def check_search(model: Any, inputs: Mapping[str, Any], index: IdentifierIndex, normalization: str) -> None:
    """Refuse what a search could only get wrong.

    Raises:
        UserError: unknown normalisation, prompts padded on the right or too long, a model without a key-value cache,
            free positions or attention masks, an index on another device, or a token the model does not have.
    """
    if normalization not in get_args(Normalization):
        raise UserError(f'normalization must be "vocabulary" or "identifiers", found {normalization!r}')
    _check_model(model, inputs)
    if index.device != model.device:
        raise UserError(
            f"the index is on {index.device} but the model on {model.device}: use index.to({str(model.device)!r})"
        )
    _check_tokens(model, index)
    _check_prompts(model, inputs, index)


def check_at_least_one(name: str, value: int) -> None:
    """Refuse a count below one.

    Raises:
        UserError: the value is below 1.
    """
    if value < 1:
        raise UserError(f"{name} must be at least 1, found {value}")


def check_cache(prompts: Prompts) -> None:
    """Refuse a model that read the prompts and remembered nothing.

    Raises:
        UserError: the cache was left empty.
    """
    if prompts.num_cached != 0:
        raise UserError(_no_cache(prompts.model))


def _check_model(model: Any, inputs: Mapping[str, Any]) -> None:
    plain = model if isinstance(model, PreTrainedModel) else model.get_base_model()
    parameters, config = inspect.signature(plain.forward).parameters, _text_config(model)
    layers = set(getattr(config, "layer_types", None) or CACHED_LAYERS)
    if "past_key_values" not in parameters or not layers <= CACHED_LAYERS:
        raise UserError(_no_cache(plain))
    if "position_ids" not in parameters:
        raise UserError(f"{type(plain).__name__} takes no position_ids, so beams cannot share a prompt; {WAY_OUT}")
    rotation = getattr(config, "rope_parameters", None) or {}
    if "pixel_values" in inputs and "mrope_section" in rotation:
        raise UserError(f"{type(plain).__name__} gives image tokens positions of its own kind; {WAY_OUT}")
    attention = config._attn_implementation
    if attention not in ATTENTION_THAT_TAKES_MASKS:
        raise UserError(
            f"beams share a prompt through attention masks, which {attention} has none of: "
            'load the model with attn_implementation="sdpa"'
        )


def _check_tokens(model: Any, index: IdentifierIndex) -> None:
    size = model.get_output_embeddings().weight.shape[0]
    largest = int(index.trie.vocabulary[-1])
    if largest >= size:
        raise UserError(
            f"the index holds token {largest} but the model has {size} tokens: "
            "build the index with the tokenizer the model was trained with"
        )


def _check_prompts(model: Any, inputs: Mapping[str, Any], index: IdentifierIndex) -> None:
    mask = prompt_mask(inputs)
    if not bool(mask[:, -1].all()):
        raise UserError("prompts must be padded on the left: the last column of attention_mask must be all ones")
    longest = int(mask.sum(dim=1).max())
    positions = _num_positions(model)
    if positions is not None and longest + index.max_length > positions:
        raise UserError(
            f"a prompt of {longest} tokens with an identifier of up to {index.max_length} needs more than "
            f"the model's {positions} positions: shorten the prompt"
        )


def _num_positions(model: Any) -> int | None:
    """Return how many tokens the model can look over; a sliding window counts as the limit."""
    config = _text_config(model)
    limits = [getattr(config, "max_position_embeddings", None)]
    if "sliding_attention" in (getattr(config, "layer_types", None) or ()):
        limits.append(config.sliding_window)
    return min((limit for limit in limits if limit is not None), default=None)


def _text_config(model: Any) -> Any:
    return model.config.get_text_config()


def _no_cache(model: Any) -> str:
    return f"{type(model).__name__} keeps no key-value cache of the standard kind; {WAY_OUT}"
