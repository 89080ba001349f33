"""A corpus changes whole or not at all, while others search it, and no identifier that is there ever changes."""

from __future__ import annotations

import os
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from semcore import Retriever
from semcore.data import added_pictures
from semcore.data.corpus_changes import ADDED, CHANGES, FOLDER, IMAGES, changing, read_changes
from semcore.data.dataset import load_dataset
from semcore.data.directions import Direction
from semcore.data.new_images import NewImage
from semcore.data.run_folder import RunFolder
from semcore.models.visual_features import FeatureStore
from semcore.retrieval import corpus as corpus_module
from semcore.retrieval import corpus_updates
from semcore.retrieval.corpus import build_corpus, corpus_key, searched_items
from semcore.retrieval.corpus_updates import add_images, remove_items
from semcore.retrieval.item_maker import ItemMaker
from semcore.retrieval.prior_settings import PriorSettings, write_prior_settings
from semcore.retrieval.priors import Priors, PriorSample
from semcore.retrieval.saved_index import index_folder
from semcore.runtime.errors import UserError
from semcore.runtime.files import read_jsonl
from tests.growing_runs import draw
from tests.run_fixtures import SearchableRun

CPU: Any = {"dtype": "float32", "device": "cpu", "verifier": "none"}


def searched(run: Path, direction: Direction = Direction.T2I, split: str | None = None) -> dict[str, str]:
    folder = RunFolder(run)
    dataset = load_dataset(folder.data_folder())
    items = searched_items(folder, dataset, direction, split, read_changes(folder))
    return {item.item_id: item.identifier for item in items}


def found(retriever: Retriever, text: str = "a red circle") -> list[tuple[str, float]]:
    return [(hit.item_id, hit.score) for hit in retriever.search(text=text, top_k=30)]


def test_what_is_added_is_found_by_who_opens_the_run_later(
    growing_run: SearchableRun, maker: ItemMaker, new_images: list[NewImage]
) -> None:
    reader = Retriever.from_run(growing_run.run, **CPU)
    before, old = found(reader), {direction: searched(growing_run.run, direction) for direction in Direction}
    done = add_images(maker, new_images)
    assert [own.image_id for own in done.added] == ["new-0", "new-1", "new-2"] and done.number == 1
    assert found(reader) == before
    for later in (Retriever.from_run(growing_run.run, **CPU), reader.refreshed()):
        hits = later.search(text="a red circle", top_k=30)
        assert {hit.item_id for hit in hits} == {*old[Direction.T2I], "new-0", "new-1", "new-2"}
        assert all(hit.image_path is not None and hit.image_path.is_file() for hit in hits)
        sentences = {hit.item_id: hit.text for hit in later.search(image=new_images[0].picture, top_k=100)}
        assert sentences["new-0-1"] == "a ring, and it is red" and "new-1-0" in sentences
    for direction in Direction:
        now = searched(growing_run.run, direction)
        assert {item_id: now[item_id] for item_id in old[direction]} == old[direction]
        assert searched(growing_run.run, direction, "test") == {
            item_id: text
            for item_id, text in old[direction].items()
            if item_id in searched_split(growing_run, direction)
        }


def searched_split(run: SearchableRun, direction: Direction) -> set[str]:
    rows = read_jsonl(run.run / "identifiers" / f"{direction}.jsonl")
    return {row["item_id"] for row in rows if row["split"] == "test"}


def test_an_added_item_has_the_identifier_that_it_would_have_in_another_split(
    growing_run: SearchableRun, maker: ItemMaker
) -> None:
    """The items of val and test, added under new ids, get the identifiers that `data_prep.identifiers` gave them."""
    dataset = load_dataset(growing_run.data)
    held = [record for record in dataset.images if record.split != "train"]
    images = [
        NewImage(f"again-{n}", dataset.image_path(own), tuple(s.text for s in own.sentences), own.sentences[0].text)
        for n, own in enumerate(held)
    ]
    added = add_images(maker, images).added
    for direction in Direction:
        rows = {row["item_id"]: row for row in read_jsonl(growing_run.run / "identifiers" / f"{direction}.jsonl")}
        for record, own in zip(held, added, strict=True):
            if direction.items_are_images:
                assert own.row == {**rows[record.image_id], "item_id": own.image_id, "split": ADDED}
            else:
                expected = [rows[sentence.sentence_id]["identifier"] for sentence in record.sentences]
                assert [row["identifier"] for row in own.sentence_rows] == expected


