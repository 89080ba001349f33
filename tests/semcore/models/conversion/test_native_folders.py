"""Native folders load as they are, whatever their text model and whichever release of transformers saved them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import InternVLConfig, InternVLForConditionalGeneration, LlamaConfig, Qwen2Config, Qwen3Config

from semcore.models.checkpoint import load_checkpoint
from tests.pixel_inputs import batch_inputs, prompt_text
from tests.semcore.models.conversion.originals import edit

TEXT_CONFIGS = {"qwen2": Qwen2Config, "llama": LlamaConfig, "qwen3": Qwen3Config}


def save_native(tiny_checkpoint: Any, folder: Path, kind: str) -> torch.Tensor:
    """Save a random native checkpoint with an untied head; returns the logits it gives for a prompt."""
    text = TEXT_CONFIGS[kind](
        vocab_size=len(tiny_checkpoint.tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, head_dim=8, intermediate_size=16, max_position_embeddings=512, tie_word_embeddings=False,
    )  # fmt: skip
    base = tiny_checkpoint.model.config
    config = InternVLConfig(
        text_config=text, vision_config=base.vision_config, image_token_id=base.image_token_id,
        image_seq_length=base.image_seq_length, tie_word_embeddings=False,
    )  # fmt: skip
    torch.manual_seed(1)
    model = InternVLForConditionalGeneration(config).eval()
    for part in (model, tiny_checkpoint.tokenizer, tiny_checkpoint.image_processor):
        part.save_pretrained(folder)
    return logits(model, tiny_checkpoint)


def logits(model: Any, checkpoint: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(**batch_inputs(checkpoint, [prompt_text(checkpoint, "a red star")], [[]])).logits


@pytest.mark.parametrize("kind", TEXT_CONFIGS)
def test_a_native_folder_loads_as_it_is(tiny_checkpoint: Any, tmp_path: Path, kind: str) -> None:
    expected = save_native(tiny_checkpoint, tmp_path / kind, kind)
    loaded = load_checkpoint(tmp_path / kind)
    assert loaded.model.config.text_config.model_type == kind
    torch.testing.assert_close(logits(loaded.model, loaded), expected, rtol=0, atol=1e-6)


def test_a_folder_with_the_names_of_the_class_loads(tiny_checkpoint: Any, tmp_path: Path) -> None:
    """Native folders store the text model as if it stood alone; files with the parameters' own names are seen too."""
    folder = tmp_path / "own"
    expected = save_native(tiny_checkpoint, folder, "qwen2")
    weights = load_file(folder / "model.safetensors")
    renamed = {_own_name(name): weight for name, weight in weights.items()}
    assert not renamed.keys() & weights.keys()
    save_file(renamed, folder / "model.safetensors", metadata={"format": "pt"})
    loaded = load_checkpoint(folder)
    torch.testing.assert_close(logits(loaded.model, loaded), expected, rtol=0, atol=1e-6)


def _own_name(name: str) -> str:
    if name == "language_model.lm_head.weight":
        return "lm_head.weight"
    return "model." + name.replace("language_model.model.", "language_model.")


def test_an_untied_head_is_not_tied_by_a_silent_configuration(tiny_checkpoint: Any, tmp_path: Path) -> None:
    folder = tmp_path / "silent"
    expected = save_native(tiny_checkpoint, folder, "qwen2")
    edit(folder / "config.json", tie_word_embeddings=None)
    content = (folder / "config.json").read_text().replace('"tie_word_embeddings": null, ', "")
    content = content.replace(', "tie_word_embeddings": null', "")
    assert "null" not in content.split("tie_word_embeddings")[-1][:8]
    (folder / "config.json").write_text(content)
    loaded = load_checkpoint(folder)
    torch.testing.assert_close(logits(loaded.model, loaded), expected, rtol=0, atol=1e-6)
