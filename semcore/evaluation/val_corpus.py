"""Val's corpus, filled with training items to the size of the measured one, so that what is fitted on val holds there.

Weights, calibration and thresholds are fitted on val's queries. Among more items there are more hard negatives, so that
what is fitted in a smaller corpus gives too high probabilities. Training items answer no query of val; that their
identifiers were trained on makes them likelier than unseen ones.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from semcore.data.dataset import Dataset
from semcore.data.directions import Direction
from semcore.data.items_and_queries import Item, read_items
from semcore.data.run_folder import RunFolder
from semcore.retrieval.batch import SplitKey, SplitView


def filled_val_views(
    run: RunFolder, dataset: Dataset, val: Mapping[SplitKey, SplitView], sizes: Mapping[Direction, int], seed: int = 0
) -> dict[SplitKey, SplitView]:
    """Return views of val with training items besides, drawn image by image.

    Args:
        run: holds the identifiers.
        dataset: holds the images and sentences.
        val: the views of val.
        sizes: direction -> items of the measured split; a corpus of val that has as many stays as it is.
        seed: of the draw; both directions take the same images first.
    """
    return {
        key: SplitView(
            {**view.items, **_drawn(read_items(run, dataset, key.direction, "train"), missing, seed)}, view.queries
        )
        if (missing := sizes.get(key.direction, 0) - len(view.items)) > 0
        else view
        for key, view in val.items()
    }


def num_items_by_split(dataset: Dataset, views: Mapping[SplitKey, SplitView]) -> dict[str, dict[str, int]]:
    """Return direction -> how many items of val's corpus are of "val", and how many of "train"."""
    of_val = {record.image_id for record in dataset.split("val")}
    counts = {}
    for key, view in views.items():
        if key.split == "val":
            own = sum(item.image_id in of_val for item in view.items.values())
            counts[str(key.direction)] = {"val": own, "train": len(view.items) - own}
    return counts


def _drawn(items: Sequence[Item], most: int, seed: int) -> dict[str, Item]:
    """Return `most` items, at most, of images in random order."""
    images = sorted({item.image_id for item in items})
    random.Random(seed).shuffle(images)
    place = {image_id: number for number, image_id in enumerate(images)}
    chosen = sorted(items, key=lambda item: place[item.image_id])[:most]
    return {item.item_id: item for item in chosen}
