import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from data_prep.scenes.base_model import build_image_processor, build_model
from semcore.checkpoint import Checkpoint, add_cluster_tokens, apply_lora, fingerprint, load_checkpoint
from semcore.errors import UserError
from semcore.inputs import batch_inputs, prompt_text


def save(checkpoint: Checkpoint, folder: Path) -> Path:
    for part in (checkpoint.model, checkpoint.tokenizer, checkpoint.image_processor):
        part.save_pretrained(folder)
    return folder


def logits(checkpoint: Checkpoint) -> torch.Tensor:
    with torch.no_grad():
        return checkpoint.model(**batch_inputs(checkpoint, [prompt_text(checkpoint, "a red star")], [[]])).logits


def untied(checkpoint: Checkpoint) -> Checkpoint:
    model = build_model(checkpoint.tokenizer, text_layers=1, hidden_size=32)
    config: Any = model.config
    config.tie_word_embeddings = config.text_config.tie_word_embeddings = False
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone() + 0.01)
    return Checkpoint(model.eval(), copy.deepcopy(checkpoint.tokenizer), build_image_processor(), "untied")


@pytest.mark.parametrize("tied", [True, False])
def test_cluster_rows_start_at_the_mean_of_their_words(tiny_checkpoint, tied):
    checkpoint = tiny_checkpoint if tied else untied(tiny_checkpoint)
    before = [checkpoint.model.get_input_embeddings().weight.clone(), checkpoint.model.lm_head.weight.clone()]
    ids = add_cluster_tokens(checkpoint, 2, [["red", "star"], []])
    words = checkpoint.tokenizer(" red star")["input_ids"]
    after = [checkpoint.model.get_input_embeddings().weight, checkpoint.model.lm_head.weight]
    for old, new in zip(before, after, strict=True):
        torch.testing.assert_close(new[ids[0]], old[words].mean(0))
        torch.testing.assert_close(new[ids[1]], old.mean(0))
        torch.testing.assert_close(new[: len(old)], old)


def test_adding_the_tokens_again_keeps_what_was_learnt(tiny_checkpoint):
    ids = add_cluster_tokens(tiny_checkpoint, 2, [[], []])
    with torch.no_grad():
        tiny_checkpoint.model.get_input_embeddings().weight[ids] += 1.0
    learnt = tiny_checkpoint.model.get_input_embeddings().weight[ids].clone()
    assert add_cluster_tokens(tiny_checkpoint, 2, [["red"], ["star"]]) == ids
    torch.testing.assert_close(tiny_checkpoint.model.get_input_embeddings().weight[ids], learnt)


def test_a_saved_checkpoint_gives_the_same_logits(tiny_checkpoint, tmp_path):
    add_cluster_tokens(tiny_checkpoint, 3, [["red"], ["star"], []])
    folder = save(tiny_checkpoint, tmp_path / "whole")
    torch.testing.assert_close(logits(load_checkpoint(folder)), logits(tiny_checkpoint), rtol=0, atol=0)


@pytest.mark.parametrize("tied", [True, False])
def test_lora_trains_its_layers_and_the_new_rows_only_and_reloads(tiny_checkpoint, tmp_path, tied):
    base = tiny_checkpoint if tied else untied(tiny_checkpoint)
    base = load_checkpoint(save(base, tmp_path / "base"))
    new_ids = add_cluster_tokens(base, 2, [["red"], ["star"]])
    model = apply_lora(
        base.model, rank=2, alpha=4, dropout=0.0, target_modules=["q_proj", "up_proj"], new_token_ids=new_ids
    )
    trained = Checkpoint(model, base.tokenizer, base.image_processor, "trained")
    assert not any("vision" in name for name, weight in model.named_parameters() if weight.requires_grad)
    optimizer = torch.optim.SGD([weight for weight in model.parameters() if weight.requires_grad], lr=0.5)
    inputs = batch_inputs(trained, [prompt_text(trained, "a <|cluster_0|> <|cluster_1|> star")], [[]])
    for _ in range(2):
        model(**inputs, labels=inputs["input_ids"]).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    save(trained, tmp_path / "adapter")
    expected = logits(trained)
    reloaded = load_checkpoint(tmp_path / "adapter")
    torch.testing.assert_close(logits(reloaded), expected, atol=1e-5, rtol=1e-4)
    untrained = load_checkpoint(tmp_path / "base")
    assert not torch.allclose(logits(untrained), expected[..., : logits(untrained).shape[-1]], atol=1e-3)


def test_what_is_not_a_checkpoint_is_refused(tiny_checkpoint, tmp_path):
    with pytest.raises(UserError, match="there is no checkpoint folder .*nowhere; give a folder or a hub id"):
        load_checkpoint(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="cannot load the tokenizer of .*empty"):
        load_checkpoint(tmp_path / "empty")
    folder = save(tiny_checkpoint, tmp_path / "damaged")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(UserError, match="cannot load the model of .*damaged"):
        load_checkpoint(folder)


def test_the_fingerprint_follows_the_weights(tiny_checkpoint, tmp_path):
    folder = save(tiny_checkpoint, tmp_path / "a")
    first = fingerprint(folder)
    assert fingerprint(folder) == first
    with torch.no_grad():
        tiny_checkpoint.model.lm_head.weight[0, 0] += 1
    assert fingerprint(save(tiny_checkpoint, tmp_path / "a")) != first
