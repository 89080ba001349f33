"""Val's corpus: its own items, and as many training items as the measured split has more."""

from __future__ import annotations

from semcore.data.dataset import load_dataset
from semcore.data.directions import Direction
from semcore.data.run_folder import RunFolder
from semcore.evaluation.val_corpus import filled_val_views, num_items_by_split
from semcore.retrieval.batch import read_split_views
from tests.run_fixtures import SearchableRun

MEASURED = {Direction.T2I: 6, Direction.I2T: 28}


def test_val_is_filled_with_training_items_to_the_measured_size(finished_training: SearchableRun) -> None:
    run, dataset = RunFolder(finished_training.run), load_dataset(finished_training.data)
    val = read_split_views(run, dataset, "val")
    found = filled_val_views(run, dataset, val, MEASURED)
    split_of = {record.image_id: record.split for record in dataset.images}
    added = {}
    for key, view in found.items():
        own = val[key]
        assert len(view.items) == MEASURED[key.direction] > len(own.items)
        assert list(view.items)[: len(own.items)] == list(own.items) and view.queries == own.queries
        new = [item for item_id, item in view.items.items() if item_id not in own.items]
        assert {split_of[item.image_id] for item in new} == {"train"}
        assert not {item.item_id for item in new} & set().union(*view.queries.relevant.values())
        added[key.direction] = {item.image_id for item in new}
    assert added[Direction.T2I] == added[Direction.I2T], "both directions take the same images"
    assert num_items_by_split(dataset, found) == {"t2i": {"val": 4, "train": 2}, "i2t": {"val": 20, "train": 8}}
    assert filled_val_views(run, dataset, val, MEASURED) == found, "one seed, one draw"
    assert filled_val_views(run, dataset, val, MEASURED, seed=1) != found


def test_a_corpus_that_is_large_enough_stays_and_one_that_cannot_be_filled_takes_all(
    finished_training: SearchableRun,
) -> None:
    run, dataset = RunFolder(finished_training.run), load_dataset(finished_training.data)
    val = read_split_views(run, dataset, "val")
    assert filled_val_views(run, dataset, val, {Direction.T2I: 4, Direction.I2T: 3}) == val
    [images, _] = filled_val_views(run, dataset, val, {Direction.T2I: 100}).values()
    assert len(images.items) == 4 + 12


def test_views_of_other_splits_are_not_counted(finished_training: SearchableRun) -> None:
    run, dataset = RunFolder(finished_training.run), load_dataset(finished_training.data)
    views = read_split_views(run, dataset, "val", directions=[Direction.T2I]) | read_split_views(run, dataset, "test")
    assert num_items_by_split(dataset, views) == {"t2i": {"val": 4, "train": 0}}
