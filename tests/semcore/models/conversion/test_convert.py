"""Conversion of the recorded tiny checkpoints: the native model answers as the original code did."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from semcore.models.checkpoint import Checkpoint, load_checkpoint
from semcore.models.conversion import convert_checkpoint
from semcore.models.tokenization import answer_tokens, chat_prompt, prepare_images, tokenize
from tests.pixel_inputs import prompt_text
from tests.semcore.models.conversion.originals import FIXTURES, TEXT_MODELS, copy_of, edit, needs_sentencepiece

NATIVE_TEXT_MODELS = {"qwen2": "Qwen2Model", "internlm2": "LlamaModel"}


@pytest.fixture(scope="module", params=TEXT_MODELS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def converted(name: str, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    folder = tmp_path_factory.mktemp("converted") / name
    source = copy_of(name, folder.parent / "source")
    # Whoever runs the checkpoint's code is stopped.
    for module in ("modeling_internvl_chat", "tokenization_internlm2", "configuration_internvl_chat"):
        (source / f"{module}.py").write_text("raise SystemExit('remote code was run')\n")
    edit(
        source / "tokenizer_config.json",
        auto_map={"AutoTokenizer": ["tokenization_internlm2.InternLM2Tokenizer", None]},
    )
    convert_checkpoint(source, folder)
    return load_checkpoint(folder)


@pytest.fixture(scope="module")
def recorded(name: str) -> dict[str, torch.Tensor]:
    return load_file(FIXTURES / name / "recorded.safetensors")


@pytest.fixture(scope="module")
def told(name: str) -> dict[str, Any]:
    return json.loads((FIXTURES / name / "tokens.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("length", ["short", "long"])
def test_the_logits_are_those_of_the_original_code(
    converted: Checkpoint, recorded: dict[str, torch.Tensor], length: str
) -> None:
    with torch.no_grad():
        outputs = converted.model(
            input_ids=recorded[f"{length}.input_ids"], pixel_values=recorded["pixel_values"], use_cache=False
        )
    expected = recorded[f"{length}.logits"]
    assert expected.std() > 0.5
    torch.testing.assert_close(outputs.logits[0, -len(expected) :], expected, atol=1e-4, rtol=0)


@needs_sentencepiece
def test_the_rarer_settings_of_the_original_are_kept(tmp_path: Path) -> None:
    """The large vision tower's norms, an inner vision layer, larger tiles, biases, linear positions."""
    convert_checkpoint(copy_of("variants", tmp_path / "source"), tmp_path / "native")
    converted = load_checkpoint(tmp_path / "native")
    vision, text = converted.model.config.vision_config, converted.model.config.text_config
    assert (vision.norm_type, vision.use_qk_norm, vision.attention_bias) == ("rms_norm", True, False)
    assert (converted.model.config.vision_feature_layer, converted.model.config.image_seq_length) == (-2, 9)
    assert (text.attention_bias, text.rope_parameters["rope_type"]) == (True, "linear")
    recorded = load_file(FIXTURES / "variants" / "recorded.safetensors")
    for length in ("short", "long"):
        with torch.no_grad():
            outputs = converted.model(input_ids=recorded[f"{length}.input_ids"], pixel_values=recorded["pixel_values"])
        torch.testing.assert_close(outputs.logits[0, -24:], recorded[f"{length}.logits"], atol=1e-4, rtol=0)
    tokens = json.loads((FIXTURES / "variants" / "tokens.json").read_text(encoding="utf-8"))["tokens"]
    assert {text: tokenize(converted.tokenizer, text) for text in tokens} == tokens


def test_the_tokens_are_those_of_the_original_tokenizer(converted: Checkpoint, told: dict[str, Any]) -> None:
    assert {text: tokenize(converted.tokenizer, text) for text in told["tokens"]} == told["tokens"]


def test_tokens_read_back_as_the_text(converted: Checkpoint, told: dict[str, Any]) -> None:
    for text, tokens in told["tokens"].items():
        assert converted.tokenizer.decode(tokens) == text


