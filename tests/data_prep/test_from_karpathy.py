from __future__ import annotations

import gzip
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from data_prep import from_karpathy
from data_prep.from_karpathy import PUBLISHED, Settings, count_notes, main, stream_captions
from semcore.data.dataset import SPLITS, load_dataset, read_json, read_jsonl
from semcore.models.prompts import load_prompts
from semcore.runtime.errors import UserError
from semcore.runtime.repeats import Keys


def change_captions(source: Any, change: Callable[[list[dict[str, Any]]], Any]) -> None:
    document = json.loads(source.json.read_text())
    change(document["images"])
    source.json.write_text(json.dumps(document))


def refusal(source: Any, out: Path, **settings: Any) -> str:
    with pytest.raises(UserError) as error:
        main(Settings(source.json, source.images, out, **settings))
    assert not out.exists()
    assert not list(out.parent.glob(".*.unfinished"))
    return str(error.value)


def test_the_folder_holds_what_the_captions_say(karpathy_source: Any, tmp_path: Path) -> None:
    out = tmp_path / "data"
    main(Settings(karpathy_source.json, karpathy_source.images, out))
    dataset = load_dataset(out)
    assert dataset.name == "tiny"
    assert [len(dataset.split(name)) for name in SPLITS] == [3, 1, 2]  # restval counts as train
    first = dataset.images[0]
    assert first.image_id == "COCO_xval2014_000000000000"
    assert first.source_file == "COCO_val2014_000000000000.jpg"
    assert [(s.sentence_id, s.text) for s in first.sentences] == [
        ("100", "A red circle on white."),
        ("101", "Circle number 0, red."),
    ]
    source = karpathy_source.images / "val2014" / first.source_file
    assert os.path.samefile(source, dataset.image_path(first))  # linked, not copied
    about = read_json(out / "dataset.json")
    assert about["counts"] == {"train": 3, "val": 1, "test": 2}
    assert about["sentence_counts"] == {"train": 6, "val": 2, "test": 4}
    assert about["metadata_sha256"] == dataset.fingerprint
    assert not (out / "skipped.jsonl").exists()


