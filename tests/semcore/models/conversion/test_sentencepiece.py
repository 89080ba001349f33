"""The fast tokenizer against the sentencepiece package itself, on a model trained here."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken

from semcore.models.conversion.sentencepiece import fast_tokenizer, read_piece_model
from semcore.runtime.errors import UserError
from tests.semcore.models.conversion.originals import FIXTURES

MODEL = FIXTURES / "internlm2" / "tokenizer.model"
CORPUS = [line for line in (Path(__file__).read_text() * 3).splitlines() if line.strip()]


def train(folder: Path, **options: Any) -> Path:
    trainer = pytest.importorskip("sentencepiece", reason="pip install sentencepiece to compare with it")
    settings = {
        "vocab_size": 420, "model_type": "bpe", "byte_fallback": True, "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False, "add_dummy_prefix": False, "minloglevel": 2, "hard_vocab_limit": False,
    } | options  # fmt: skip
    trainer.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS), model_prefix=str(folder / "tokenizer"), **settings
    )
    return folder / "tokenizer.model"


@pytest.mark.parametrize("add_dummy_prefix", [False, True])
def test_text_is_cut_as_sentencepiece_cuts_it(tmp_path: Path, add_dummy_prefix: bool) -> None:
    path = train(tmp_path, add_dummy_prefix=add_dummy_prefix)
    slow = pytest.importorskip("sentencepiece").SentencePieceProcessor(model_file=str(path))
    fast = fast_tokenizer(read_piece_model(path), {})
    rng = random.Random(0)
    texts = [*CORPUS, *("".join(rng.choices("abe  _fst(\n\t1é你🐕", k=rng.randrange(1, 30))) for _ in range(300))]
    for text in texts:
        assert fast.encode(text).ids == slow.encode(text), text
        assert fast.decode(fast.encode(text).ids) == text


def test_what_is_not_such_a_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.model"
    with pytest.raises(UserError, match=f"^there is no file {path}; download the checkpoint again$"):
        read_piece_model(path)
    for content in (MODEL.read_bytes()[:1001], b"\xff" * 20):
        path.write_bytes(content)
        with pytest.raises(UserError, match=f"^{path} is not a whole SentencePiece model; download it again$"):
            read_piece_model(path)


def test_another_kind_of_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be converted: as in InternLM2, it must be a SentencePiece BPE model"):
        read_piece_model(train(tmp_path, model_type="unigram"))


def test_added_tokens_must_follow_the_pieces() -> None:
    model = read_piece_model(MODEL)
    with pytest.raises(UserError, match=f"^the added tokens do not follow the {len(model.pieces)} pieces of"):
        fast_tokenizer(model, {len(model.pieces) + 1: AddedToken("<img>")})
