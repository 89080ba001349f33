"""InternLM2's converted tokenizer against the sentencepiece package itself, on a model trained here."""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any

import pytest
from tokenizers import normalizers
from transformers.convert_slow_tokenizer import SpmConverter

from semcore.models.conversion.tokenizer import NEEDED, internlm2_tokenizer
from semcore.runtime.errors import UserError
from semcore.runtime.files import read_json, write_json
from tests.semcore.models.conversion.originals import FIXTURES, copy_of, edit, needs_sentencepiece

CORPUS = [line for line in (Path(__file__).read_text() * 3).splitlines() if line.strip()]

pytestmark = needs_sentencepiece


def train(folder: Path, **options: Any) -> Any:
    """Train a tokenizer.model, write the files beside it, and return what sentencepiece reads of it."""
    import sentencepiece

    settings: dict[str, Any] = {
        "vocab_size": 420, "model_type": "bpe", "byte_fallback": True, "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False, "add_dummy_prefix": False, "minloglevel": 2, "hard_vocab_limit": False,
    } | options  # fmt: skip
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS), model_prefix=str(folder / "tokenizer"), **settings
    )
    slow = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    added = {slow.get_piece_size() + i: {"content": token, "special": True} for i, token in enumerate(NEEDED)}
    write_json(folder / "tokenizer_config.json", {"add_bos_token": False, "added_tokens_decoder": added})
    return slow


@pytest.mark.parametrize("add_dummy_prefix", [False, True])
def test_text_is_cut_as_sentencepiece_cuts_it(tmp_path: Path, add_dummy_prefix: bool) -> None:
    slow = train(tmp_path, add_dummy_prefix=add_dummy_prefix)
    fast = internlm2_tokenizer(tmp_path, read_json(tmp_path / "tokenizer_config.json"), 1000)
    rng = random.Random(0)
    texts = [*CORPUS, *("".join(rng.choices("abe  _fst(\n\t1é你🐕", k=rng.randrange(1, 30))) for _ in range(300))]
    for text in texts:
        assert fast(text)["input_ids"] == slow.encode(text), text
        assert fast.decode(fast(text)["input_ids"]) == text


def test_a_damaged_model_is_refused(tmp_path: Path) -> None:
    source = copy_of("internlm2", tmp_path / "source")
    path = source / "tokenizer.model"
    for content in (path.read_bytes()[:1001], b"\xff" * 20, b""):
        path.write_bytes(content)
        with pytest.raises(UserError, match=f"^{path} is not a whole SentencePiece model; download it again$"):
            internlm2_tokenizer(source, read_json(source / "tokenizer_config.json"), 1000)


def test_added_tokens_must_get_the_ids_that_they_had(tmp_path: Path) -> None:
    source = copy_of("internlm2", tmp_path / "source")
    settings = read_json(source / "tokenizer_config.json")
    tokens = settings["added_tokens_decoder"]
    tokens["500"] = tokens.pop("424")
    edit(source / "tokenizer_config.json", added_tokens_decoder=tokens)
    (source / "added_tokens.json").unlink()
    with pytest.raises(UserError, match="</box> .* 424, .* 500"):
        internlm2_tokenizer(source, settings, 1000)


@pytest.mark.parametrize("package", ["sentencepiece", "google.protobuf"])
def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    settings = read_json(FIXTURES / "internlm2" / "tokenizer_config.json")
    with pytest.raises(UserError, match=rf"{package}.*pip install 'semcore\[convert\]'"):
        internlm2_tokenizer(FIXTURES / "internlm2", settings, 1000)


def test_a_version_that_cuts_otherwise_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    right = SpmConverter.build_tokenizer_from_spm_proto

    def without_spaces(*given: Any, **options: Any) -> Any:
        tokenizer = right(*given, **options)
        tokenizer.normalizer = normalizers.Sequence([])
        return tokenizer

    monkeypatch.setattr(SpmConverter, "build_tokenizer_from_spm_proto", staticmethod(without_spaces))
    settings = read_json(FIXTURES / "internlm2" / "tokenizer_config.json")
    with pytest.raises(UserError, match=r"transformers .* cuts text otherwise .*pip install 'semcore\[convert\]'"):
        internlm2_tokenizer(FIXTURES / "internlm2", settings, 1000)
