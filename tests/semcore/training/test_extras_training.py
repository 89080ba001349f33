"""Trainings of extra modules in this process: interrupted like uninterrupted, whole and under LoRA; old ones kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from semcore.models.checkpoint import Checkpoint, load_checkpoint
from semcore.models.cluster_tokens import add_cluster_tokens
from semcore.models.extra_modules import WEIGHTS
from semcore.models.inference import load_for_inference
from semcore.models.layer_fusion import LAYER_FUSION, new_layer_fusion
from semcore.models.merge_adapter import merge_adapter
from semcore.models.set_head import SET_HEAD, new_set_head
from semcore.models.set_inference import set_log_probs
from semcore.training.fine_tune import fine_tune, make_trainable
from semcore.training.objective import Objective
from semcore.training.schedule import plan_identifier_rows
from semcore.training.settings import TrainingSettings
from tests.semcore.training.test_fine_tune import LORA, NO_LORA, Interrupted, interrupt, lesson

PROMPT = {"input_ids": torch.tensor([[101, 102, 111, 103]]), "attention_mask": torch.ones(1, 4, dtype=torch.long)}


def train(checkpoint: Checkpoint, folder: Path, lora: dict[str, Any], **changes: Any) -> dict[str, Any]:
    settings = TrainingSettings(
        learning_rate=1e-2, num_epochs=30, max_steps=12, batch_size=4, micro_batch_size=2, bf16="no",
        gradient_checkpointing=False, save_steps=4,
    )  # fmt: skip
    ids = add_cluster_tokens(checkpoint, 2, [["red"], ["star"]])
    t2i, i2t, visuals, start = lesson(checkpoint)
    t2i = [replace(example, units=[n % 2, 2]) for n, example in enumerate(t2i)]
    rows = plan_identifier_rows(t2i, i2t, image_start_id=start, max_tokens=40, **settings.schedule())
    new_set_head(checkpoint.model, checkpoint.tokenizer, ["<|cluster_0|>", "<|cluster_1|>", "dog"])
    new_layer_fusion(checkpoint.model, 1)
    model = make_trainable(
        checkpoint.model, True, True, new_token_ids=ids, extras=[SET_HEAD, LAYER_FUSION], **lora
    )  # fmt: skip
    return fine_tune(
        checkpoint, model, rows, visuals, folder, prompts={}, description="test", dropout=0.1,
        objective=Objective(rdrop=0.15, set_weight=0.5), **{**settings.optimization(), **changes},
    )  # fmt: skip


@pytest.mark.parametrize(("lora", "recomputed"), [(NO_LORA, False), (NO_LORA, True), (LORA, True)])
def test_an_interrupted_training_ends_like_a_whole_one(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lora: dict[str, Any], recomputed: bool
) -> None:
    changes = {"gradient_checkpointing": recomputed}
    whole = train(load_checkpoint(base), tmp_path / "whole", lora, **changes)
    assert whole["loss_last"] < whole["loss_first"] and "warnings" not in whole
    with monkeypatch.context() as patch:
        interrupt(patch, 10)
        with pytest.raises(Interrupted):
            train(load_checkpoint(base), tmp_path / "model", lora, **changes)
    measured = train(load_checkpoint(base), tmp_path / "model", lora, **changes)
    assert measured["loss_last"] == pytest.approx(whole["loss_last"], abs=1e-4)
    for name in (WEIGHTS, "adapter_model.safetensors" if lora["rank"] else "model.safetensors"):
        expected = load_file(tmp_path / "whole" / name)
        for key, weight in load_file(tmp_path / "model" / name).items():
            torch.testing.assert_close(weight, expected[key], atol=1e-6, rtol=1e-5, msg=key)


def test_an_adapters_extra_modules_are_merged_with_it(base: Path, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(base)
    train(checkpoint, tmp_path / "model", LORA)
    model: Any = checkpoint.model
    with torch.no_grad():
        expected = set_log_probs(model.eval(), PROMPT), model(**PROMPT).logits
    merge_adapter(tmp_path / "model", tmp_path / "merged")
    assert not any("set_head" in name for name in load_file(tmp_path / "merged" / "model.safetensors"))
    for place in (tmp_path / "model", tmp_path / "merged"):
        again: Any = load_for_inference(place, dtype="float32", device="cpu").model
        torch.testing.assert_close(set_log_probs(again, PROMPT), expected[0], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(again(**PROMPT).logits, expected[1], atol=1e-4, rtol=1e-4)


def test_a_training_that_knows_no_extra_modules_leaves_them_as_they_are(base: Path, tmp_path: Path) -> None:
    """A verifier may start from an identifier model that has them."""
    train(load_checkpoint(base), tmp_path / "model", NO_LORA)
    checkpoint = load_checkpoint(tmp_path / "model")
    trained = make_trainable(checkpoint.model, True, True, new_token_ids=(), **NO_LORA)
    names = {name for name, weight in trained.named_parameters() if weight.requires_grad}
    assert names and not any(SET_HEAD in name or LAYER_FUSION in name for name in names)
