"""Users' mistakes with conversion, word for word; and incomplete files are never accepted."""

from __future__ import annotations

import json
import os
import re
import resource
from collections import namedtuple
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from semcore.models.conversion import convert, convert_checkpoint
from semcore.runtime import atomic
from semcore.runtime.errors import UserError
from tests.semcore.models.conversion.originals import copy_of, edit, needs_sentencepiece

FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return copy_of("qwen2", tmp_path / "source")


def refuse(source: Path, sentence: str) -> None:
    """Expect this sentence, and that nothing was left of the target."""
    target = source.parent / "native"
    with pytest.raises(UserError, match=f"^{re.escape(sentence)}"):
        convert_checkpoint(source, target)
    assert [path for path in source.parent.iterdir() if "native" in path.name] == []


def test_the_source_must_be_an_original_checkpoint(source: Path) -> None:
    refuse(
        source.parent / "away",
        f"there is no checkpoint folder {source.parent}/away; download one first, for example with "
        f"hf download OpenGVLab/InternVL2_5-1B --local-dir {source.parent}/away",
    )
    edit(source / "config.json", architectures=["InternVLForConditionalGeneration"])
    refuse(source, f"{source} is a native checkpoint already; use it as it is, with --model {source}")
    edit(source / "config.json", architectures=["LlavaForConditionalGeneration"])
    refuse(
        source,
        f"{source} holds LlavaForConditionalGeneration; convert-checkpoint takes InternVLChatModel, "
        "the original layout of InternVL2.5 and InternVL3",
    )
    (source / "config.json").unlink()
    refuse(source, f"there is no file {source}/config.json")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"llm_config__architectures": ["Phi3ForCausalLM"]},
            "{} has the text model Phi3ForCausalLM; convert-checkpoint knows Qwen2ForCausalLM and InternLM2ForCausalLM",
        ),
        (
            {"llm_config__vocab_size": None},
            "{}/config.json does not say llm_config.vocab_size; download it again",
        ),
        (
            {"use_llm_lora": 16},
            "{}/config.json has use_llm_lora 16, only 0 can be converted; merge the LoRA weights first",
        ),
        (
            {"ps_version": "v1"},
            "{}/config.json has ps_version 'v1', only 'v2' can be converted; InternVL2.5 and InternVL3 have it",
        ),
        (
            {"template": "Hermes-2"},
            "the checkpoint's conversation format is 'Hermes-2'; only 'internvl2_5', that of InternVL2.5 and "
            "InternVL3, can be converted",
        ),
        (
            {"llm_config__rope_scaling": {"type": "yarn", "factor": 4.0}},
            "positions scaled as 'yarn' cannot be converted; there are default, linear, dynamic",
        ),
        (
            {"vision_config__qk_normalization": True, "vision_config__layer_norm_eps": 1e-5},
            "the vision tower's layer_norm_eps is 1e-05, with normalised queries and keys only 1e-06 can be converted",
        ),
        (
            {"llm_config__num_hidden_layers": 4},
            "{} lacks the weights of language_model.model.layers.3.input_layernorm.weight (12 in all); "
            "download its config.json and weights again",
        ),
        (
            {"llm_config__num_hidden_layers": 2},
            "{} has weights its config.json does not speak of: language_model.model.layers.2.input_layernorm.weight "
            "(12 in all); download its config.json and weights again",
        ),
        (
            {"llm_config__intermediate_size": 32},
            "{}: language_model.model.layers.0.mlp.down_proj.weight is (16, 24) in the weights and (16, 32) by "
            "config.json; download both again",
        ),
    ],
)
def test_a_model_of_another_kind_is_refused(source: Path, changes: dict[str, object], sentence: str) -> None:
    edit(source / "config.json", **changes)
    refuse(source, sentence.format(source))


def test_weight_files_must_be_whole(source: Path) -> None:
    whole = (source / SECOND).read_bytes()
    for length in (len(whole) - 1, 200, 3, 0):
        (source / SECOND).write_bytes(whole[:length])
        refuse(source, f"the weight file {source / SECOND} is damaged or cut short (")
    (source / SECOND).unlink()
    refuse(source, f"{source} is not whole: 1 of 2 weight files are missing, {SECOND} the first; download it again")
    (source / "model.safetensors.index.json").unlink()
    refuse(
        source,
        f"{source} has no weights: neither model.safetensors nor model.safetensors.index.json; download it again",
    )
    (source / "model.safetensors.index.json").write_text('{"weight_map": {}}')
    refuse(source, f"{source}/model.safetensors.index.json names no weights; download it again")


def test_weights_of_another_model_are_refused(source: Path) -> None:
    weights = load_file(source / FIRST)
    save_file(weights | {"qformer.weight": torch.zeros(1)}, source / FIRST)
    refuse(source, f"{source} has a weight qformer.weight, which InternVL2.5 and InternVL3 have not")
    save_file(weights | {"mlp1.0.weight": torch.zeros(64, dtype=torch.float64)}, source / FIRST)
    refuse(source, f"{source} stores weights as F32, F64; one of BF16, F16, F32 is needed")


