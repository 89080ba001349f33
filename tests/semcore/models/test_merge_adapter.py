"""Adapters are merged into checkpoints with the same outputs, and adapters that cannot be merged are refused."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoTokenizer

from semcore.models.adapters import BaseNote, read_note, write_note
from semcore.models.checkpoint import Checkpoint, load_checkpoint
from semcore.models.cluster_tokens import add_cluster_tokens
from semcore.models.lora import apply_lora
from semcore.models.merge_adapter import merge_adapter
from semcore.models.quantization import Quantization
from semcore.runtime.errors import UserError
from semcore.runtime.files import read_json
from semcore.runtime.fingerprints import fingerprint
from semcore.runtime.moved_checkpoints import from_folder

CARD = "# A card that somebody wrote\n"


def make_adapter(base: Path, folder: Path, quantization: Quantization = "none", dtype: str = "float32") -> Checkpoint:
    """Save an adapter with new rows as a training does, its numbers drawn; return what was saved."""
    checkpoint = load_checkpoint(base, quantization=quantization, dtype=dtype)
    ids = add_cluster_tokens(checkpoint, 3, [["red"], ["star"], []])
    model = apply_lora(
        checkpoint.model, rank=4, alpha=8, dropout=0.0, target_modules=["q_proj", "up_proj"], new_token_ids=ids
    )
    torch.manual_seed(0)
    for weight in model.parameters():
        if weight.requires_grad:
            torch.nn.init.normal_(weight, std=0.3)
    for part in (model, checkpoint.tokenizer, checkpoint.image_processor):
        part.save_pretrained(folder)
    (folder / "prompts.json").write_text("{}")
    (folder / "README.md").write_text(CARD)
    write_note(folder, BaseNote(fingerprint(base), quantization, dtype, from_folder(str(base), folder)))
    return Checkpoint(model, checkpoint.tokenizer, checkpoint.image_processor, str(folder), quantization)


def logits(model, tokenizer) -> torch.Tensor:
    """In training mode: there a CPU multiplies packed weights in float32."""
    tokens = torch.tensor([tokenizer("<|cluster_1|>red dog<|cluster_0|><|cluster_2|>street")["input_ids"]])
    with torch.no_grad():
        return model.train()(input_ids=tokens).logits.float()


@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_a_merged_model_says_what_the_trained_one_said(base, tmp_path, quantization):
    if quantization == "nf4":
        pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    trained = make_adapter(base, tmp_path / "adapter", quantization)
    merge_adapter(tmp_path / "adapter", tmp_path / "merged")
    expected = logits(trained.model, trained.tokenizer)
    ours = load_checkpoint(tmp_path / "merged")
    torch.testing.assert_close(logits(ours.model, ours.tokenizer), expected, atol=1e-5, rtol=1e-5)
    plain = AutoModelForImageTextToText.from_pretrained(tmp_path / "merged")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "merged")
    torch.testing.assert_close(logits(plain, tokenizer), expected, atol=1e-5, rtol=1e-5)


def test_all_that_belongs_to_it_comes_along(base, tmp_path):
    (base / "processor_config.json").write_text('{"processor_class": "InternVLProcessor"}')
    make_adapter(base, tmp_path / "adapter")
    merge_adapter(tmp_path / "adapter", tmp_path / "merged")
    names = {path.name for path in (tmp_path / "merged").iterdir()}
    assert {
        "config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja", "preprocessor_config.json",
        "processor_config.json", "prompts.json", "README.md",
    } <= names  # fmt: skip
    assert not names & {"adapter_config.json", "adapter_model.safetensors", "base.json"}
    assert (tmp_path / "merged" / "README.md").read_text() == CARD
    assert json.loads((tmp_path / "merged" / "config.json").read_text())["dtype"] == "float32"
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def test_the_wanted_precision_is_written(base, tmp_path):
    make_adapter(base, tmp_path / "adapter")
    merge_adapter(tmp_path / "adapter", tmp_path / "merged", dtype="bfloat16")
    assert load_checkpoint(tmp_path / "merged", dtype="auto").model.dtype == torch.bfloat16


def test_the_one_adapter_of_a_run_is_found(base, tmp_path):
    make_adapter(base, tmp_path / "run" / "identifier_model")
    merge_adapter(tmp_path / "run", tmp_path / "merged")
    make_adapter(base, tmp_path / "run" / "verifier_model")
    with pytest.raises(UserError, match=r"run holds several adapters; name .*identifier_model or .*verifier_model"):
        merge_adapter(tmp_path / "run", tmp_path / "other")


def test_a_base_that_has_moved(base, tmp_path):
    make_adapter(base, tmp_path / "adapter")
    moved = base.rename(tmp_path / "moved")
    with pytest.raises(UserError, match=r"base of .*adapter, .*base, is no longer there; say where it is with --base"):
        merge_adapter(tmp_path / "adapter", tmp_path / "merged")
    merge_adapter(tmp_path / "adapter", tmp_path / "merged", base=moved)
    assert (tmp_path / "merged" / "model.safetensors").is_file()


def test_a_base_that_has_changed(base, tmp_path):
    make_adapter(base, tmp_path / "adapter")
    (base / "config.json").write_text((base / "config.json").read_text() + " ")
    now, then = fingerprint(base)[:12], read_note(tmp_path / "adapter").fingerprint[:12]
    with pytest.raises(UserError, match=rf"{now}.*{then}.*--base FOLDER.*--allow-mismatch base$"):
        merge_adapter(tmp_path / "adapter", tmp_path / "merged")
    merge_adapter(tmp_path / "adapter", tmp_path / "merged", allow_mismatch=["base"])
    (allowed,) = read_json(tmp_path / "merged" / "lineage.json")["allowed_mismatches"]
    assert (allowed["kind"], allowed["found"]) == ("base", fingerprint(base))


def test_what_is_no_adapter_and_where_something_is(base, tmp_path):
    with pytest.raises(UserError, match="base .*adapter_config.json"):
        merge_adapter(base, tmp_path / "merged")
    make_adapter(base, tmp_path / "adapter")
    with pytest.raises(UserError, match="base .*DST"):
        merge_adapter(tmp_path / "adapter", base)
    with pytest.raises(UserError, match="SRC and DST are the same folder"):
        merge_adapter(tmp_path / "adapter", tmp_path / "adapter")


@pytest.mark.parametrize("content", ["{}", '{"base_model_name_or_path": null}'])
def test_an_adapter_that_names_no_base(tmp_path, content):
    (tmp_path / "adapter_config.json").write_text(content)
    with pytest.raises(UserError, match=r"adapter_config.json names no base_model_name_or_path; write"):
        merge_adapter(tmp_path, tmp_path / "merged")


def test_nothing_is_left_of_a_merge_that_failed(base, tmp_path, monkeypatch):
    make_adapter(base, tmp_path / "adapter")
    monkeypatch.setattr("semcore.models.merge_adapter._copy_missing", fail)
    with pytest.raises(UserError, match="merged .*no paper"):
        merge_adapter(tmp_path / "adapter", tmp_path / "merged")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter", "base"]


def fail(*_):
    raise OSError("no paper")
