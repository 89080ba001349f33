"""The slow way to a model's answers: pixels go in with the prompt, nothing is encoded before."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from semcore.models.checkpoint import Checkpoint
from semcore.models.tokenization import chat_prompt, expand_images, left_padded, tokenize


def prompt_text(checkpoint: Checkpoint, user_turn: str, images: Sequence[torch.Tensor] = ()) -> str:
    """Return the exact text that is tokenized: chat template around the turn, images expanded.

    Args:
        checkpoint: gives the chat template and the visual tokens of a tile.
        user_turn: from `Prompts.render`.
        images: one tensor (T, C, H, W) an image placeholder, in order.
    """
    per_tile = checkpoint.model.config.image_seq_length
    return expand_images(chat_prompt(checkpoint.tokenizer, user_turn), [per_tile * len(image) for image in images])


def batch_inputs(
    checkpoint: Checkpoint, prompts: Sequence[str], images: Sequence[Sequence[torch.Tensor]]
) -> dict[str, torch.Tensor]:
    """Return what `model(**inputs)` takes for a batch of prompts, on the model's device.

    Args:
        checkpoint: the model and its tokenizer.
        prompts: from `prompt_text`.
        images: the images of every prompt, each (T, C, H, W).
    """
    rows = [tokenize(checkpoint.tokenizer, prompt) for prompt in prompts]
    inputs = left_padded(rows, checkpoint.filler_token_id)
    tiles = [image for own in images for image in own]
    if tiles:
        inputs["pixel_values"] = torch.cat(tiles).to(checkpoint.model.dtype)
    return {name: tensor.to(checkpoint.device) for name, tensor in inputs.items()}
