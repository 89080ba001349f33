"""Models whose logits are more than a linear map of their last states: slower, and still exact."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import GraniteConfig, GraniteForCausalLM

from semcore.decoding import IdentifierIndex, constrained_beam_search
from semcore.decoding.cached_model import read_prompts
from tests.semcore.decoding import tiny


@pytest.fixture
def index() -> IdentifierIndex:
    return IdentifierIndex.from_sequences(tiny.corpus(30), [str(row) for row in range(30)])


def test_the_output_head_is_used_directly_where_that_is_right() -> None:
    for model, inputs in (
        (tiny.qwen2(tie_word_embeddings=True), tiny.text_prompts([4])),
        (tiny.internvl(), tiny.image_prompts(1, [4])),
    ):
        with torch.inference_mode():
            assert read_prompts(model, inputs).head is model.get_output_embeddings()


@pytest.mark.parametrize("normalization", ["vocabulary", "identifiers"])
def test_scaled_logits(index: IdentifierIndex, normalization: Any) -> None:
    torch.manual_seed(0)
    model = GraniteForCausalLM(GraniteConfig(**tiny.TEXT, logits_scaling=8.0)).eval()
    inputs = tiny.text_prompts([4, 6])
    result = constrained_beam_search(model, inputs, index, num_beams=5, normalization=normalization)
    if normalization == "vocabulary":
        for query, found in enumerate(result.sequences):
            expected = [tiny.teacher_forced(model, inputs, query, sequence) for sequence in found]
            assert result.scores[query].tolist() == pytest.approx(expected, abs=1e-4)
    assert torch.isfinite(result.scores).all()


def test_an_adapter_with_new_rows_in_the_head(index: IdentifierIndex) -> None:
    """LoRA as the recipes train it: the head's own weight is not what the model multiplies with."""
    lora = LoraConfig(target_modules=["q_proj", "down_proj"], trainable_token_indices={"lm_head": [5, 6, 7]})
    model = get_peft_model(tiny.qwen2(), lora).eval()
    for name, parameter in model.named_parameters():
        if "trainable_tokens_delta" in name or "lora_B" in name:
            torch.nn.init.normal_(parameter, std=1.0)
    inputs = tiny.text_prompts([4, 6])
    result = constrained_beam_search(model, inputs, index, num_beams=5)
    for query, found in enumerate(result.sequences):
        expected = [tiny.teacher_forced(model, inputs, query, sequence) for sequence in found]
        assert result.scores[query].tolist() == pytest.approx(expected, abs=1e-4)
