"""Preconditions of a search, checked before it starts, with one sentence for each failure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from semcore.decoding.cached_model import prompt_mask
from semcore.decoding.index import IdentifierIndex
from semcore.decoding.key_value_cache import longest_window
from semcore.decoding.model_checks import check_model
from semcore.decoding.scoring import Normalization
from semcore.runtime.errors import UserError


def check_search(model: Any, inputs: Mapping[str, Any], index: IdentifierIndex, normalization: str) -> None:
    """Refuse a model, inputs or index with which a search would be wrong.

    Raises:
        UserError: unknown normalisation, prompts padded on the right or too long, a model without a key-value cache,
            free positions or attention masks, an index on another device, or a token the model does not have.
    """
    if normalization not in get_args(Normalization):
        raise UserError(f'normalization must be "vocabulary" or "identifiers", found {normalization!r}')
    check_model(model, inputs)
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
    """Return the model's maximum context in tokens; a sliding window counts as the limit.

    The search passes explicit masks, which ignore the window.
    """
    limits = (getattr(model.config.get_text_config(), "max_position_embeddings", None), longest_window(model.config))
    return min((limit for limit in limits if limit is not None), default=None)