def test_a_prompt_is_the_original_conversation(converted: Checkpoint, told: dict[str, Any], name: str) -> None:
    prompt = chat_prompt(converted.tokenizer, told["turn"])
    assert prompt.removeprefix("<s>") == told["prompt"]
    assert prompt.startswith("<s>") == (name == "internlm2")
    assert tokenize(converted.tokenizer, prompt) == told["prompt_ids"]
    assert converted.tokenizer(told["prompt"])["input_ids"] == told["prompt_ids"]


def test_a_system_message_replaces_the_default_one(converted: Checkpoint) -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]
    text = converted.tokenizer.apply_chat_template(messages, tokenize=False)
    assert text.removeprefix("<s>") == "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWhy?<|im_end|>\n"


def test_an_answer_ends_as_the_conversation_says(converted: Checkpoint) -> None:
    assert converted.tokenizer.convert_ids_to_tokens(converted.end_token_id) == "<|im_end|>"
    assert converted.model.generation_config.eos_token_id == converted.end_token_id
    prompt = prompt_text(converted, "Describe it.")
    assert answer_tokens(converted.tokenizer, prompt, "a dog")[-1] == converted.end_token_id


def test_the_native_folder_says_what_it_is(converted: Checkpoint, name: str) -> None:
    config = converted.model.config
    assert type(converted.model).__name__ == "InternVLForConditionalGeneration"
    assert type(converted.model.model.language_model).__name__ == NATIVE_TEXT_MODELS[name]
    assert config.image_token_id == converted.tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>")
    assert config.image_seq_length == 4
    assert converted.image_processor.size == {"height": 16, "width": 16}
    assert sorted(path.name for path in Path(converted.path).parent.iterdir()) == [name, "source"]


def test_an_image_is_prepared_as_in_the_original_code(converted: Checkpoint) -> None:
    """One tile: bicubic, to 0..1, normalised by ImageNet's mean and deviation."""
    noise = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    small = np.asarray(image.resize((16, 16), Image.Resampling.BICUBIC), dtype=np.float32) / 255
    expected = (small - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    (tiles,) = prepare_images(converted, [image])
    np.testing.assert_allclose(tiles[0].permute(1, 2, 0).numpy(), expected, atol=1e-5)


def test_who_may_read_the_folder_may_read_its_files(converted: Checkpoint) -> None:
    folder = Path(converted.path)
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {folder.stat().st_mode & 0o666}


def test_both_files_are_converted_one_by_one(converted: Checkpoint, name: str) -> None:
    folder = Path(converted.path)
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    sizes = {path.name: sum(t.nbytes for t in load_file(path).values()) for path in folder.glob("*.safetensors")}
    original = json.loads((FIXTURES / name / "model.safetensors.index.json").read_text())
    assert set(sizes) == set(index["weight_map"].values()) == set(original["weight_map"].values())
    assert index["metadata"]["total_size"] == sum(sizes.values()) == original["metadata"]["total_size"]


def test_the_weights_have_the_names_that_transformers_writes(converted: Checkpoint, tmp_path: Path) -> None:
    converted.model.save_pretrained(tmp_path)
    saved = load_file(tmp_path / "model.safetensors")
    mine = [load_file(path) for path in sorted(Path(converted.path).glob("*.safetensors"))]
    assert {name: weight.shape for file in mine for name, weight in file.items()} == {
        name: weight.shape for name, weight in saved.items()
    }


def test_one_weight_file_without_a_head_is_a_tied_model(tmp_path: Path) -> None:
    source = copy_of("qwen2", tmp_path / "source")
    weights: dict[str, torch.Tensor] = {}
    for path in sorted(source.glob("model-*.safetensors")):
        weights |= load_file(path)
        path.unlink()
    (source / "model.safetensors.index.json").unlink()
    del weights["language_model.lm_head.weight"]
    halves = {key: weight.bfloat16() for key, weight in weights.items()}
    save_file(halves, source / "model.safetensors")
    convert_checkpoint(source, tmp_path / "native")
    model = load_checkpoint(tmp_path / "native", dtype="auto").model
    assert model.lm_head.weight is model.get_input_embeddings().weight
    assert model.lm_head.weight.dtype == torch.bfloat16
    assert torch.equal(model.lm_head.weight, halves["language_model.model.embed_tokens.weight"])
    assert [path.name for path in (tmp_path / "native").glob("*.safetensors*")] == ["model.safetensors"]
