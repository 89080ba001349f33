"""Matching captions with the images of a dataset."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from semcore.data.caption_files import NO_IMAGE, TextItem, image_of_sentences, read_captions, sentence_items
from semcore.data.dataset import Dataset, ImageRecord, Sentence
from semcore.runtime import long_lists
from semcore.runtime.errors import UserError
from semcore.runtime.files import write_jsonl


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    images = [
        ImageRecord(name, f"images/{name}.jpg", split, (Sentence(f"{name}_0", f"about {name}"),), name)
        for name, split in (("a", "train"), ("b", "test"), ("c", "train"))
    ]
    return Dataset(tmp_path / "DATA", "three", images, "0")


def _write(path: Path, **captions: str) -> Path:
    write_jsonl(path, [{"image_id": image_id, "caption": caption} for image_id, caption in captions.items()])
    return path


def test_images_without_a_caption_and_captions_without_an_image_are_counted(dataset: Dataset, tmp_path: Path) -> None:
    captions = read_captions(_write(tmp_path / "captions.jsonl", c=" a cat ", x="an axe", b=" "), dataset)
    assert captions.items == [TextItem("c", "train", "a cat")]
    assert captions.missing == ["a", "b"]
    assert captions.num_unknown == 1


def test_sentences_are_items_whether_or_not_their_image_has_a_caption(dataset: Dataset) -> None:
    assert sentence_items(dataset)[1] == TextItem("b_0", "test", "about b")
    assert len(sentence_items(dataset)) == 3


def test_a_sentence_knows_the_place_of_its_image_among_the_captioned(dataset: Dataset) -> None:
    captions = [TextItem("c", "train", "a cat"), TextItem("b", "test", "a bat")]
    assert list(image_of_sentences(dataset, captions)) == [NO_IMAGE, 1, 0]
    assert list(image_of_sentences(dataset, captions, limit=2)) == [NO_IMAGE, 1]


def test_a_limit_is_shared_out_over_the_splits(dataset: Dataset, tmp_path: Path) -> None:
    captions = read_captions(_write(tmp_path / "captions.jsonl", a="1 one", b="2 two", c="3 three"), dataset, limit=2)
    assert [item.item_id for item in captions.items] == ["a", "b"]
    assert (captions.missing, captions.num_unknown) == ([], 0)
    assert [item.item_id for item in sentence_items(dataset, limit=2)] == ["a_0", "b_0"]


def test_captions_of_another_dataset_are_refused(dataset: Dataset, tmp_path: Path) -> None:
    path = _write(tmp_path / "captions.jsonl", x="an axe")
    with pytest.raises(UserError, match=r"captions none of the 3 images of .*DATA \(1 captions, 1 of them of other"):
        read_captions(path, dataset)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ('{"image_id": "c"}', "line 2: image_id and caption are needed, both text; found {'image_id': 'c'}"),
        ('{"image_id": "c", "caption": null}', "line 2: image_id and caption are needed"),
        ('{"image_id": "a", "caption": "again"}', "line 2: image a has a second caption; delete one of the lines"),
        ('{"image_id": "c", "cap', "line 2: not valid JSON"),
    ],
)
def test_a_malformed_line_is_named(dataset: Dataset, tmp_path: Path, line: str, sentence: str) -> None:
    path = tmp_path / "captions.jsonl"
    path.write_text('{"image_id": "a", "caption": "once"}\n' + line + "\n")
    with pytest.raises(UserError, match=f"captions.jsonl, {sentence}"):
        read_captions(path, dataset)


def test_many_captions_are_those_of_few(tmp_path: Path, dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _write(tmp_path / "captions.jsonl", c=" a cat ", x="an axe", b="bees")

    def everything() -> tuple[Any, ...]:
        captions = read_captions(path, dataset)
        items, sentences = list(captions.items), list(sentence_items(dataset))
        return items, captions.missing, captions.num_unknown, sentences, list(image_of_sentences(dataset, items))

    few = everything()
    monkeypatch.setattr(long_lists, "IN_MEMORY", 1)
    assert everything() == few
    assert not isinstance(read_captions(path, dataset).items, list)


def test_a_second_caption_comes_before_a_mistake_further_down(tmp_path: Path, dataset: Dataset) -> None:
    lines = [{"image_id": "a", "caption": "1"}, {"image_id": "a", "caption": "2"}, {"image_id": "b"}]
    (tmp_path / "captions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(UserError, match="line 2: image a has a second caption; delete one of the lines"):
        read_captions(tmp_path / "captions.jsonl", dataset)
