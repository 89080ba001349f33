import pytest
import torch

from semcore.models.cluster_tokens import add_cluster_tokens
from semcore.training.fine_tune import make_trainable
from semcore.training.weight_movement import trainable_weights, unexpected_moves, weight_hashes

LORA = {"rank": 0, "alpha": None, "dropout": 0.0, "target_modules": ["q_proj"], "new_token_ids": ()}


def moved(model, *parts: str) -> dict[str, str]:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if any(part in name for part in parts):
                parameter += 0.1
    return weight_hashes(dict(model.named_parameters()))


@pytest.mark.parametrize(("vision", "projector"), [(True, True), (False, True), (True, False)])
def test_what_is_frozen(tiny_checkpoint, vision, projector):
    names = trainable_weights(make_trainable(tiny_checkpoint.model, vision, projector, **LORA))
    assert any("vision_tower" in name for name in names) is not vision
    assert any("multi_modal_projector" in name for name in names) is not projector
    assert any("language_model.layers.0.self_attn.q_proj" in name for name in names)


def test_lora_trains_adapters_and_new_rows_only(tiny_checkpoint):
    ids = add_cluster_tokens(tiny_checkpoint, 2, [[], []])
    model = make_trainable(tiny_checkpoint.model, True, True, **{**LORA, "rank": 4, "new_token_ids": ids})
    assert all("lora_" in name or "trainable_tokens" in name for name in trainable_weights(model))
    assert model.peft_config["default"].lora_alpha == 8


def test_a_training_that_moves_what_it_should_is_not_spoken_of(tiny_checkpoint):
    model = make_trainable(tiny_checkpoint.model, True, True, **LORA)
    before = weight_hashes(dict(model.named_parameters()))
    assert unexpected_moves(before, moved(model, "language_model"), trainable_weights(model), 20) == []


def test_a_frozen_weight_that_moved_is_found(tiny_checkpoint):
    model = make_trainable(tiny_checkpoint.model, True, True, **LORA)
    before = weight_hashes(dict(model.named_parameters()))
    after = moved(model, "language_model", "cls_token")
    (sentence,) = unexpected_moves(before, after, trainable_weights(model), 20)
    assert "1 frozen" in sentence and "vision_tower" in sentence and "cls_token" in sentence


def test_a_weight_that_did_not_move_is_found_after_enough_steps(tiny_checkpoint):
    model = make_trainable(tiny_checkpoint.model, True, True, **LORA)
    before = weight_hashes(dict(model.named_parameters()))
    after = moved(model, "language_model.layers", "language_model.norm")
    assert unexpected_moves(before, after, trainable_weights(model), 2) == []
    (sentence,) = unexpected_moves(before, after, trainable_weights(model), 20)
    assert "embed_tokens.weight" in sentence and "20" in sentence
