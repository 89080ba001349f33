"""Kinds of image-text matching: BLIP-2 by parts beside the library's whole forward, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from semcore.data.dataset import load_dataset, open_image
from semcore.runtime.errors import UserError
from semcore.verification import Pair, itm
from tests.run_fixtures import SearchableRun
from tests.semcore.verification.test_pair_verifiers import make_blip2, make_itm, pairs_of_some


@pytest.mark.parametrize("image_token", [True, False])
def test_blip2_by_parts_is_the_whole_forward(
    image_token: bool, tmp_path: Path, finished_training: SearchableRun
) -> None:
    """The processor writes placeholders where the checkpoint names a token for them, and the forward takes them off."""
    from transformers import Blip2ForImageTextRetrieval, Blip2Processor

    folder = make_blip2(tmp_path / "tiny-blip2", image_token)
    dataset = load_dataset(finished_training.data)
    pairs = pairs_of_some(dataset)
    found = itm.match_log_odds(itm.load(str(folder), dataset, "cpu"), pairs)
    model: Any = Blip2ForImageTextRetrieval.from_pretrained(folder).eval()
    processor: Any = Blip2Processor.from_pretrained(folder, backend="pil")
    if not image_token:  # a checkpoint from before placeholders
        processor.num_query_tokens = None
    for pair in pairs:
        sentence = pair.sentence[:38]  # 40 positions, less those of <begin> and <end>
        picture = open_image(dataset.image_paths[pair.image_id])
        inputs = processor(images=picture, text=[sentence], return_tensors="pt")
        assert inputs["input_ids"].shape[1] == len(sentence) + (5 if image_token else 2)
        with torch.inference_mode():
            logits = model(**inputs, use_image_text_matching_head=True).logits_per_image[0]
        assert found[pair] == pytest.approx(float(logits[1] - logits[0]), rel=1e-5, abs=1e-4)
    assert np.std(list(found.values())) > 0.01, "the scores tell pairs apart"


def test_a_placeholder_in_a_sentence_is_words(tmp_path: Path, finished_training: SearchableRun) -> None:
    """The placeholder has no row in the embeddings: read as a token it would end the search."""
    dataset = load_dataset(finished_training.data)
    session = itm.load(str(make_blip2(tmp_path / "tiny-blip2")), dataset, "cpu")
    image = dataset.split("test")[0].image_id
    written = session.model.tokenizer("<image>", split_special_tokens=True)["input_ids"]
    assert len(written) == len("<image>") + 2
    scores = itm.match_log_odds(session, [Pair(image, "a <image>"), Pair(image, "a <imagi>")])
    assert np.isfinite(list(scores.values())).all() and len(set(scores.values())) == 2


@pytest.mark.parametrize("kind", ["blip", "blip-2"])
def test_a_checkpoint_without_the_head_is_refused(kind: str, tmp_path: Path, finished_training: SearchableRun) -> None:
    """As one that was trained for contrast or captions alone."""
    from safetensors.torch import load_file, save_file

    folder = (make_itm if kind == "blip" else make_blip2)(tmp_path / "tiny")
    weights = load_file(folder / "model.safetensors")
    kept = {name: weight for name, weight in weights.items() if not name.startswith("itm_head.")}
    assert len(kept) == len(weights) - 2
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError) as raised:
        itm.load(str(folder), load_dataset(finished_training.data), "cpu")
    assert str(raised.value) == (
        f"--itm-model takes BLIP-ITM and BLIP-2-ITM checkpoints; {folder} has no head for image-text matching"
    )