def test_images_may_lie_without_their_filepath_and_captions_be_compressed(karpathy_source: Any, tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    shutil.copytree(karpathy_source.images / "val2014", flat)
    packed = tmp_path / "captions.json.gz"
    packed.write_bytes(gzip.compress(karpathy_source.json.read_bytes()))
    main(Settings(packed, flat, tmp_path / "data", copy=True))
    dataset = load_dataset(tmp_path / "data")
    assert len(dataset.images) == 6
    assert dataset.image_path(dataset.images[0]).stat().st_nlink == 1


def test_where_no_link_is_possible_images_are_copied(
    karpathy_source: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "link", refuse)
    main(Settings(karpathy_source.json, karpathy_source.images, tmp_path / "linked"))
    assert next((tmp_path / "linked" / "images").iterdir()).is_symlink()
    monkeypatch.setattr(os, "symlink", refuse)
    main(Settings(karpathy_source.json, karpathy_source.images, tmp_path / "copied"))
    assert not next((tmp_path / "copied" / "images").iterdir()).is_symlink()
    assert len(load_dataset(tmp_path / "copied").images) == 6


def test_single_defects_are_counted_listed_and_skipped(
    karpathy_source: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = karpathy_source.images / "val2014"
    files = sorted(folder.iterdir())
    files[0].write_bytes(b"")
    files[1].write_bytes(files[1].read_bytes()[:-200])
    files[2].unlink()

    def empty_some(images: list[dict[str, Any]]) -> None:
        images[3]["sentences"] = []
        images[4]["sentences"][0]["raw"] = "  "

    change_captions(karpathy_source, empty_some)
    out = tmp_path / "data"
    main(Settings(karpathy_source.json, karpathy_source.images, out, skip_missing=True))
    dataset = load_dataset(out)
    assert [image.source_file for image in dataset.images] == [files[4].name, files[5].name]
    assert [len(image.sentences) for image in dataset.images] == [1, 2]
    assert read_json(out / "dataset.json")["skipped"] == {
        "unreadable": 2,
        "missing": 1,
        "no_sentences": 1,
        "empty_sentence": 1,
    }
    skipped = list(read_jsonl(out / "skipped.jsonl"))
    assert [row["kind"] for row in skipped] == ["unreadable"] * 2 + ["missing", "no_sentences", "empty_sentence"]
    assert skipped[0]["reason"] == "the file is empty"
    assert "truncated" in skipped[1]["reason"]
    assert skipped[2]["reason"] == "there is no such file"
    printed = capsys.readouterr().out
    assert f"  {files[0].name}: the file is empty\n" in printed
    assert "left out 4 of 6 images: 1 missing images, 1 images without sentences, 2 unreadable images" in printed
    assert f"left out 1 of 4 sentences: 1 empty sentences; listed in {out / 'skipped.jsonl'}" in printed


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        (lambda images: images[2].update(filename="../../secret.jpg"), "leads_out", ("images[2]", "secret.jpg")),
        (lambda images: images[2].update(filename="/etc/passwd"), "leads_out", ("images[2]", "/etc/passwd")),
        (lambda images: images[2].update(filepath=".."), "leads_out", ("images[2]", "../COCO")),
        (lambda images: images[3].update(imgid=1), "repeated", ("images[3]", "imgid", "images[1]")),
        (
            lambda images: images[3].update(filename=images[1]["filename"]),
            "repeated",
            ("images[3]", "file", "images[1]"),
        ),
        (lambda images: images[2].update(split="dev"), "split", ("images[2]", "'dev'", "restval")),
        (lambda images: images[2].pop("filename"), "no_image", ("images[2]", "filename")),
        (lambda images: images.__setitem__(2, None), "no_image", ("images[2]",)),
        (lambda images: images[2].update(sentences="x"), "malformed", ("images[2]", "'x'")),
    ],
)
def test_a_bad_entry_is_counted_and_left_out(
    karpathy_source: Any, tmp_path: Path, change: Callable[[Any], Any], kind: str, words: tuple[str, ...], capsys: Any
) -> None:
    change_captions(karpathy_source, change)
    main(Settings(karpathy_source.json, karpathy_source.images, tmp_path / "data"))
    assert len(load_dataset(tmp_path / "data").images) == 5
    (entry,) = read_jsonl(tmp_path / "data" / "skipped.jsonl")
    assert entry["kind"] == kind
    assert all(word in f"{entry['file']} {entry['reason']}" for word in words)
    assert "left out 1 of 6 rows: " in capsys.readouterr().out


@pytest.mark.parametrize(("value", "kind"), [(3, "no_text"), (None, "null_sentence"), (" ", "empty_sentence")])
def test_a_bad_sentence_is_counted_and_left_out(
    karpathy_source: Any, tmp_path: Path, value: Any, kind: str, capsys: Any
) -> None:
    change_captions(karpathy_source, lambda images: images[0]["sentences"][0].update(raw=value))
    main(Settings(karpathy_source.json, karpathy_source.images, tmp_path / "data"))
    assert len(load_dataset(tmp_path / "data").images[0].sentences) == 1
    assert read_json(tmp_path / "data" / "dataset.json")["skipped"] == {kind: 1}
    assert "left out 1 of 12 sentences: " in capsys.readouterr().out


def test_a_sentence_id_that_stands_twice_gets_a_number(karpathy_source: Any, tmp_path: Path, capsys: Any) -> None:
    def change(images: list[dict[str, Any]]) -> None:
        images[3]["sentences"][0].update(sentid=100)
        images[4]["sentences"][0].update(sentid="100-2")

    change_captions(karpathy_source, change)
    main(Settings(karpathy_source.json, karpathy_source.images, tmp_path / "data"))
    images = load_dataset(tmp_path / "data").images
    assert images[0].sentences[0].sentence_id == "100"
    assert images[3].sentences[0].sentence_id == "100-3"
    assert images[4].sentences[0].sentence_id == "100-2"
    assert "note: 1 sentence ids" in capsys.readouterr().out


