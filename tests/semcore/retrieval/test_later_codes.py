"""Images added to a run of codes: vectors of captions, of CLIP and of the model, and the corpus around them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from data_prep import identifiers
from semcore import Retriever
from semcore.data.corpus_changes import ADDED, read_changes
from semcore.data.dataset import ImageRecord, load_dataset
from semcore.data.directions import Direction
from semcore.data.identifier_files import IdentifierRow, read_identifiers
from semcore.data.identifier_tokens import read_tokens
from semcore.data.new_images import NewImage
from semcore.data.run_folder import RunFolder
from semcore.identifiers.code_settings import QuantizerSettings
from semcore.retrieval.corpus_updates import add_images, remove_items
from semcore.retrieval.item_maker import ItemMaker
from semcore.runtime.errors import UserError
from tests.growing_runs import count_letters
from tests.run_fixtures import SearchableRun, save

CPU: Any = {"dtype": "float32", "device": "cpu"}


def with_codes(searchable: SearchableRun, **options: Any) -> RunFolder:
    """Make the run's identifiers anew, and give its generator their tokens."""
    from semcore.models.checkpoint import load_checkpoint
    from semcore.models.identifier_tokens import add_identifier_tokens
    from semcore.models.lineage import made_from, write_lineage

    run, dataset = RunFolder(searchable.run), load_dataset(searchable.data)
    shutil.rmtree(run / "identifiers")
    settings = {"quantizer": QuantizerSettings(num_levels=2, num_codes=4), "coarse": 2, "branch": 2, "leaf": 3}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(identifiers, "load_encoder", lambda name, device: count_letters)
        identifiers.main(identifiers.Settings(run.path, device="cpu", **{**settings, **options}))
    generator = load_checkpoint(run / "identifier_model")
    add_identifier_tokens(generator, read_tokens(run / "identifiers"))
    save(generator, run / "identifier_model")
    some = [direction for direction in Direction if read_identifiers(run / "identifiers", direction)]
    write_lineage(run / "identifier_model", made_from(run, dataset, directions=some))
    return run


def held_out(searchable: SearchableRun) -> list[ImageRecord]:
    """Return the images that nothing was learnt of, in the order in which they were told apart."""
    dataset = load_dataset(searchable.data)
    return [*dataset.split("val"), *dataset.split("test")]


def added_again(searchable: SearchableRun, maker: ItemMaker) -> list[Any]:
    """Remove the held-out images and add them under other ids, in two additions."""
    held, dataset = held_out(searchable), load_dataset(searchable.data)
    remove_items(maker, [record.image_id for record in held])
    images = [
        NewImage(
            f"again-{n}", dataset.image_path(own), tuple(s.text for s in own.sentences), own.sentences[0].text
        )
        for n, own in enumerate(held)
    ]  # fmt: skip
    return [*add_images(maker, images[:3]).added, *add_images(maker, images[3:]).added]


def known_rows(run: RunFolder, direction: Direction) -> dict[str, IdentifierRow]:
    return {row["item_id"]: row for row in read_identifiers(run / "identifiers", direction)}


@pytest.mark.parametrize(
    "options",
    [
        {"scheme": "vokens", "collisions": "next", "modality_token": True},
        {"scheme": "hierarchical"},
        {"scheme": "caption"},
        {"scheme": "vokens", "vectors": "model", "vectors_pool": "flatten", "collisions": "count"},
        {"scheme": "coarse-fine", "vectors": "CLIP", "collisions": "count"},
        pytest.param({"scheme": "vokens", "vectors": "model", "per_item": 2}, marks=pytest.mark.slow),
        pytest.param({"scheme": "coarse-fine", "vectors": "CLIP", "per_item": 2}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_held_out_images_get_back_the_identifiers_that_they_had(
    growing_run: SearchableRun, tmp_path: Path, options: dict[str, Any]
) -> None:
    if options.get("vectors") == "CLIP":
        from tests.semcore.evaluation.test_dense_baselines import make_dual_encoder

        options = {**options, "vectors": str(make_dual_encoder("clip", tmp_path / "clip"))}
    run = with_codes(growing_run, **options)
    maker = ItemMaker.open(run.path, **CPU)
    held, added = held_out(growing_run), added_again(growing_run, maker)
    rows, of_sentences = known_rows(run, Direction.T2I), known_rows(run, Direction.I2T)
    assert bool(of_sentences) is (options.get("vectors") != "model")
    for record, own in zip(held, added, strict=True):
        assert own.row == {**rows[record.image_id], "item_id": own.image_id, "split": ADDED}
        expected = [of_sentences[said.sentence_id] for said in record.sentences if of_sentences]
        assert [row["identifier"] for row in own.sentence_rows] == [row["identifier"] for row in expected]
        assert len(own.sentences) == len(expected)
    hits = Retriever.from_run(run.path, verifier="none", **CPU).search(text="a red circle", top_k=30)
    train = {item_id for item_id, row in rows.items() if row["split"] == "train"}
    assert {hit.item_id for hit in hits} == train | {own.image_id for own in added}


def test_a_checkpoint_that_is_gone_or_another_is_named(growing_run: SearchableRun, tmp_path: Path) -> None:
    from tests.semcore.evaluation.test_dense_baselines import make_dual_encoder

    folder = make_dual_encoder("clip", tmp_path / "clip")
    run = with_codes(growing_run, scheme="vokens", vectors=str(folder))
    record = held_out(growing_run)[0]
    image = NewImage("new", load_dataset(growing_run.data).image_path(record), (), "a ring")
    settings = (folder / "config.json").read_text()
    (folder / "config.json").write_text(settings + " ")
    with pytest.raises(UserError) as refused:
        add_images(ItemMaker.open(run.path, **CPU), [image])
    assert str(refused.value) == (
        f"{folder} is not the checkpoint of the vectors that the identifiers of {run.path} were made with"
    )
    shutil.rmtree(folder)
    with pytest.raises(UserError) as refused:
        add_images(ItemMaker.open(run.path, **CPU), [image])
    assert str(refused.value) == (
        f"the checkpoint of the vectors of {run.path} is no longer at {folder}; put it back there"
    )
    assert read_changes(run).number == 0


def test_another_codebook_voids_what_was_added(growing_run: SearchableRun) -> None:
    run = with_codes(growing_run, scheme="vokens")
    added_again(growing_run, ItemMaker.open(run.path, **CPU))
    path = run / "identifiers" / "quantizer.safetensors"
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(UserError, match=f"the identifiers of {run.path} were made again since"):
        read_changes(run)
