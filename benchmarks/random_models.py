"""Models with random weights in the measured shapes, and prompts for them."""

from __future__ import annotations

from typing import Any

import torch
from transformers import InternVLConfig, InternVLForConditionalGeneration, Qwen2Config, Qwen2ForCausalLM

from benchmarks.corpora import END_TOKEN, VOCABULARY
from semcore.models.checkpoint import Checkpoint, load_image_processor, load_tokenizer
from semcore.runtime.packaged_files import asset_folder

PAD_TOKEN, IMAGE_TOKEN = 0, 1
VISUAL_TOKENS = 256
TEXT_TOKENS = 40
TILE = 448

TINY = {"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 6, "num_attention_heads": 4}
ONE_B = {"hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14}
"""The decoder of InternVL2.5-1B."""
KEY_VALUE_HEADS = 2
TINY_VISION = {"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 5, "num_attention_heads": 4}
"""Relative to `TINY` about what InternViT-300M is to `ONE_B`: four times the decoder's work on an image."""
VISION_300M = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}


def text_model(shape: dict[str, int], vocabulary: int, device: str, dtype: torch.dtype) -> Any:
    """Return a Qwen2 decoder of this shape."""
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(Qwen2Config(**_text_config(shape, vocabulary)))
    return model.eval().to(device=device, dtype=dtype)


def image_model(shape: dict[str, int], vocabulary: int, device: str, dtype: torch.dtype) -> Any:
    """Return an InternVL with this decoder and a small vision tower; 256 visual tokens per 448 px tile."""
    torch.manual_seed(0)
    vision = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {**_text_config(shape, vocabulary), "model_type": "qwen2"}
    config = InternVLConfig(vision_config=vision, text_config=text, image_token_id=IMAGE_TOKEN)
    return InternVLForConditionalGeneration(config).eval().to(device=device, dtype=dtype)


def text_prompts(num_queries: int, device: str) -> dict[str, torch.Tensor]:
    """Return random prompts of 40 tokens: `input_ids` and `attention_mask` (queries, 40)."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(2, 1000, (num_queries, TEXT_TOKENS), generator=generator)
    return {"input_ids": tokens.to(device), "attention_mask": torch.ones_like(tokens).to(device)}


def image_prompts(num_queries: int, device: str, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Return random prompts of one image tile and 40 tokens: ids and mask (queries, tokens), and pixels."""
    inputs = text_prompts(num_queries, device)
    images = torch.full((num_queries, VISUAL_TOKENS), IMAGE_TOKEN, device=device)
    tokens = torch.cat([images, inputs["input_ids"]], dim=1)
    pixels = torch.randn(num_queries, 3, 448, 448, generator=torch.Generator().manual_seed(1))
    return {
        "input_ids": tokens,
        "attention_mask": torch.ones_like(tokens),
        "pixel_values": pixels.to(device=device, dtype=dtype),
    }


def _text_config(shape: dict[str, int], vocabulary: int) -> dict[str, Any]:
    return {
        **shape,
        "vocab_size": vocabulary,
        "num_key_value_heads": KEY_VALUE_HEADS,
        "tie_word_embeddings": True,
        "pad_token_id": PAD_TOKEN,
        "bos_token_id": None,
        "eos_token_id": END_TOKEN,
    }


def vision_checkpoint(shape: dict[str, int], vision: dict[str, int], device: str, dtype: torch.dtype) -> Checkpoint:
    """Return an InternVL with this decoder and vision tower, a 448 px tile per image, and the scenes' tokenizer."""
    folder = asset_folder("scenes_base")
    tokenizer = load_tokenizer(folder)
    torch.manual_seed(0)
    text = {**_text_config(shape, VOCABULARY), "model_type": "qwen2"}
    config = InternVLConfig(
        vision_config=vision, text_config=text, image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>")
    )
    model = InternVLForConditionalGeneration(config).eval().to(device=device, dtype=dtype)
    processor = load_image_processor(folder)
    processor.size = {"height": TILE, "width": TILE}
    return Checkpoint(model, tokenizer, processor, "random weights")