@pytest.mark.parametrize("change", [list.clear, lambda images: [image.pop("split") for image in images]])
def test_captions_without_a_usable_image_are_refused(
    karpathy_source: Any, tmp_path: Path, change: Callable[[Any], Any]
) -> None:
    change_captions(karpathy_source, change)
    assert f"{karpathy_source.json} holds no images" in refusal(karpathy_source, tmp_path / "data")


def test_malformed_json_names_its_line(karpathy_source: Any, tmp_path: Path) -> None:
    karpathy_source.json.write_text('{"images": [\n{"filename": "a.jpg",}\n]}')
    said = refusal(karpathy_source, tmp_path / "data")
    assert said.startswith(f"{karpathy_source.json}, line 2, column 2")
    assert ": not valid JSON (" in said


def test_images_that_are_not_there_are_counted_and_named(karpathy_source: Any, tmp_path: Path) -> None:
    files = sorted((karpathy_source.images / "val2014").iterdir())
    for file in files[:5]:
        file.unlink()
    names = ", ".join(file.name for file in files[:5])
    assert refusal(karpathy_source, tmp_path / "data") == (
        f"5 of the 6 images of dataset_tiny.json and the images of {karpathy_source.images} are missing, "
        f"the first: {names}; put them there, or leave them out with --skip-missing"
    )
    main(Settings(karpathy_source.json, karpathy_source.images, tmp_path / "data", skip_missing=True))
    assert [image.source_file for image in load_dataset(tmp_path / "data").images] == [files[5].name]
    assert read_json(tmp_path / "data" / "dataset.json")["skipped"] == {"missing": 5}
    files[5].unlink()
    assert "none of the 6 images of" in refusal(karpathy_source, tmp_path / "more", skip_missing=True)


@pytest.mark.parametrize("name", ["coco", "flickr30k", "flickr8k"])
def test_the_real_layouts_give_the_published_counts(tmp_path: Path, name: str) -> None:
    """Entries as the real files have them, all of them; their images are one file."""
    published = dict(zip(SPLITS, PUBLISHED[name], strict=True))
    assert sum(published.values()) == {"coco": 123_287, "flickr30k": 31_014, "flickr8k": 8_000}[name]
    captions = tmp_path / f"dataset_{name}.json"
    captions.write_text(json.dumps({"images": list(real_entries(name)), "dataset": name}))
    about: dict[str, Any] = {}
    found: Counter[str] = Counter()
    folders = set()
    settings = Settings(captions, tmp_path, tmp_path / "data")
    for image in from_karpathy._source_images(settings, about, set(), Keys()):
        found[image.split] += 1
        folders.add(image.path.parent if name == "coco" else "")
    assert found == published
    assert about == {"dataset": name}
    assert len(folders) == {"coco": 2, "flickr30k": 1, "flickr8k": 1}[name]
    in_the_paper = (
        "the paper counts 29,783/1,000/1,000 images of flickr30k in train/val/test, "
        "Karpathy's file has 29,000/1,014/1,000"
    )
    assert count_notes(name, found) == ([in_the_paper] if name == "flickr30k" else [])


def real_entries(name: str) -> Iterator[dict[str, Any]]:
    """The entries of the three files, shortened to one word a sentence; COCO's train is in two folders."""
    splits = {
        "coco": [("train", 82_783), ("restval", 30_504), ("val", 5_000), ("test", 5_000)],
        "flickr30k": [("train", 29_000), ("val", 1_014), ("test", 1_000)],
        "flickr8k": [("train", 6_000), ("val", 1_000), ("test", 1_000)],
    }[name]
    number = 0
    for split, count in splits:
        for _ in range(count):
            part = "train2014" if split == "train" else "val2014"
            filename = f"COCO_{part}_{number:012d}.jpg" if name == "coco" else f"1{number:08d}.jpg"
            entry: dict[str, Any] = {"sentids": [number], "imgid": number, "split": split, "filename": filename}
            entry["sentences"] = [{"tokens": ["dog"], "raw": "Dog.", "imgid": number, "sentid": number}]
            if name == "coco":
                entry |= {"filepath": part, "cocoid": number}
            yield entry
            number += 1


