"""Forward passes of a search: prompts once, then further tokens as a tree over the same key-value cache.

Works with any decoder-only Hugging Face model whose layers keep keys and values in a `DynamicCache`. The prompts'
keys and values are kept once per query; tokens of a beam are appended after them, and an additive attention mask
restricts each token to its own path, so nothing is ever copied or reordered.

Shapes: Q queries, P prompt tokens, S tokens cached after the prompt, R tokens read in one pass, d hidden size.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import DynamicCache

from semcore.decoding.key_value_cache import cache_argument


@dataclass(frozen=True)
class Prompts:
    """A batch of prompts in a model's key-value cache."""

    model: Any
    cache: DynamicCache
    """Keys and values of the prompts and of all tokens read since."""
    mask: torch.Tensor
    """Which prompt tokens are not padding, bool (Q, P)."""
    next_position: torch.Tensor
    """Position of the first token after each prompt (Q,)."""
    states: torch.Tensor
    """States that predict the first token after each prompt: hidden states (Q, d), or logits where `head` is None."""
    head: nn.Linear | None
    """The output head; None if the model's logits are not a linear map of its last hidden states."""
    hidden: torch.Tensor | None = None
    """The decoder's last states of all prompt tokens (Q, P, d), where they were to be kept."""

    @property
    def num_cached(self) -> int:
        """Return how many tokens are cached after the prompt, S."""
        return self.cache.get_seq_length() - self.mask.shape[1]


def read_prompts(model: Any, inputs: Mapping[str, Any], *, keep_hidden: bool = False) -> Prompts:
    """Run the left-padded prompts through the model, images included, once.

    Args:
        model: a decoder-only Hugging Face model.
        inputs: keyword arguments of `model(**inputs)`.
        keep_hidden: keep the decoder's last states of all tokens.
    """
    mask = prompt_mask(inputs)
    positions = (mask.long().cumsum(dim=1) - 1).clamp(min=0)
    cache = DynamicCache()
    with _watching(model) as seen:
        output = model(
            **{
                **inputs,
                "attention_mask": mask.long(),
                "position_ids": positions,
                **cache_argument(model, cache),
                "use_cache": True,
                "logits_to_keep": 1,
            }
        )
    head = model.get_output_embeddings()
    plain = type(head) is nn.Linear and seen.explain(output.logits)
    states = seen.head_input if plain else output.logits
    hidden = seen.decoder_output if keep_hidden else None
    return Prompts(model, cache, mask, positions[:, -1] + 1, states[:, -1], head if plain else None, hidden)


def read_tree(prompts: Prompts, tokens: torch.Tensor, depths: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
    """Read more tokens after the prompts, each attending to the prompt and to the tokens visible to it.

    Args:
        prompts: the prompts and tokens read so far; their cache grows by R.
        tokens: token ids (Q, R).
        depths: number of tokens between the prompt and each token (Q, R).
        visible: the tokens that each token attends to, itself included, bool (Q, R, S + R).

    Returns:
        Hidden states (Q, R, d), or logits where the prompts have no `head` (Q, R, vocabulary).
    """
    seen = torch.cat([prompts.mask[:, None, :].expand(-1, tokens.shape[1], -1), visible], dim=2)
    dtype = prompts.model.get_input_embeddings().weight.dtype
    mask = torch.zeros(seen.shape, dtype=dtype, device=seen.device)
    mask.masked_fill_(~seen, torch.finfo(dtype).min)
    arguments = {
        "input_ids": tokens,
        "attention_mask": mask[:, None],
        "position_ids": prompts.next_position[:, None] + depths,
        "use_cache": True,
    }
    if prompts.head is None:
        return prompts.model(**arguments, **cache_argument(prompts.model, prompts.cache)).logits
    decoder = prompts.model.get_decoder()
    return decoder(**arguments, **cache_argument(decoder, prompts.cache)).last_hidden_state


def prompt_mask(inputs: Mapping[str, Any]) -> torch.Tensor:
    """Return which prompt tokens are not padding, bool (Q, P)."""
    if "attention_mask" in inputs:
        return inputs["attention_mask"].bool()
    tokens = inputs["input_ids"] if "input_ids" in inputs else inputs["inputs_embeds"]
    return torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)


class _Watched:
    """Inputs and outputs of a model's modules, recorded during one pass."""

    decoder_output: torch.Tensor
    head_input: torch.Tensor
    head_output: torch.Tensor | None = None

    def explain(self, logits: torch.Tensor) -> bool:
        """Return whether the logits are the head's linear map of the decoder's last states: no scaling, no capping."""
        return self.head_output is logits and torch.equal(self.decoder_output[:, -1], self.head_input[:, -1])


@contextmanager
def _watching(model: Any) -> Iterator[_Watched]:
    seen = _Watched()

    def note_decoder(_module: nn.Module, _arguments: Any, output: Any) -> None:
        seen.decoder_output = output[0]

    def note_head(_module: nn.Module, arguments: Any, output: torch.Tensor) -> None:
        seen.head_input, seen.head_output = arguments[0], output

    hooks = [
        model.get_decoder().register_forward_hook(note_decoder),
        model.get_output_embeddings().register_forward_hook(note_head),
    ]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()
