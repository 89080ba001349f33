"""Whole trainings of a tiny model, in this process: what is saved, resumed, checked."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

from data_prep.scenes.pretraining.model import build_model
from semcore.models.adapters import BASE
from semcore.models.checkpoint import Checkpoint, load_checkpoint
from semcore.models.cluster_tokens import add_cluster_tokens
from semcore.models.quantization import Quantization
from semcore.runtime.errors import UserError
from semcore.training import trainer as training_trainer
from semcore.training.collator import Collator
from semcore.training.fine_tune import fine_tune, load_start, make_trainable
from semcore.training.identifier_pairs import Example
from semcore.training.image_inputs import StoredFeatures
from semcore.training.schedule import plan_identifier_rows
from semcore.training.settings import TrainingSettings
from semcore.training.trainer import COMPLETE, Validation, last_checkpoint

LORA: dict[str, Any] = {"rank": 4, "alpha": None, "dropout": 0.0, "target_modules": ["q_proj", "up_proj"]}
NO_LORA: dict[str, Any] = {**LORA, "rank": 0}


class Interrupted(Exception):
    pass


class StopAt(TrainerCallback):
    def __init__(self, step: int):
        self.step = step

    def on_step_end(self, args, state, control, **_):
        if state.global_step == self.step:
            raise Interrupted


def lesson(checkpoint: Checkpoint):
    """Examples of both directions, each with its own answer, and features of two images."""
    convert = checkpoint.tokenizer.convert_tokens_to_ids
    image = [convert("<img>"), *[convert("<IMG_CONTEXT>")] * 16, convert("</img>")]
    clusters = [convert(f"<|cluster_{n}|>") for n in range(2)]
    end = checkpoint.end_token_id
    t2i = [Example([101, 102, 110 + n, 103], [clusters[n % 2], 120 + n, end]) for n in range(8)]
    i2t = [[Example([*image, 102, 103], [clusters[n], 130 + k, end], (f"i{n}",)) for k in range(2)] for n in range(2)]
    width = checkpoint.model.config.text_config.hidden_size
    features = {f"i{n}": torch.randn(16, width, generator=torch.Generator().manual_seed(n)) for n in range(2)}
    return t2i, i2t, StoredFeatures(features), convert("<img>")


def train(checkpoint: Checkpoint, folder: Path, lora=NO_LORA, **changes) -> dict[str, Any]:
    settings = TrainingSettings(
        learning_rate=3e-3, num_epochs=30, max_steps=20, batch_size=4, micro_batch_size=2, bf16="no",
        gradient_checkpointing=False, save_steps=6,
    )  # fmt: skip
    ids = add_cluster_tokens(checkpoint, 2, [["red"], ["star"]])
    t2i, i2t, visuals, start = lesson(checkpoint)
    rows = plan_identifier_rows(t2i, i2t, image_start_id=start, max_tokens=40, **settings.schedule())
    model = make_trainable(checkpoint.model, True, True, new_token_ids=ids, **lora)
    return fine_tune(
        checkpoint, model, rows, visuals, folder, prompts={"identify_t2i.jinja": "abc"}, description="test",
        **{**settings.optimization(), **changes},
    )  # fmt: skip


def loss_of(checkpoint: Checkpoint, *, training: bool = False) -> float:
    t2i, i2t, visuals, start = lesson(checkpoint)
    rows = plan_identifier_rows(
        t2i, i2t, image_start_id=start, max_tokens=40, num_epochs=1, batch_size=4, max_steps=1, seed=0
    )
    collator = Collator(visuals, checkpoint.tokenizer.pad_token_id, checkpoint.model.config.image_token_id)
    with torch.no_grad():
        return checkpoint.model.train(training)(**collator([rows[number] for number in range(4)])).loss.item()


def start_of(folder: Path, *, tied: bool = True, quantization: Quantization = "none") -> Checkpoint:
    checkpoint = load_checkpoint(folder, quantization=quantization)
    if tied:
        return checkpoint
    torch.manual_seed(1)
    model = build_model(checkpoint.tokenizer, text_layers=1, hidden_size=32)
    config: Any = model.config
    config.tie_word_embeddings = config.text_config.tie_word_embeddings = False
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    model.save_pretrained(folder)
    return load_checkpoint(folder)


def widen(base: Path) -> None:
    torch.manual_seed(1)
    build_model(load_checkpoint(base).tokenizer, text_layers=1, hidden_size=64).save_pretrained(base)


def test_a_full_training_learns_and_is_saved(base, tmp_path):
    folder = tmp_path / "model"
    checkpoint = start_of(base)
    measured = train(checkpoint, folder)
    assert measured["steps"] == 20
    assert measured["loss_last"] < 0.8 * measured["loss_first"]
    assert measured["engine"] == "none"
    assert measured["num_processes"] == 1
    assert measured["peak_memory_bytes"] > 1e8
    assert not (folder / "checkpoints").exists()
    assert json.loads((folder / "prompts.json").read_text()) == {"identify_t2i.jinja": "abc"}
    again = load_checkpoint(folder)
    assert loss_of(again) == pytest.approx(loss_of(checkpoint), abs=1e-5)
    assert again.tokenizer.convert_tokens_to_ids("<|cluster_1|>") == len(again.tokenizer) - 1
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("lora", [NO_LORA, LORA], ids=["full", "lora"])
def test_a_training_ends_with_the_weights_that_were_best_on_val(base, tmp_path, lora):
    """What is learnt by heart contradicts these rows of val: the loss on them falls at first, and rises for good."""
    checkpoint = start_of(base)
    ids = add_cluster_tokens(checkpoint, 2, [["red"], ["star"]])
    t2i, _, visuals, start = lesson(checkpoint)
    end = checkpoint.end_token_id
    other = [Example([101, 102, 110 + n, 103], [ids[0], 121 + n, end]) for n in range(8)]
    plan = {"image_start_id": start, "max_tokens": 40, "num_epochs": 1, "batch_size": 4, "seed": 0}
    val = plan_identifier_rows(other, [], max_steps=None, **plan)
    rows = plan_identifier_rows(t2i, [], max_steps=60, **{**plan, "num_epochs": 200})
    settings = TrainingSettings(learning_rate=1e-2, batch_size=4, micro_batch_size=2, bf16="no", save_steps=3)
    model = make_trainable(checkpoint.model, True, True, new_token_ids=ids, **lora)
    measured = fine_tune(
        checkpoint, model, rows, visuals, tmp_path / "model", prompts={}, description="test",
        validation=Validation(val, patience=2), **settings.optimization(),
    )  # fmt: skip
    losses = {int(step): loss for step, loss in measured["val_losses"].items()}
    best = measured["best_step"]
    assert losses[best] == min(losses.values())
    assert measured["steps"] == max(losses)
    if lora is NO_LORA:  # an adapter learns more slowly
        assert measured["steps"] == best + 6  # two evaluations without a better one
    again = load_checkpoint(tmp_path / "model")
    collator = Collator(visuals, checkpoint.tokenizer.pad_token_id, checkpoint.model.config.image_token_id)
    with torch.no_grad():
        loss = again.model.eval()(**collator([val[number] for number in range(len(val))])).loss.item()
    assert loss == pytest.approx(losses[best], abs=2e-3)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("checkpointing", [True, False])
def test_an_adapter_learns_its_new_rows_and_reloads(base, tmp_path, tied, checkpointing):
    folder = tmp_path / "model"
    checkpoint = start_of(base, tied=tied)
    measured = train(checkpoint, folder, LORA, gradient_checkpointing=checkpointing, learning_rate=2e-2)
    assert measured["loss_last"] < measured["loss_first"]
    assert (folder / "adapter_model.safetensors").exists()
    assert not (folder / "model.safetensors").exists()
    again = load_checkpoint(folder)
    assert loss_of(again) == pytest.approx(loss_of(checkpoint), abs=1e-5)
    start = start_of(base)
    ids = add_cluster_tokens(start, 2, [["red"], ["star"]])
    heads = [start.model.get_output_embeddings().weight[ids], again.model.merge_and_unload().lm_head.weight[ids]]
    assert not torch.allclose(*heads, atol=1e-3)


def test_a_packed_base_stays_as_it_was_and_its_adapter_reloads(base, tmp_path):
    """Beside the packed layers, nothing but the adapter and the new rows has moved: `fine_tune` sees to that."""
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    checkpoint = start_of(base, quantization="nf4")
    measured = train(checkpoint, tmp_path / "model", LORA, gradient_checkpointing=True, learning_rate=2e-2)
    assert measured["loss_last"] < 0.9 * measured["loss_first"]
    (layer,) = checkpoint.model.model.language_model.layers
    assert layer.mlp.up_proj.base_layer.weight.dtype == layer.mlp.down_proj.weight.dtype == torch.uint8
    packed = load_checkpoint(tmp_path / "model", quantization="nf4")
    trained = loss_of(checkpoint, training=True)  # in evaluation mode a CPU multiplies packed weights in bfloat16
    assert loss_of(packed, training=True) == pytest.approx(trained, abs=1e-6)
    assert loss_of(load_checkpoint(tmp_path / "model")) == pytest.approx(trained, abs=1e-5)
    (tmp_path / "model" / BASE).unlink()  # nobody says that the base was packed
    assert loss_of(load_checkpoint(tmp_path / "model")) != pytest.approx(trained, abs=1e-4)


def dtypes_in(values: Any) -> Iterator[torch.dtype]:
    """Yield the types of all tensors in nested dictionaries and lists."""
    if isinstance(values, torch.Tensor):
        yield values.dtype
    elif isinstance(values, dict):
        yield from dtypes_in(list(values.values()))
    elif isinstance(values, list | tuple):
        for value in values:
            yield from dtypes_in(value)


@pytest.mark.parametrize(
    ("lora", "quantization", "optim"),
    [
        (NO_LORA, "none", "adamw_torch_fused"),
        (LORA, "none", "adamw_torch_fused"),
        (LORA, "nf4", "adamw_torch_fused"),
        (NO_LORA, "none", "adamw_8bit"),
        (NO_LORA, "none", "paged_adamw_8bit"),
    ],
)
def test_an_interrupted_training_ends_like_a_whole_one(base, tmp_path, monkeypatch, lora, quantization, optim):
    if quantization != "none" or "8bit" in optim:
        pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
        widen(base)  # bitsandbytes leaves the moments of fewer than 4,096 numbers in float32
    whole = train(start_of(base, quantization=quantization), tmp_path / "whole", lora, optim=optim)
    with monkeypatch.context() as patch:
        interrupt(patch, 15)
        with pytest.raises(Interrupted):
            train(start_of(base, quantization=quantization), tmp_path / "model", lora, optim=optim)
    checkpoints = tmp_path / "model" / "checkpoints"
    assert sorted(path.name for path in checkpoints.iterdir()) == ["checkpoint-12", "checkpoint-6"]
    states = torch.load(checkpoints / "checkpoint-12" / "optimizer.pt")["state"]
    assert (torch.uint8 in set(dtypes_in(states))) is ("8bit" in optim)
    (checkpoints / "checkpoint-14").mkdir()  # as if killed while it was written
    measured = train(start_of(base, quantization=quantization), tmp_path / "model", lora, optim=optim)
    assert measured["loss_last"] == pytest.approx(whole["loss_last"], abs=1e-4)
    assert measured["loss_last"] < measured["loss_first"] == whole["loss_first"]
    assert measured["steps"] == 20
    name = "adapter_model.safetensors" if lora["rank"] else "model.safetensors"
    expected = load_file(tmp_path / "whole" / name)
    for key, weight in load_file(tmp_path / "model" / name).items():
        torch.testing.assert_close(weight, expected[key], atol=1e-6, rtol=1e-5, msg=key)


def interrupt(patch: pytest.MonkeyPatch, step: int) -> None:
    plain = training_trainer.Trainer
    patch.setattr(training_trainer, "Trainer", lambda **k: plain(**{**k, "callbacks": [*k["callbacks"], StopAt(step)]}))


def test_batches_of_another_size_learn_the_same(base, tmp_path):
    torch.manual_seed(0)
    first, second = (
        train(start_of(base), tmp_path / str(size), micro_batch_size=size, gradient_checkpointing=size == 1)
        for size in (4, 1)
    )
    assert second["loss_last"] == pytest.approx(first["loss_last"], abs=1e-3)


def test_checkpoints_of_another_engine_are_refused(tmp_path):
    state = tmp_path / "checkpoint-5"
    state.mkdir()
    (state / COMPLETE).write_text(json.dumps({"engine": "deepspeed", "num_processes": 2, "zero_stage": 2}))
    with pytest.raises(UserError, match=r"ran with engine deepspeed ZeRO-2 and 2 process\(es\), not engine none and 1"):
        last_checkpoint(tmp_path)


def test_a_training_in_which_nothing_moves_is_saved_and_says_so(base, tmp_path, caplog):
    measured = train(start_of(base), tmp_path / "model", learning_rate=1e-30)
    assert load_checkpoint(tmp_path / "model").model is not None
    (warning,) = measured["warnings"]
    assert "20 steps" in warning
    assert warning in caplog.text and str(tmp_path / "model") in caplog.text


def test_the_verifier_goes_on_with_an_adapter(base, tmp_path):
    train(start_of(base), tmp_path / "model", LORA)
    loading = TrainingSettings(bf16="no").loading()
    checkpoint = load_start(str(tmp_path / "model"), 4, "none", False, **loading)
    model = make_trainable(checkpoint.model, True, True, new_token_ids=(), **LORA)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained
    assert all("lora_" in name or "trainable_tokens" in name for name in trained)


def test_the_seed_alone_decides_how_an_adapter_begins(base):
    first, same, other = (
        make_trainable(load_checkpoint(base).model, True, True, new_token_ids=(), seed=seed, **LORA).state_dict()
        for seed in (1, 1, 2)
    )
    names = [name for name in first if "lora_A" in name]
    assert names
    assert all(torch.equal(first[name], same[name]) and not torch.equal(first[name], other[name]) for name in names)


def test_settings_split_without_loss():
    settings = TrainingSettings()
    assert {**settings.schedule(), **settings.optimization(), **settings.loading()} == asdict(settings)