@pytest.mark.parametrize("change", ["addition", "removal"])
def test_the_saved_index_is_that_of_a_run_built_anew(
    growing_run: SearchableRun, maker: ItemMaker, new_images: list[NewImage], change: str, monkeypatch: Any
) -> None:
    for direction in Direction:
        Retriever.from_run(growing_run.run, **CPU)._corpus(direction)  # saves the index
    built: list[int] = []
    build = corpus_module._build_index
    monkeypatch.setattr(corpus_module, "_build_index", lambda *given: [built.append(1), build(*given)][1])  # type: ignore[func-returns-value]
    if change == "addition":
        add_images(maker, new_images)
    else:
        remove_items(maker, list(searched(growing_run.run))[3:5])
    reader = Retriever.from_run(growing_run.run, **CPU)
    saved = reader._corpus(Direction.T2I).index
    assert built == []
    items = list(reader._corpus(Direction.T2I).items.values())
    anew = build_corpus(maker.generator, Direction.T2I, items).index
    assert sorted(saved.sequences()) == sorted(anew.sequences())
    assert {s: saved.items(s) for s in saved.sequences()} == {s: anew.items(s) for s in anew.sequences()}
    assert index_folder(RunFolder(growing_run.run), corpus_key(maker.generator, Direction.T2I, items)).is_dir()


def test_a_random_history_leaves_the_items_that_it_should(
    growing_run: SearchableRun, maker: ItemMaker, tmp_path: Path
) -> None:

    rng, reader = random.Random(0), Retriever.from_run(growing_run.run, **CPU)
    expected = searched(growing_run.run)
    for step in range(8):
        if step % 2 == 0:
            images = [
                NewImage(
                    f"s{step}-{n}", draw(tmp_path / f"s{step}-{n}.png", n + step), (f"a {n} thing",), f"a {word} thing"
                )
                for n, word in enumerate(rng.choices(("red", "blue", "round", "tiny"), k=3))
            ]
            expected |= {own.image_id: own.row["identifier"] for own in add_images(maker, images).added}
        else:
            gone = rng.sample(sorted(expected), 3)
            remove_items(maker, gone)
            expected = {item_id: text for item_id, text in expected.items() if item_id not in gone}
        assert searched(growing_run.run) == expected
        reader = reader.refreshed()
        index = reader._corpus(Direction.T2I).index
        assert {i for s in index.sequences() for i in index.items(s)} == set(expected)
    assert read_changes(RunFolder(growing_run.run)).number == 8


