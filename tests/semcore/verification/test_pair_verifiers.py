"""Verifiers of pairs, CLIP, SigLIP, BLIP and BLIP-2, with tiny random checkpoints saved as a user's folder is."""

from __future__ import annotations

import shutil
import string
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from semcore.data.dataset import load_dataset, open_image
from semcore.data.directions import Direction
from semcore.data.items_and_queries import Item
from semcore.retrieval.shortlist import Shortlist
from semcore.retrieval.verifiers import open_verifier, verifier_scores
from semcore.runtime.errors import UserError
from semcore.runtime.files import read_json
from semcore.verification import Pair, dual, itm
from tests.run_fixtures import SearchableRun
from tests.semcore.evaluation.test_dense_baselines import make_dual_encoder

TEXTS = ["a", "a longer text than the others", "x" * 100, "red"]


@pytest.fixture(scope="session", params=["clip", "siglip"])
def dual_folder(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dual_encoder(request.param, tmp_path_factory.mktemp("dual") / request.param)


@pytest.fixture(scope="session", params=["blip", "blip-2"])
def itm_folder(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    make = make_itm if request.param == "blip" else make_blip2
    return make(tmp_path_factory.mktemp("itm") / f"tiny-{request.param}")


def letter_tokenizer() -> Any:
    """Return a tokenizer of letters that begins and ends as a text encoder's does."""
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    letters = {letter: place for place, letter in enumerate(["<pad>", "<begin>", "<end>", *string.printable])}
    tokenizer = Tokenizer(models.WordLevel(letters, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    marks = [("<begin>", 1), ("<end>", 2)]
    tokenizer.post_processor = processors.TemplateProcessing(single="<begin> $A <end>", special_tokens=marks)
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<end>")


def make_itm(folder: Path) -> Path:
    """Save a BLIP with random weights that reads letters and 16 px pictures."""
    import transformers

    fast = letter_tokenizer()
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    ends = {"bos_token_id": 1, "eos_token_id": 2, "sep_token_id": 2, "pad_token_id": 0}
    text = {**small, **ends, "vocab_size": len(fast), "max_position_embeddings": 40, "encoder_hidden_size": 16}
    torch.manual_seed(0)
    config = transformers.BlipConfig(
        text_config={**text, "initializer_range": 0.5},
        vision_config={**small, "image_size": 16, "patch_size": 8, "initializer_range": 0.5},
        image_text_hidden_size=8,
    )
    model: Any = transformers.BlipForImageTextRetrieval(config)
    with torch.no_grad():
        model.itm_head.weight.mul_(50)
    processor = transformers.BlipImageProcessorPil(size={"height": 16, "width": 16})
    for view in (model, processor, fast):
        view.save_pretrained(folder)
    return folder


def make_blip2(folder: Path, image_token: bool = True) -> Path:
    """Save a BLIP-2 of the same size, by its processor; newer ones name the token that stands for a query token."""
    import transformers

    fast = letter_tokenizer()
    num_letters, num_queries = len(fast), 3
    small = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2, "initializer_range": 0.5}
    torch.manual_seed(0)
    config = transformers.Blip2Config(
        vision_config={**small, "num_hidden_layers": 1, "image_size": 16, "patch_size": 8},
        qformer_config={
            **small, "num_hidden_layers": 2, "vocab_size": num_letters, "max_position_embeddings": 40,
            "use_qformer_text_input": True,
        },
        num_query_tokens=num_queries,
        image_text_hidden_size=8,
        image_token_index=num_letters if image_token else None,
    )  # fmt: skip
    model: Any = transformers.Blip2ForImageTextRetrieval(config)
    with torch.no_grad():
        model.query_tokens.normal_()
        model.itm_head.weight.mul_(50)
    pictures = transformers.BlipImageProcessorPil(size={"height": 16, "width": 16})
    transformers.Blip2Processor(pictures, fast, num_query_tokens=num_queries).save_pretrained(folder)
    model.save_pretrained(folder)
    return folder


def pairs_of_some(dataset: Any) -> list[Pair]:
    images = [record.image_id for record in dataset.split("test")[:3]]
    return [Pair(image, text) for text in TEXTS for image in images] + [Pair(images[0], TEXTS[0])]


def test_a_dual_encoder_scores_each_pair_by_its_own_logit(dual_folder: Path, finished_training: SearchableRun) -> None:
    """Beside the library's own forward of one picture and one sentence, less SigLIP's bias."""
    from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

    dataset = load_dataset(finished_training.data)
    pairs = pairs_of_some(dataset)
    found = dual.similarities(dual.load(str(dual_folder), dataset, "cpu"), pairs)
    assert found.keys() == set(pairs)
    model = AutoModel.from_pretrained(dual_folder).eval()
    tokenizer, processor = AutoTokenizer.from_pretrained(dual_folder), AutoImageProcessor.from_pretrained(dual_folder)
    padding: Any = "max_length" if model.config.model_type == "siglip" else False
    for pair in pairs:
        inputs = tokenizer(pair.sentence, padding=padding, truncation=True, max_length=40, return_tensors="pt")
        pixels = processor(images=open_image(dataset.image_paths[pair.image_id]), return_tensors="pt")
        with torch.inference_mode():
            expected = float(model(**inputs, **pixels).logits_per_image)
        expected -= float(model.logit_bias.detach()) if model.config.model_type == "siglip" else 0.0
        assert found[pair] == pytest.approx(expected, abs=1e-4)
    assert len({round(value, 5) for value in found.values()}) > len(TEXTS), "the scores tell pairs apart"


def test_image_text_matching_by_parts_is_the_whole_forward(tmp_path: Path, finished_training: SearchableRun) -> None:
    from transformers import AutoImageProcessor, AutoTokenizer, BlipForImageTextRetrieval

    itm_folder = make_itm(tmp_path / "tiny-blip")
    dataset = load_dataset(finished_training.data)
    pairs = pairs_of_some(dataset)
    found = itm.match_log_odds(itm.load(str(itm_folder), dataset, "cpu"), pairs)
    model: Any = BlipForImageTextRetrieval.from_pretrained(itm_folder).eval()
    tokenizer, processor = AutoTokenizer.from_pretrained(itm_folder), AutoImageProcessor.from_pretrained(itm_folder)
    for pair in pairs:
        inputs = tokenizer(pair.sentence, truncation=True, max_length=40, return_tensors="pt")
        pixels = processor(images=open_image(dataset.image_paths[pair.image_id]), return_tensors="pt")["pixel_values"]
        with torch.inference_mode():
            logits = model(
                input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], pixel_values=pixels
            ).itm_score[0]
        assert found[pair] == pytest.approx(float(logits[1] - logits[0]), abs=1e-4)
    assert np.std(list(found.values())) > 0.01, "the scores tell pairs apart"


@pytest.mark.parametrize("name", ["dual", "itm"])
def test_batches_and_their_order_make_no_difference(
    name: str, dual_folder: Path, itm_folder: Path, finished_training: SearchableRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = load_dataset(finished_training.data)
    module, folder = (dual, dual_folder) if name == "dual" else (itm, itm_folder)
    score: Any = dual.similarities if name == "dual" else itm.match_log_odds
    pairs = pairs_of_some(dataset)
    together = score(module.load(str(folder), dataset, "cpu"), pairs)
    monkeypatch.setattr(itm, "PAIRS_PER_BATCH", 2)
    monkeypatch.setattr(itm, "IMAGES_PER_BATCH", 2)
    monkeypatch.setattr("semcore.models.dual_encoder.BATCH", 1)
    session = module.load(str(folder), dataset, "cpu")
    alone = {pair: score(session, [pair])[pair] for pair in reversed(pairs)}
    assert alone == pytest.approx(together, abs=1e-4)


@pytest.mark.parametrize("name", ["dual", "itm"])
def test_both_directions_and_pictures_in_memory(
    name: str, dual_folder: Path, itm_folder: Path, finished_training: SearchableRun
) -> None:
    """A shortlist's scores are those of its pairs; a picture that is no file is scored as the file is."""
    dataset = load_dataset(finished_training.data)
    folder = str(dual_folder if name == "dual" else itm_folder)
    session = open_verifier(name, folder, dataset, None, device="cpu")
    images = [record.image_id for record in dataset.split("test")[:3]]
    shown = tuple(Item(image, image, "", "", image_path=dataset.image_paths[image]) for image in images)
    [t2i] = verifier_scores(name, session, Direction.T2I, [Shortlist("red", shown, (0.0,) * 3)])
    told = tuple(Item(text, images[0], "", "", text) for text in TEXTS)
    picture = {"query 0": open_image(dataset.image_paths[images[1]])}
    rows = [Shortlist(query, told, (0.0,) * 4) for query in ("query 0", images[1])]
    in_memory, of_file = verifier_scores(name, session.with_pictures(picture), Direction.I2T, rows)
    assert in_memory == pytest.approx(of_file, abs=1e-5)
    assert in_memory[TEXTS.index("red")] == pytest.approx(t2i[1], abs=1e-5)


def test_what_is_no_such_checkpoint_is_refused(
    dual_folder: Path, itm_folder: Path, finished_training: SearchableRun, tmp_path: Path
) -> None:
    dataset = load_dataset(finished_training.data)
    with pytest.raises(UserError) as raised:
        dual.load(str(itm_folder), dataset, "cpu")
    kind = read_json(itm_folder / "config.json")["model_type"]
    assert str(raised.value) == f"--dual-model takes CLIP or SigLIP checkpoints; {itm_folder} is a {kind}"
    with pytest.raises(UserError) as raised:
        itm.load(str(dual_folder), dataset, "cpu")
    kind = read_json(dual_folder / "config.json")["model_type"]
    assert str(raised.value) == f"--itm-model takes BLIP-ITM and BLIP-2-ITM checkpoints; {dual_folder} is a {kind}"
    with pytest.raises(UserError, match="there is no checkpoint folder"):
        itm.load("./nowhere", dataset, "cpu")


def test_pickled_weights_are_not_read(itm_folder: Path, finished_training: SearchableRun, tmp_path: Path) -> None:
    pickled = shutil.copytree(itm_folder, tmp_path / "pickled")
    torch.save(load_file(pickled / "model.safetensors"), pickled / "pytorch_model.bin")
    (pickled / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"the checkpoint .*pickled cannot be loaded: .*safetensors"):
        itm.load(str(pickled), load_dataset(finished_training.data), "cpu")
