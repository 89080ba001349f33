"""Activation memory: bytes that each layer's operations save for the backward pass.

Attention is counted as in the fused kernels: queries, keys, values and output, no matrix of scores.
The tests compare the counts with what PyTorch saves in a small text model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from transformers import InternVLConfig

from semcore.training.chunked_loss import ELEMENTS_PER_CHUNK

LOGIT_BYTES = 16  # bfloat16 and float32 logits with their gradients: 2 + 4 + 4 + 4 + 2


@dataclass(frozen=True)
class RowSize:
    """The largest row of a training."""

    num_tokens: int
    num_images: int


def activation_bytes(
    config: InternVLConfig,
    row: RowSize,
    num_rows: int,
    *,
    checkpointing: bool,
    lora: bool,
    freeze_vision: bool,
    freeze_projector: bool,
    element_bytes: int,
) -> int:
    """Return the peak activation memory of one process's batch, in bytes.

    Args:
        config: the model's configuration.
        row: tokens and images of a row.
        num_rows: rows the process takes at once.
        checkpointing: only the input of each layer is saved, and one layer is recomputed at a time.
        lora: adapters save their inputs too.
        freeze_vision: the vision tower's output is precomputed.
        freeze_projector: the projector's output is precomputed.
        element_bytes: 2 for bfloat16, 4 for float32.
    """
    text: Any = config.text_config
    vision: Any = config.vision_config
    tokens, images = num_rows * row.num_tokens, num_rows * row.num_images
    patches = images * (_patches(config) + 1)
    kept = _layers(text.num_hidden_layers, tokens, text.hidden_size * element_bytes,
                   text_layer_bytes(text, lora, element_bytes), checkpointing)  # fmt: skip
    kept += tokens * text.hidden_size * (4 + 3 * element_bytes)  # the embeddings and the last norm
    kept += num_rows * row.num_tokens**2 * element_bytes  # the mask
    kept += min(tokens * text.vocab_size, ELEMENTS_PER_CHUNK) * LOGIT_BYTES
    if not freeze_vision:
        kept += _layers(vision.num_hidden_layers, patches, vision.hidden_size * element_bytes,
                        vision_layer_bytes(vision, element_bytes), checkpointing)  # fmt: skip
    if not freeze_projector or not freeze_vision:
        folded = vision.hidden_size / config.downsample_ratio**2
        kept += round(images * config.image_seq_length * (2 * folded + 3 * text.hidden_size) * element_bytes)
    return kept


def text_layer_bytes(text: Any, lora: bool, element_bytes: int) -> int:
    """Return the bytes per token that one layer of the text model saves.

    Args:
        text: a Qwen2-like or Llama-like configuration.
        lora: whether its linear layers have adapters, with dropout.
        element_bytes: 2 for bfloat16, 4 for float32.
    """
    width, inner = text.hidden_size, text.intermediate_size
    head_size = getattr(text, "head_dim", None) or width // text.num_attention_heads
    attended = text.num_attention_heads * head_size
    norms = 2 * width * (4 + 2 * element_bytes)  # computed in float32
    attention = 4 * attended * element_bytes  # with a mask, keys and values are repeated for every head
    adapters = (5 * width + attended + inner) * (element_bytes + 1) if lora else 0  # inputs after dropout, its mask
    return norms + attention + 4 * inner * element_bytes + adapters


def vision_layer_bytes(vision: Any, element_bytes: int) -> int:
    """Return the bytes per patch that one layer of the vision tower, an `InternVLVisionConfig`, saves."""
    return (10 * vision.hidden_size + 2 * vision.intermediate_size) * element_bytes


def _layers(num_layers: int, tokens: int, input_bytes: int, layer_bytes: int, checkpointing: bool) -> int:
    return tokens * (num_layers * input_bytes + layer_bytes if checkpointing else num_layers * layer_bytes)


def _patches(config: InternVLConfig) -> int:
    return round(config.image_seq_length / config.downsample_ratio**2)
