"""Tiny random models and corpora for the decoding tests."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from transformers import (
    InternVLConfig,
    InternVLForConditionalGeneration,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

VOCABULARY = 60
PAD, END, IMAGE = 0, 1, 2
FIRST_WORD = 3
VISUAL_TOKENS = 4

TEXT: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "pad_token_id": PAD,
    "bos_token_id": None,
    "eos_token_id": END,
    "tie_word_embeddings": False,
    "initializer_range": 0.3,
}


def qwen2(**changes: Any) -> Any:
    torch.manual_seed(0)
    return Qwen2ForCausalLM(Qwen2Config(**{**TEXT, **changes})).eval()


def llama(**changes: Any) -> Any:
    torch.manual_seed(1)
    return LlamaForCausalLM(LlamaConfig(**{**TEXT, **changes})).eval()


def internvl() -> Any:
    """Return a model that reads 8 px tiles as four visual tokens each."""
    torch.manual_seed(2)
    vision = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": [8, 8],
        "patch_size": [2, 2],
        "initializer_range": 0.3,
    }
    text = {**TEXT, "model_type": "qwen2"}
    config = InternVLConfig(vision_config=vision, text_config=text, image_token_id=IMAGE, downsample_ratio=0.5)
    return InternVLForConditionalGeneration(config).eval()


def text_prompts(lengths: list[int], seed: int = 0) -> dict[str, torch.Tensor]:
    """Return random prompts of these lengths, left-padded."""
    generator = torch.Generator().manual_seed(seed)
    width = max(lengths)
    tokens = torch.randint(FIRST_WORD, VOCABULARY, (len(lengths), width), generator=generator)
    mask = torch.arange(width)[None, :] >= width - torch.tensor(lengths)[:, None]
    return {"input_ids": tokens.where(mask, PAD), "attention_mask": mask.long()}


def image_prompts(num_tiles: int, lengths: list[int], seed: int = 0) -> dict[str, torch.Tensor]:
    """Return prompts that begin with one image of `num_tiles` tiles each, left-padded."""
    inputs = text_prompts([VISUAL_TOKENS * num_tiles + length for length in lengths], seed)
    starts = inputs["attention_mask"].argmax(dim=1)
    for row, start in enumerate(starts.tolist()):
        inputs["input_ids"][row, start : start + VISUAL_TOKENS * num_tiles] = IMAGE
    generator = torch.Generator().manual_seed(seed + 1)
    inputs["pixel_values"] = torch.randn(len(lengths) * num_tiles, 3, 8, 8, generator=generator)
    return inputs


def corpus(num_items: int, num_words: int = 4, seed: int = 0, same_length: bool = False) -> list[list[int]]:
    """Return random identifiers with shared prefixes; unless of the same length, some are prefixes of others."""
    generator = np.random.default_rng(seed)
    rows = []
    for _ in range(num_items):
        length = num_words if same_length else int(generator.integers(1, num_words + 1))
        words = (FIRST_WORD + generator.zipf(1.6, length) % 12).tolist()
        rows.append([*words, END])
    return rows


def teacher_forced(model: Any, inputs: dict[str, torch.Tensor], query: int, sequence: tuple[int, ...]) -> float:
    """Return the log-probability of one sequence by one plain forward pass over an unpadded prompt."""
    kept = inputs["attention_mask"][query].bool()
    prompt = inputs["input_ids"][query][kept]
    tokens = torch.cat([prompt, torch.tensor(sequence)])[None]
    images = {}
    if "pixel_values" in inputs:
        images["pixel_values"] = inputs["pixel_values"].chunk(len(inputs["input_ids"]))[query]
    with torch.inference_mode():
        logits = model(input_ids=tokens, **images).logits[0].float()
    log_probs = logits.log_softmax(-1)[len(prompt) - 1 : -1]
    return float(log_probs.gather(1, torch.tensor(sequence)[:, None]).sum())