@needs_sentencepiece
def test_heads_that_do_not_divide_are_a_wrong_shape(tmp_path: Path) -> None:
    source = copy_of("internlm2", tmp_path / "source")
    name = "language_model.model.layers.0.attention.wqkv.weight"
    path = next(path for path in source.glob("*.safetensors") if name in load_file(path))
    save_file(load_file(path) | {name: torch.zeros(31, 16)}, path)
    refuse(source, f"{source}: language_model.model.layers.0.self_attn.k_proj.weight is (31, 16) in the weights and ")


def test_the_tokenizer_must_be_internvls(source: Path) -> None:
    settings = json.loads((source / "tokenizer_config.json").read_text())
    added = settings["added_tokens_decoder"]
    kept = {number: token for number, token in added.items() if token["content"] not in ("<img>", "<IMG_CONTEXT>")}
    edit(source / "tokenizer_config.json", added_tokens_decoder=kept, additional_special_tokens=[])
    edit(source / "tokenizer_config.json", additional_special_tokens=[])
    (source / "special_tokens_map.json").unlink()
    tokens = json.loads((source / "added_tokens.json").read_text())
    (source / "added_tokens.json").write_text(
        json.dumps({key: tokens[key] for key in tokens if "mg" not in key.lower()})
    )
    refuse(
        source,
        f"the tokenizer of {source} has no <img>, <IMG_CONTEXT>: it is not InternVL's; "
        "copy tokenizer_config.json and added_tokens.json from the original checkpoint",
    )
    (source / "merges.txt").unlink()
    refuse(source, f"there is no file {source}/merges.txt; download the checkpoint again")
    (source / "tokenizer_config.json").unlink()
    refuse(source, f"there is no file {source}/tokenizer_config.json")


@needs_sentencepiece
def test_the_sentencepiece_tokenizer_must_be_internvls(tmp_path: Path) -> None:
    source = copy_of("internlm2", tmp_path / "source")
    settings = json.loads((source / "tokenizer_config.json").read_text())
    pieces = {number: token for number, token in settings["added_tokens_decoder"].items() if int(number) < 416}
    edit(source / "tokenizer_config.json", added_tokens_decoder=pieces)
    (source / "added_tokens.json").unlink()
    refuse(source, f"the token </img> of {source} gets the id 417, its files say None; copy ")
    edit(source / "tokenizer_config.json", additional_special_tokens=[])
    (source / "special_tokens_map.json").unlink()
    refuse(source, f"the tokenizer of {source} has no <img>, </img>, <IMG_CONTEXT>: it is not InternVL's; copy ")
    (source / "tokenizer.model").unlink()
    refuse(source, f"there is no file {source}/tokenizer.model; download the checkpoint again")


def test_more_tokens_than_rows_are_refused(source: Path) -> None:
    rows = json.loads((source / "config.json").read_text())["llm_config"]["vocab_size"]
    edit(source / "config.json", llm_config__vocab_size=rows - 1)
    refuse(source, f"the tokenizer of {source} has ids up to {rows - 1}, the model only {rows - 1} rows; ")


def test_the_target_must_be_new(source: Path) -> None:
    with pytest.raises(UserError, match=f"^SRC and DST are the same folder, {source}; give another DST: the original"):
        convert_checkpoint(source, source.parent / "source" / ".." / "source")
    target = source.parent / "taken"
    target.mkdir()
    with pytest.raises(UserError, match=f"^{target} exists already; give a DST that does not, or remove it first$"):
        convert_checkpoint(source, target)
    assert list(target.iterdir()) == []


def test_a_disk_that_is_too_small_is_noticed_before_writing(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(convert.shutil, "disk_usage", lambda place: usage(10**6, 10**6, 1000))
    refuse(
        source,
        f"{source.parent}/native needs 0.0 GB and its disk has 0.0 GB free; free some or give a DST on another disk",
    )


@contextmanager
def file_size_limit(num_bytes: int) -> Iterator[None]:
    """Let the operating system refuse to write more than this into any file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_file_that_cannot_be_written_whole_leaves_nothing(source: Path) -> None:
    with file_size_limit((source / SECOND).stat().st_size - 100):
        refuse(source, f"{source.parent}/native could not be written: ")


def fail(*_: object, **__: object) -> None:
    raise OSError(28, os.strerror(28))


@pytest.mark.parametrize("place", ["semcore.models.conversion.convert.GenerationConfig.save_pretrained", "os.fsync"])
def test_a_disk_that_fills_up_leaves_nothing(source: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    monkeypatch.setattr(place, fail)
    refuse(
        source,
        f"{source.parent}/native could not be written: its disk is full; nothing is left of it, make room and run the "
        "command again",
    )


def test_what_a_kill_left_is_not_taken_for_a_checkpoint(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A killed process cannot clean up: what it leaves is hidden, named incomplete, and in nobody's way."""
    target = source.parent / "native"
    with monkeypatch.context() as killed:
        killed.setattr(atomic.os, "rename", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        killed.setattr(atomic.shutil, "rmtree", lambda *_, **__: None)
        with pytest.raises(KeyboardInterrupt):
            convert_checkpoint(source, target)
    (left,) = [path for path in source.parent.iterdir() if path.name.startswith(".native.")]
    assert left.name.endswith(".incomplete")
    assert not target.exists()
    of_another_process = left.rename(left.with_name(".native.1.incomplete"))
    convert_checkpoint(source, target)
    assert (target / "config.json").exists()
    assert of_another_process.exists()
