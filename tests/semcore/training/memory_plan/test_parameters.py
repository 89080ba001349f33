"""Sizes from a `config.json` alone, against the models themselves."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import InternVLForConditionalGeneration

from semcore.models.checkpoint import load_checkpoint
from semcore.models.layer_fusion import new_layer_fusion
from semcore.models.lora import apply_lora
from semcore.models.set_head import SetHead, attach_set_head
from semcore.runtime.errors import UserError
from semcore.runtime.packaged_files import asset_folder
from semcore.training.memory_plan.memory import PACKED_BYTES, memory_of
from semcore.training.memory_plan.parameters import Parameters, count_extras, count_parameters, read_model_config
from semcore.training.weight_movement import freeze

SCENES = str(asset_folder("scenes_base"))
TARGETS = ("q_proj", "down_proj")
FULL: dict[str, Any] = {
    "num_new_tokens": 0, "freeze_vision": True, "freeze_projector": True, "lora_rank": 0, "target_modules": TARGETS,
}  # fmt: skip


@pytest.fixture
def original(tmp_path: Path) -> Path:
    """A folder with the published configuration of InternVL2.5-1B, and nothing else."""
    published = asset_folder("published") / "InternVL2_5-1B" / "config.json"
    (tmp_path / "config.json").write_text(published.read_text())
    return tmp_path


def test_the_original_layout_has_the_published_number_of_parameters(original: Path) -> None:
    config = read_model_config(str(original))
    assert count_parameters(config, **FULL).total == 938_193_024
    assert config.image_seq_length == 256


@pytest.mark.parametrize("name", ["InternVL2_5-1B", "OpenGVLab/InternVL2_5-1B", "models/InternVL2_5-1B-native"])
def test_the_published_models_are_known_before_they_are_there(
    name: str, original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_model_config(name).to_dict() == read_model_config(str(original)).to_dict()
    for other in ("InternVL2_5-26B", "InternVL2_5-1Bx"):
        with pytest.raises(UserError, match="^there is no "):
            read_model_config(other)


@pytest.mark.parametrize("freeze_vision", [True, False])
@pytest.mark.parametrize("freeze_projector", [True, False])
def test_what_trains_is_what_the_training_leaves_unfrozen(freeze_vision: bool, freeze_projector: bool) -> None:
    config = read_model_config(SCENES)
    model = InternVLForConditionalGeneration(config)
    freeze(model, vision=freeze_vision, projector=freeze_projector)
    counted = count_parameters(config, **FULL | {"freeze_vision": freeze_vision, "freeze_projector": freeze_projector})
    assert counted.total == model.num_parameters()
    assert counted.trained == model.num_parameters(only_trainable=True)
    assert counted.largest == max(weight.numel() for weight in model.parameters())


def test_lora_counts_adapters_and_new_rows_as_peft_does() -> None:
    config = read_model_config(SCENES)
    model = InternVLForConditionalGeneration(config)
    text: Any = config.text_config
    rows = text.vocab_size
    model.resize_token_embeddings(rows + 4, mean_resizing=False)
    trained = apply_lora(
        model, rank=8, alpha=16, dropout=0.0, target_modules=TARGETS, new_token_ids=range(rows, rows + 4)
    )
    counted = count_parameters(config, **FULL | {"lora_rank": 8, "num_new_tokens": 4})
    assert counted.trained == trained.num_parameters(only_trainable=True)


def test_what_is_packed_is_what_bitsandbytes_packs() -> None:
    """And its bytes, with the factors of its blocks, are those that the weights take."""
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    model = load_checkpoint(SCENES, dtype="bfloat16", quantization="nf4").model
    packed = [weight for weight in model.parameters() if weight.dtype == torch.uint8]
    counted = count_parameters(read_model_config(SCENES), **FULL | {"lora_rank": 8, "quantization": "nf4"})
    assert counted.packed == sum(math.prod(weight.quant_state.shape) for weight in packed)
    states = [weight.quant_state for weight in packed]
    measured = sum(weight.nbytes + state.absmax.nbytes + state.state2.absmax.nbytes for weight, state in
                   zip(packed, states, strict=True))  # fmt: skip
    assert counted.packed * PACKED_BYTES == pytest.approx(measured, rel=1e-3)
    alone = Parameters(counted.packed, 0, 0, counted.packed)
    assert memory_of("zero1", alone, 0, num_gpus=1, element_bytes=2).weights == pytest.approx(measured, rel=1e-3)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("nowhere", "there is no nowhere/config.json; give --model a folder that holds one"),
        ("nobody/nothing-8B", "not in the Hugging Face cache; get it with: hf download nobody/nothing-8B config.json"),
    ],
)
def test_a_configuration_that_is_not_here_is_one_sentence(name: str, sentence: str) -> None:
    with pytest.raises(UserError) as error:
        read_model_config(name)
    assert sentence in str(error.value)


def test_another_architecture_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["LlavaForConditionalGeneration"]}))
    with pytest.raises(UserError, match="holds LlavaForConditionalGeneration; plan knows InternVL"):
        read_model_config(str(tmp_path))


def test_lora_on_layers_that_do_not_exist_is_refused() -> None:
    with pytest.raises(UserError, match="names no layer"):
        count_parameters(read_model_config(SCENES), **FULL | {"lora_rank": 8, "target_modules": ["wqkv"]})


@pytest.mark.parametrize("num_fused", [0, 2, 9])
def test_extra_modules_are_counted_as_they_are(num_fused: int) -> None:
    config: Any = read_model_config(SCENES)
    model: Any = InternVLForConditionalGeneration(config)
    before = model.num_parameters()
    attach_set_head(model, SetHead([str(number) for number in range(7)], config.text_config.hidden_size))
    if num_fused:
        new_layer_fusion(model, num_fused)
    assert count_extras(config, 7, num_fused) == model.num_parameters() - before
    counted = count_parameters(config, **FULL, num_extra=5)
    assert counted.total - 5 == before
