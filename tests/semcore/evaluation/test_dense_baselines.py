"""Dense baselines, with a tiny random CLIP and SigLIP and with an encoder that counts letters."""

from __future__ import annotations

import shutil
import string
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import semcore.retrieval.dense
from semcore.commands.arguments import parse
from semcore.commands.evaluate import EvaluateSettings, main
from semcore.data.dataset import load_dataset, open_image
from semcore.data.directions import Direction
from semcore.data.run_folder import RunFolder
from semcore.evaluation.dense_baselines import (
    measure_baselines,
    nearest,
)
from semcore.evaluation.inputs import fold_split_views
from semcore.retrieval.batch import WorkDir, read_split_views
from semcore.retrieval.dense import SENTENCE_ENCODER, caption_encoder, dual_encoder
from semcore.runtime.errors import UserError
from semcore.runtime.files import read_json, write_jsonl
from tests.run_fixtures import SearchableRun


def count_letters(*_: Any, **__: Any) -> Any:
    """Stand in for a sentence encoder: a vector of how often each letter stands in a text."""
    return lambda texts: np.array([[text.count(c) for c in string.ascii_lowercase] for text in texts], np.float32)


@pytest.fixture(scope="session", params=["clip", "siglip"])
def tiny_dual_encoder(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint folder with random weights, as `save_pretrained` writes one."""
    return make_dual_encoder(request.param, tmp_path_factory.mktemp("dual") / f"tiny-{request.param}")


def make_dual_encoder(kind: str, folder: Path) -> Path:
    import torch
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    letters = {letter: place for place, letter in enumerate(["<pad>", "<end>", *string.printable])}
    tokenizer = Tokenizer(models.WordLevel(letters, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.post_processor = processors.TemplateProcessing(single="$A <end>", special_tokens=[("<end>", 1)])
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<end>")
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**small, "vocab_size": len(letters), "max_position_embeddings": 40, "eos_token_id": 1, "pad_token_id": 0}
    vision = {**small, "image_size": 16, "patch_size": 8}
    torch.manual_seed(0)
    if kind == "clip":
        config: Any = transformers.CLIPConfig(text_config={**text, "projection_dim": 8},
                                         vision_config={**vision, "projection_dim": 8}, projection_dim=8)  # fmt: skip
        model: Any = transformers.CLIPModel(config)
        processor: Any = transformers.CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size=16)
    else:
        config = transformers.SiglipConfig(text_config={**text, "projection_size": 16}, vision_config=vision)
        model = transformers.SiglipModel(config)
        processor = transformers.SiglipImageProcessorPil(size={"height": 16, "width": 16})
    for view in (model, processor, fast):
        view.save_pretrained(folder)
    return folder


def test_nearest_is_the_largest_cosine_and_the_first_of_equals() -> None:
    items = np.array([[1, 0], [0, 1], [1, 0]], dtype=np.float32)
    assert nearest(np.array([[0.9, 0.1], [0, 1]]), items, ["a", "b", "c"]) == [["a", "c", "b"], ["b", "a", "c"]]
    assert nearest(np.array([[0.9, 0.1]]), items, ["a", "b", "c"], num_items=1) == [["a"]]


def test_the_sentence_encoder_reads_captions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(semcore.retrieval.dense, "load_encoder", count_letters)
    baseline = caption_encoder({"cat": "aab", "owl": "zz"}, "any")
    assert np.allclose(np.linalg.norm(baseline.texts(["aab", "zzz", ""]), axis=1), [1, 1, 0])
    assert nearest(baseline.texts(["zzz", "ab"]), baseline.images(["cat", "owl"]), ["cat", "owl"]) == [
        ["owl", "cat"],
        ["cat", "owl"],
    ]


def test_a_dual_encoder_has_its_librarys_inputs(tiny_dual_encoder: Path, finished_training: SearchableRun) -> None:
    """In batches and padded, the vectors are those of one text or image alone."""
    import torch
    from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

    dataset = load_dataset(finished_training.data)
    records = dataset.split("test")[:3]
    texts = ["a", "a longer text than the others", "x" * 100]
    baseline = dual_encoder(str(tiny_dual_encoder), dataset, "cpu")
    model = AutoModel.from_pretrained(tiny_dual_encoder).eval()
    tokenizer = AutoTokenizer.from_pretrained(tiny_dual_encoder)
    processor = AutoImageProcessor.from_pretrained(tiny_dual_encoder, backend="pil")
    padding: Any = "max_length" if model.config.model_type == "siglip" else False
    with torch.inference_mode():
        for text, vector in zip(texts, baseline.texts(texts), strict=True):
            one = tokenizer(text, padding=padding, truncation=True, max_length=40, return_tensors="pt")
            own = model.get_text_features(**one).pooler_output[0]
            assert np.allclose(own / own.norm(), vector, atol=1e-5)
        for record, vector in zip(records, baseline.images([r.image_id for r in records]), strict=True):
            picture = open_image(dataset.image_path(record))
            own = model.get_image_features(**processor(images=picture, return_tensors="pt")).pooler_output[0]
            assert np.allclose(own / own.norm(), vector, atol=1e-5)


def test_other_checkpoints_are_refused(
    tiny_checkpoint_folder: Path, finished_training: SearchableRun, tmp_path: Path
) -> None:
    dataset = load_dataset(finished_training.data)
    with pytest.raises(UserError, match=r"takes sentence-encoder and CLIP or SigLIP checkpoints; .* is a internvl$"):
        dual_encoder(str(tiny_checkpoint_folder), dataset, "cpu")
    with pytest.raises(UserError, match="there is no checkpoint folder ./nowhere"):
        dual_encoder("./nowhere", dataset, "cpu")


def test_folds_cut_items_and_queries_alike(finished_training: SearchableRun) -> None:
    views = read_split_views(RunFolder(finished_training.run), load_dataset(finished_training.data), "test")
    folds = fold_split_views(views, 3)
    assert [tuple(key) for key in folds] == [
        (f"test fold {number}", direction) for number in (1, 2, 3) for direction in ("t2i", "i2t")
    ]
    for direction in ("t2i", "i2t"):
        own = [view for key, view in folds.items() if key.direction == direction]
        (whole,) = [view for key, view in views.items() if key.direction == direction]
        assert [item for view in own for item in view.items] == list(whole.items)
        assert [query for view in own for query in view.queries.contents] == list(whole.queries.contents)
        for view in own:
            assert all(view.queries.relevant[query] <= view.items.keys() for query in view.queries.contents)


def test_an_image_without_a_caption_is_a_miss_of_the_sentence_encoder(
    finished_training: SearchableRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(semcore.retrieval.dense, "load_encoder", count_letters)
    dataset = load_dataset(finished_training.data)
    views = {
        k: p for k, p in read_split_views(RunFolder(finished_training.run), dataset, "test").items() if k[1] == "i2t"
    }
    captions = {record.image_id: record.sentences[0].text for record in dataset.split("test")}
    place = WorkDir(tmp_path / "work", progress=False)
    whole = measure_baselines([SENTENCE_ENCODER], dataset, captions, "any", views, place)[SENTENCE_ENCODER][
        Direction.I2T
    ]
    without = dict(list(captions.items())[1:])
    place = WorkDir(tmp_path / "other", progress=False)
    fewer = measure_baselines([SENTENCE_ENCODER], dataset, without, "any", views, place)[SENTENCE_ENCODER][
        Direction.I2T
    ]
    assert whole["num_queries"] == fewer["num_queries"] == 6
    assert (whole["R@1"], fewer["R@1"]) == (100.0, pytest.approx(100 * 5 / 6))


def test_folds_and_baselines_stand_in_the_metrics_and_the_report(
    searchable_run: SearchableRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(semcore.retrieval.dense, "load_encoder", count_letters)
    records = load_dataset(searchable_run.data).images
    captions = [{"image_id": record.image_id, "caption": record.sentences[0].text} for record in records]
    write_jsonl(searchable_run.run / "captions.jsonl", captions)
    clip = make_dual_encoder("clip", tmp_path / "tiny-clip")
    main(
        EvaluateSettings(
            searchable_run.run, dtype="float32", device="cpu", verifier="listwise", num_beams=6, num_candidates=3,
            num_val_queries=4, ablations=False, folds=3, baselines=[SENTENCE_ENCODER, str(clip)],
        )
    )  # fmt: skip
    metrics = read_json(searchable_run.run / "metrics.json")
    assert metrics["folds"].keys() == {"t2i", "i2t"}
    for direction, num_queries, num_items in (("t2i", 10, 2), ("i2t", 2, 10)):
        fold = metrics["folds"][direction]
        assert fold.keys() == {"generated", "verified"}
        assert (fold["generated"]["num_queries"], fold["generated"]["num_items"]) == (num_queries, num_items)
        assert fold["generated"]["R@1"] >= metrics[direction]["generated"]["R@1"]  # fewer to be mistaken for
    own = metrics["baselines"]
    assert own.keys() == {SENTENCE_ENCODER, str(clip)}
    assert own[SENTENCE_ENCODER][Direction.T2I]["R@1"] > own[str(clip)]["t2i"]["R@1"]  # captions are sentences here
    assert own[SENTENCE_ENCODER][Direction.I2T]["num_items"] == 30
    report = (searchable_run.run / "report.md").read_text()
    for row in ("generated, folds", "verified, folds", "sentence encoder", "tiny-clip"):
        assert f"| {row} |" in report


def test_baselines_go_on_after_a_kill(
    searchable_run: SearchableRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(semcore.retrieval.dense, "load_encoder", count_letters)
    dataset = load_dataset(searchable_run.data)
    views = read_split_views(RunFolder(searchable_run.run), dataset, "test")
    captions = {record.image_id: record.sentences[0].text for record in dataset.images}
    place = WorkDir(tmp_path / "work", progress=False)
    first = measure_baselines([SENTENCE_ENCODER], dataset, captions, "any", views, place)
    monkeypatch.setattr(semcore.retrieval.dense, "embed", None)  # nothing is embedded again
    assert measure_baselines([SENTENCE_ENCODER], dataset, captions, "any", views, place) == first
    shutil.rmtree(tmp_path / "work")


def test_baselines_are_a_list_on_the_command_line(tmp_path: Path) -> None:
    given = parse(EvaluateSettings, ["--run", str(tmp_path), "--baselines", "[sentence-encoder,openai/clip]"])
    assert given.baselines == ["sentence-encoder", "openai/clip"]
    with pytest.raises(UserError, match=r"^--baselines takes a list such as \[a, b\] or null, found 'clip'$"):
        parse(EvaluateSettings, ["--run", str(tmp_path), "--baselines", "clip"])


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"folds": 1}, "--folds .*2.* 1"),
        ({"folds": 5, "limit": 3}, "--folds are folds of the whole split: leave --limit out"),
    ],
)
def test_wrong_settings(tmp_path: Path, wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=f"^{sentence}$"):
        EvaluateSettings(tmp_path, **wrong)