def test_another_number_of_images_is_remarked(karpathy_source: Any, tmp_path: Path, capsys: Any) -> None:
    document = json.loads(karpathy_source.json.read_text())
    karpathy_source.json.write_text(json.dumps({**document, "dataset": "flickr8k"}))
    main(Settings(karpathy_source.json, karpathy_source.images, tmp_path / "data"))
    note = (
        "this flickr8k file has 3/1/2 images in train/val/test, Karpathy's has 6,000/1,000/1,000: "
        "scores cannot be compared with published ones"
    )
    assert read_json(tmp_path / "data" / "dataset.json")["notes"] == [note]
    assert f"note: {note}\n" in capsys.readouterr().out


def test_the_two_folders_of_coco(karpathy_source: Any, tmp_path: Path) -> None:
    """One name may be in both folders, and is two images."""
    (karpathy_source.images / "train2014").mkdir()
    first = "COCO_val2014_000000000000.jpg"
    shutil.copy(karpathy_source.images / "val2014" / first, karpathy_source.images / "train2014" / first)
    change_captions(
        karpathy_source,
        lambda images: images.append({**images[0], "filepath": "train2014", "imgid": 99, "sentences": [{"raw": "x"}]}),
    )
    main(Settings(karpathy_source.json, karpathy_source.images, tmp_path / "data"))
    dataset = load_dataset(tmp_path / "data")
    assert len({dataset.image_path(image).resolve() for image in dataset.images}) == 7
    assert dataset.images[6].image_id == f"{dataset.images[0].image_id}-2"


def test_odd_sentences_have_an_outcome_each(karpathy_source: Any, tmp_path: Path, capsys: Any) -> None:
    odd = ["", "half \ud83d a pair", "word " * 2_000, "a \x07bell", "<img> of a dog <|im_end|>", "x" * 10_000]

    def say(images: list[dict[str, Any]]) -> None:
        images[0]["sentences"] = [{"raw": text} for text in odd]
        images[0]["sentences"][1]["sentid"] = "\udcff 1"

    change_captions(karpathy_source, say)
    main(Settings(karpathy_source.json, karpathy_source.images, tmp_path / "data"))
    sentences = load_dataset(tmp_path / "data").images[0].sentences
    texts = [sentence.text for sentence in sentences]
    assert texts[0] == "half \ufffd a pair"
    assert sentences[0].sentence_id == "\ufffd-1"
    assert texts[1] == ("word " * 400).strip()
    assert texts[2:4] == ["a bell", "<img> of a dog <|im_end|>"]
    assert texts[4] == "x" * 2_000
    about = read_json(tmp_path / "data" / "dataset.json")
    assert about["skipped"] == {"empty_sentence": 1}
    assert about["cleaned"] == {"no_text": 1, "cut": 2, "control": 1, "special": 1}
    assert "cleaned: 2 sentences cut to 2,000 characters\n" in capsys.readouterr().out
    harmless = load_prompts(special_tokens=["<img>", "<|im_end|>"]).render("identify_t2i", query=texts[3])
    assert "< img> of a dog < |im_end|>" in harmless


def test_other_files_are_refused(karpathy_source: Any, tmp_path: Path) -> None:
    karpathy_source.json.write_text('{"annotations": []}')
    assert refusal(karpathy_source, tmp_path / "data").endswith(
        "is not in the Karpathy layout: it has no list 'images'"
    )
    broken = tmp_path / "broken.json.gz"
    broken.write_bytes(gzip.compress(b'{"images": []}' * 99)[:-9])
    with pytest.raises(UserError, match=r"broken\.json\.gz cannot be read"):
        list(stream_captions(broken, {}))
    with pytest.raises(UserError, match=r"^there is no file nowhere\.json; check --json$"):
        list(stream_captions(Path("nowhere.json"), {}))


