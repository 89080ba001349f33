import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers.processors import TemplateProcessing

from data_prep.scenes.pretraining.model import build_image_processor, build_model
from semcore.models.checkpoint import Checkpoint, load_checkpoint
from semcore.models.cluster_tokens import add_cluster_tokens
from semcore.models.lora import apply_lora
from semcore.runtime.errors import UserError
from semcore.runtime.fingerprints import fingerprint
from semcore.runtime.typed_commands import command
from tests.pixel_inputs import batch_inputs, prompt_text
from tests.semcore.models.conversion.originals import edit


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


def test_cluster_rows_know_nothing_of_a_token_that_the_tokenizer_puts_first(tiny_checkpoint):
    """As InternLM2's does."""
    tokenizer, embedding = tiny_checkpoint.tokenizer, tiny_checkpoint.model.get_input_embeddings()
    words = tokenizer(" red", add_special_tokens=False)["input_ids"]
    bos = tokenizer.convert_tokens_to_ids("<|im_start|>")
    tokenizer._tokenizer.post_processor = TemplateProcessing(
        single="<|im_start|> $A", special_tokens=[("<|im_start|>", bos)]
    )
    assert tokenizer(" red")["input_ids"] == [bos, *words]
    (row,) = add_cluster_tokens(tiny_checkpoint, 1, [["red"]])
    torch.testing.assert_close(embedding.weight[row], embedding.weight[words].mean(0))


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
    torch.manual_seed(0)
    model = apply_lora(
        base.model, rank=2, alpha=4, dropout=0.0, target_modules=["q_proj", "up_proj"], new_token_ids=new_ids
    )
    trained = Checkpoint(model, base.tokenizer, base.image_processor, "trained")
    assert not any("vision" in name for name, weight in model.named_parameters() if weight.requires_grad)
    optimizer = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad], lr=0.01)
    inputs = batch_inputs(trained, [prompt_text(trained, "a <|cluster_0|> <|cluster_1|> star")], [[]])
    for _ in range(5):
        model(**inputs, labels=inputs["input_ids"]).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    save(trained, tmp_path / "adapter")
    expected = logits(trained)
    reloaded = load_checkpoint(tmp_path / "adapter")
    torch.testing.assert_close(logits(reloaded), expected, atol=1e-5, rtol=1e-4)
    untrained = load_checkpoint(tmp_path / "base")
    assert not torch.allclose(logits(untrained), expected[..., : logits(untrained).shape[-1]], atol=1e-3)


@pytest.fixture
def folder(tiny_checkpoint: Checkpoint, tmp_path: Path) -> Path:
    """A whole checkpoint folder in three weight files, for a test to damage."""
    save(tiny_checkpoint, tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").unlink()
    tiny_checkpoint.model.save_pretrained(tmp_path / "model", max_shard_size="40KB")
    return tmp_path / "model"


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as error:
        load_checkpoint(path)
    return str(error.value)


def test_what_is_not_a_checkpoint_is_refused(tmp_path):
    way_out = "give a folder or a hub id like OpenGVLab/NAME"
    assert refusal(tmp_path / "nowhere") == f"there is no checkpoint folder {tmp_path / 'nowhere'}; {way_out}"
    (tmp_path / "empty").mkdir()
    assert refusal(tmp_path / "empty").startswith(f"{tmp_path / 'empty'} has no config.json: it is no checkpoint")
    (tmp_path / "empty" / "config.json").write_text("{")
    assert refusal(tmp_path / "empty").startswith(f"cannot load the configuration of {tmp_path / 'empty'}: ")


def test_other_architectures_are_refused(folder):
    edit(folder / "config.json", architectures=["Qwen2ForCausalLM"])
    assert refusal(folder) == (
        f"{folder} holds Qwen2ForCausalLM; semcore works with native InternVL checkpoints "
        "(InternVLForConditionalGeneration)"
    )
    original = Path(__file__).parent / "conversion" / "fixtures" / "internlm2"
    assert "InternVLChatModel" in refusal(original)
    assert f"`{command('semcore', 'convert-checkpoint', original, 'internlm2-native')}`" in refusal(original)


def test_missing_and_cut_weight_files_are_named(folder):
    shards = sorted(folder.glob("model-*.safetensors"))
    assert len(shards) > 2
    whole = shards[1].read_bytes()
    shards[1].write_bytes(whole[:-100])
    assert refusal(folder).startswith(f"the weight file {shards[1]} is damaged or cut short (")
    shards[1].unlink()
    assert refusal(folder) == (
        f"{folder} is not whole: 1 of {len(shards)} weight files are missing, {shards[1].name} the first; "
        "download it again"
    )
    shards[1].write_bytes(whole)
    assert load_checkpoint(folder).path == str(folder)


def test_a_tokenizer_must_be_its_models(folder):
    template = (folder / "chat_template.jinja").read_text()
    (folder / "chat_template.jinja").unlink()
    assert refusal(folder).startswith(f"{folder} has no chat template; copy chat_template.jinja from ")
    (folder / "chat_template.jinja").write_text(template)
    token_id = json.loads((folder / "config.json").read_text())["image_token_id"]
    edit(folder / "config.json", image_token_id=token_id - 1)
    assert refusal(folder) == (
        f"the tokenizer of {folder} writes <IMG_CONTEXT> as {token_id}, its model reads images at {token_id - 1}: "
        "they are not of the same checkpoint"
    )
    for name in ("tokenizer.json", "tokenizer_config.json"):
        content = (folder / name).read_text()
        (folder / name).write_text(re.sub("(</?)img>", r"\1picture>", content).replace("IMG_CONTEXT", "PICTURE"))
    assert refusal(folder) == (
        f"the tokenizer of {folder} has no <img>, <IMG_CONTEXT>, </img>: it is not InternVL's; "
        "copy the tokenizer's files from the checkpoint that the model was made from"
    )


def test_the_fingerprint_follows_the_weights(tiny_checkpoint, tmp_path):
    folder = save(tiny_checkpoint, tmp_path / "a")
    first = fingerprint(folder)
    assert fingerprint(folder) == first
    with torch.no_grad():
        tiny_checkpoint.model.lm_head.weight[0, 0] += 1
    assert fingerprint(save(tiny_checkpoint, tmp_path / "a")) != first


@pytest.mark.parametrize("names", [[], ["wqkv"], ["q_proj", "k_prj"]])
def test_lora_on_layers_that_are_not_there(tiny_checkpoint, names):
    with pytest.raises(UserError, match="--lora.target-modules .* names no layer of the text model"):
        apply_lora(tiny_checkpoint.model, rank=2, alpha=4, dropout=0.0, target_modules=names, new_token_ids=())
