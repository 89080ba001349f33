"""Batches of prompts with encoded images, as a model's input tensors.

An image is encoded once per run (`semcore.models.visual_features`); here its features replace the image tokens'
embeddings, which is exact.

Shapes: B prompts, L tokens of the longest, V visual tokens per image, H the text model's hidden size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import torch

from semcore.models.checkpoint import Checkpoint
from semcore.models.tokenization import chat_prompt, expand_images, left_padded

T = TypeVar("T")


class Prompt(NamedTuple):
    """A tokenized prompt with its visual features."""

    tokens: list[int]
    """Token ids, with V image tokens for each image."""
    images: tuple[torch.Tensor, ...] = ()
    """The features (V, H) of its images, in the order of the prompt."""


def make_prompts(
    checkpoint: Checkpoint, turns: Sequence[str], images: Sequence[Sequence[torch.Tensor]] | None = None
) -> list[Prompt]:
    """Tokenize users' turns in the checkpoint's chat template.

    Args:
        checkpoint: gives the tokenizer and its chat template.
        turns: from `Prompts.render`.
        images: the features (V, H) of each turn's images; None where no turn has an image.
    """
    images = images if images is not None else [()] * len(turns)
    texts = [
        expand_images(chat_prompt(checkpoint.tokenizer, turn), [len(features) for features in own])
        for turn, own in zip(turns, images, strict=True)
    ]
    rows = checkpoint.tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []
    return [Prompt(tokens, tuple(own)) for tokens, own in zip(rows, images, strict=True)]


def model_inputs(checkpoint: Checkpoint, prompts: Sequence[Prompt]) -> dict[str, torch.Tensor]:
    """Return the left-padded keyword arguments of `model(**inputs)`, on the model's device.

    Prompts without images become `input_ids` (B, L), with images `inputs_embeds` (B, L, H); both
    come with `attention_mask` (B, L).
    """
    inputs = left_padded([prompt.tokens for prompt in prompts], checkpoint.filler_token_id)
    inputs = {name: tensor.to(checkpoint.device) for name, tensor in inputs.items()}
    if not any(prompt.images for prompt in prompts):
        return inputs
    embeds = embed_tokens(checkpoint, inputs["input_ids"], [image for prompt in prompts for image in prompt.images])
    return {"inputs_embeds": embeds, "attention_mask": inputs["attention_mask"]}


def embed_tokens(checkpoint: Checkpoint, token_ids: torch.Tensor, images: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the embeddings (B, L, H) of tokens (B, L), with features (V, H) in place of image tokens, row by row."""
    model = checkpoint.model
    embeds = model.get_input_embeddings()(token_ids)
    if images:
        places = token_ids == model.config.image_token_id
        embeds[places] = torch.cat(list(images)).to(embeds.device, embeds.dtype)
    return embeds


def last_hidden(model: Any, attention_mask: torch.Tensor, **inputs: torch.Tensor) -> torch.Tensor:
    """Read left-padded prompts, from `model_inputs`, without the output head; return the last states (B, L, H)."""
    positions = (attention_mask.cumsum(dim=1) - 1).clamp(min=0)
    decoder = model.get_decoder()
    return decoder(**inputs, attention_mask=attention_mask, position_ids=positions, use_cache=False).last_hidden_state


def batches_by_length(
    entries: Sequence[T], lengths: Sequence[int], tokens_per_batch: int
) -> Iterator[tuple[list[int], list[T]]]:
    """Yield (positions, entries) in batches of about equal length, so that little is padding.

    Args:
        entries: the entries to batch.
        lengths: the number of tokens of each.
        tokens_per_batch: limit on a batch's size, entries times the longest; a longer entry is alone in its batch.
    """
    chosen: list[int] = []
    for position in sorted(range(len(entries)), key=lambda position: (-lengths[position], position)):
        if chosen and lengths[chosen[0]] * (len(chosen) + 1) > tokens_per_batch:
            yield chosen, [entries[place] for place in chosen]
            chosen = []
        chosen.append(position)
    if chosen:
        yield chosen, [entries[place] for place in chosen]