def test_no_readable_image_at_all_is_an_error(karpathy_source: Any, tmp_path: Path) -> None:
    for file in (karpathy_source.images / "val2014").iterdir():
        file.write_bytes(b"")
    assert refusal(karpathy_source, tmp_path / "data") == (
        f"none of the 6 images of dataset_tiny.json and the images of {karpathy_source.images} can be used: "
        "COCO_val2014_000000000000.jpg: the file is empty; check --images"
    )


def test_a_missing_image_folder_and_a_wrong_limit_are_named(karpathy_source: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^there is no folder of images nowhere; check --images$"):
        main(Settings(karpathy_source.json, Path("nowhere"), tmp_path / "data"))
    said = refusal(karpathy_source, tmp_path / "data", limit=0)
    assert said == "--limit must be 1 or more, found 0"


def test_a_limit_is_shared_out_over_the_splits(karpathy_source: Any, tmp_path: Path) -> None:
    main(Settings(karpathy_source.json, karpathy_source.images, tmp_path / "data", limit=3))
    dataset = load_dataset(tmp_path / "data")
    assert [len(dataset.split(name)) for name in SPLITS] == [1, 1, 1]


def test_a_full_disk_leaves_nothing(karpathy_source: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(*_: Any) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(shutil, "copyfile", fill)
    said = refusal(karpathy_source, tmp_path / "data", copy=True)
    assert said.startswith("no space left on the disk of ")
    assert said.endswith(": free some and run the same command again")


def test_a_second_run_is_done_and_another_request_is_refused(
    karpathy_source: Any, tmp_path: Path, run_module: Callable[..., CompletedProcess[str]]
) -> None:
    out = tmp_path / "data"
    arguments = ("--json", karpathy_source.json, "--images", karpathy_source.images, "--out", out)
    first = run_module("data_prep.from_karpathy", *arguments)
    assert (first.returncode, first.stdout) == (
        0,
        f"{out}: 6 images, 12 sentences\n"
        "  train       3 images        6 sentences\n"
        "  val         1 images        2 sentences\n"
        "  test        2 images        4 sentences\n"
        "left out 0 of 6 images\n"
        f"next: python -m data_prep.check {out}\n",
    )
    again = run_module("data_prep.from_karpathy", *arguments)
    assert again.returncode == 0
    assert again.stdout.startswith(f"{out} is already made: 6 images, 12 sentences\n")
    other = run_module("data_prep.from_karpathy", *arguments, "--limit", 2)
    assert (other.returncode, other.stdout) == (2, "")
    assert other.stderr == (
        f"error: {out} already holds another dataset; choose another --out, or delete {out} first\n"
    )


def test_a_folder_with_other_content_is_left_alone(karpathy_source: Any, tmp_path: Path) -> None:
    out = tmp_path / "data"
    out.mkdir()
    (out / "diary.txt").write_text("mine")
    with pytest.raises(UserError, match=r"is not empty and is no dataset; choose another --out$"):
        main(Settings(karpathy_source.json, karpathy_source.images, out))
    assert (out / "diary.txt").read_text() == "mine"


def test_the_real_photographs_are_imported(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "coco_cc_photos"
    main(Settings(source / "dataset_coco_cc_photos.json", source / "images", tmp_path / "data"))
    dataset = load_dataset(tmp_path / "data")
    assert [len(dataset.split(name)) for name in SPLITS] == [21, 5, 25]
    assert sum(len(image.sentences) for image in dataset.images) == 255
    assert "Attribution" in read_json(tmp_path / "data" / "dataset.json")["licence"]


def test_the_real_captions_are_read(shared_data: Path) -> None:
    about: dict[str, Any] = {}
    entries = list(stream_captions(shared_data / "dataset_coco_val2017_captions.json.gz", about))
    assert len(entries) == 5000
    assert sum(len(entry["sentences"]) for entry in entries) == 25014
    assert about.keys() >= {"dataset"}