def test_the_captioner_of_the_run_writes_what_is_not_given(
    growing_run: SearchableRun, maker: ItemMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = NewImage("bytes", draw(tmp_path / "a.png", 4).read_bytes())
    done = add_images(maker, [read, NewImage("text", b"no picture"), NewImage("gone", tmp_path / "gone.png")])
    assert done.left_out["text"] == "not a picture in a known format"
    assert done.left_out["gone"] == "there is no such file"
    if done.added:  # random weights may write nothing
        assert done.added[0].caption and done.added[0].file_name.endswith(".png")
    else:
        assert "captioner's answer is" in done.left_out["bytes"]
    store = FeatureStore(maker.captioner.checkpoint, {"bytes": tmp_path / "a.png"}, growing_run.run / "features")
    store._hash(["bytes"])
    assert "bytes" in store


def test_an_identifiers_prior_is_known_before_the_first_search(
    growing_run: SearchableRun, maker: ItemMaker, new_images: list[NewImage]
) -> None:
    run = RunFolder(growing_run.run)
    write_prior_settings(run / "prior.json", PriorSettings({"t2i": 0.5}, "fit", num_queries=3))
    added = add_images(maker, new_images).added
    priors = Priors.open(maker.generator, Direction.T2I, PriorSample(3, 0), run, maker.dataset)
    assert priors.missing(own.row["identifier"] for own in added) == []
    assert not (set(priors.values) - {own.row["identifier"] for own in added})


def test_the_same_addition_again_adds_nothing(maker: ItemMaker, new_images: list[NewImage]) -> None:
    add_images(maker, new_images[:2])
    done = add_images(maker, new_images)
    assert done.already == ["new-0", "new-1"] and [own.image_id for own in done.added] == ["new-2"]
    assert add_images(maker, new_images).number == 2


@pytest.mark.parametrize("moment", ["write_addition", "_update_index", "place_picture"])
def test_a_killed_addition_is_done_whole_the_next_time(
    growing_run: SearchableRun, maker: ItemMaker, new_images: list[NewImage], moment: str, monkeypatch: Any
) -> None:
    before = searched(growing_run.run)
    real = getattr(corpus_updates, moment)

    def kill(*given: Any) -> None:
        if moment == "place_picture" and given[1] == "new-0":
            return real(*given)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(corpus_updates, moment, kill)
        with pytest.raises(KeyboardInterrupt):
            add_images(maker, new_images)
    done = moment == "_update_index"  # the change has taken effect
    assert searched(growing_run.run).keys() == before.keys() | ({"new-0", "new-1", "new-2"} if done else set())
    add_images(maker, new_images)
    assert len(searched(growing_run.run)) == len(before) + 3
    assert "new-0" in dict(found(Retriever.from_run(growing_run.run, **CPU)))


@pytest.mark.parametrize("change", ["addition", "removal"])
def test_a_change_whose_index_a_kill_prevented_gets_it_the_next_time(
    growing_run: SearchableRun, maker: ItemMaker, new_images: list[NewImage], change: str, monkeypatch: Any
) -> None:
    gone = list(searched(growing_run.run))[3:5]

    def do() -> int:
        return add_images(maker, new_images).number if change == "addition" else remove_items(maker, gone)

    def kill(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(corpus_updates, "_update_index", kill)
        with pytest.raises(KeyboardInterrupt):
            do()
    assert do() == 1
    for direction in Direction:
        run, dataset = RunFolder(growing_run.run), maker.dataset
        items = searched_items(run, dataset, direction, None, read_changes(run))
        folder = index_folder(run, corpus_key(maker.generator, direction, items))
        assert folder.is_dir(), direction
        written = folder.stat().st_mtime_ns
        assert do() == 1 and folder.stat().st_mtime_ns == written  # it is written once


def test_what_was_removed_before_stays_removed(growing_run: SearchableRun, maker: ItemMaker) -> None:
    first, second, *_ = searched(growing_run.run)
    assert remove_items(maker, [first]) == 1
    assert remove_items(maker, [first]) == 1
    assert remove_items(maker, [second, first]) == 2
    assert not {first, second} & searched(growing_run.run).keys()
    with pytest.raises(UserError, match="'never' is no item of .*'s corpus; nothing was removed"):
        remove_items(maker, [first, "never"])


def test_half_a_line_is_no_change_and_the_next_one_replaces_it(
    growing_run: SearchableRun, maker: ItemMaker, new_images: list[NewImage]
) -> None:
    add_images(maker, new_images[:1])
    path = growing_run.run / FOLDER / CHANGES
    whole = path.read_bytes()
    for length in (1, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole + whole[:length])
        assert read_changes(RunFolder(growing_run.run)).number == 1
    add_images(maker, new_images[1:])
    assert path.read_bytes().startswith(whole) and path.read_bytes().count(b"\n") == 2
    assert list(read_changes(RunFolder(growing_run.run)).added) == ["new-0", "new-1", "new-2"]


def test_an_image_goes_with_its_sentences(
    growing_run: SearchableRun, maker: ItemMaker, new_images: list[NewImage]
) -> None:
    add_images(maker, new_images)
    record = load_dataset(growing_run.data).images[0]
    reader = Retriever.from_run(growing_run.run, **CPU)
    before = found(reader)
    remove_items(maker, [record.image_id, "new-0", "new-1-0"])
    images, sentences = (searched(growing_run.run, direction) for direction in Direction)
    assert not {record.image_id, "new-0"} & images.keys() and "new-1" in images
    assert not {*(own.sentence_id for own in record.sentences), "new-0-0", "new-0-1", "new-1-0"} & sentences.keys()
    assert found(reader) == before
    assert not {record.image_id, "new-0"} & dict(found(reader.refreshed())).keys()
    assert Retriever.from_run(growing_run.run, split="train", **CPU).search(text="a red circle", top_k=30)
    assert record.image_id not in searched(growing_run.run, split=record.split)


def test_a_removed_id_may_be_another_image(growing_run: SearchableRun, maker: ItemMaker, tmp_path: Path) -> None:
    image_id = next(iter(searched(growing_run.run)))
    other = NewImage(image_id, draw(tmp_path / "other.png", 7), ("a disc",), "a disc on white")
    with pytest.raises(UserError, match="another image with the id"):
        add_images(maker, [other])
    remove_items(maker, [image_id])
    add_images(maker, [other])
    [hit] = [h for h in Retriever.from_run(growing_run.run, **CPU).search(text="x", top_k=30) if h.item_id == image_id]
    assert hit.image_path is not None and hit.image_path.read_bytes() == (tmp_path / "other.png").read_bytes()


def test_pictures_that_nobody_shows_are_deleted_after_an_hour(
    growing_run: SearchableRun, maker: ItemMaker, new_images: list[NewImage], monkeypatch: pytest.MonkeyPatch
) -> None:
    add_images(maker, new_images)
    remove_items(maker, ["new-0"])
    folder = growing_run.run / FOLDER / IMAGES
    (folder / "left-by-a-kill.png").write_bytes(b"")
    remove_items(maker, ["new-1"])
    assert len(list(folder.iterdir())) == 4
    monkeypatch.setattr(added_pictures, "ABANDONED_S", -1)
    run = RunFolder(growing_run.run)
    added_pictures.remove_abandoned(run, read_changes(run))
    assert [path.name[:5] for path in folder.iterdir()] == ["new-2"]


def test_one_change_at_a_time(growing_run: SearchableRun, maker: ItemMaker, new_images: list[NewImage]) -> None:
    with changing(RunFolder(growing_run.run)), pytest.raises(UserError, match=f"process {os.getpid()} is working on"):
        add_images(maker, new_images)
    assert add_images(maker, new_images).number == 1


def test_identifiers_that_were_made_again_void_what_was_added(
    growing_run: SearchableRun, maker: ItemMaker, new_images: list[NewImage]
) -> None:
    add_images(maker, new_images)
    path = growing_run.run / "identifiers" / "clusters.safetensors"
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(UserError, match=f"the identifiers of {growing_run.run} were made again since"):
        Retriever.from_run(growing_run.run, **CPU)


@pytest.mark.parametrize(
    ("ids", "sentence"),
    [
        (["new-9"], "'new-9' is no item of RUN's corpus; nothing was removed"),
        (["a", "b", "c"], "'a' is no item of RUN's corpus, and 2 more are not; nothing was removed"),
        (None, "removing these would leave no images to search in RUN; nothing was removed"),
    ],
)
def test_a_removal_that_cannot_be_changes_nothing(
    growing_run: SearchableRun, maker: ItemMaker, ids: list[str] | None, sentence: str
) -> None:
    with pytest.raises(UserError) as refused:
        remove_items(maker, list(searched(growing_run.run)) if ids is None else ids)
    assert str(refused.value) == sentence.replace("RUN", str(growing_run.run))
    assert read_changes(RunFolder(growing_run.run)).number == 0


@pytest.mark.parametrize(
    ("image_ids", "sentence"),
    [
        (["../up"], "image id '../up' is not safe as a file name; 'up' would be"),
        (["one", "one"], "image id 'one' is given 2 times; give every image its own"),
    ],
)
def test_ids_are_checked_before_anything_is_done(
    growing_run: SearchableRun, maker: ItemMaker, tmp_path: Path, image_ids: list[str], sentence: str
) -> None:
    with pytest.raises(UserError) as refused:
        add_images(maker, [NewImage(image_id, draw(tmp_path / "a.png", 1)) for image_id in image_ids])
    assert str(refused.value) == sentence
    assert not (growing_run.run / FOLDER / IMAGES).exists()


def test_captions_that_a_server_wrote_have_to_be_given(
    growing_run: SearchableRun, maker: ItemMaker, new_images: list[NewImage]
) -> None:
    run = RunFolder(growing_run.run)
    manifest = run.manifest()
    manifest["stages"]["caption"]["settings"]["served"] = True
    run._write_manifest(manifest)
    with pytest.raises(UserError, match="give each of them with its caption"):
        add_images(maker, [replace(new_images[0], caption="")])
    assert len(add_images(ItemMaker.open(run.path, dtype="float32", device="cpu"), new_images).added) == 3


def test_numbers_for_keywords_say_nothing_of_a_new_image(
    growing_run: SearchableRun, maker: ItemMaker, new_images: list[NewImage]
) -> None:
    run = RunFolder(growing_run.run)
    manifest = run.manifest()
    manifest["stages"]["identifiers"]["settings"]["scheme"] = "numeric"
    run._write_manifest(manifest)
    with pytest.raises(UserError, match="are of the scheme 'numeric', which has none for items that come later"):
        add_images(maker, new_images)
