"""Subsets for `--limit N`: N in all, distributed over the splits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

from semcore.data.dataset import SPLITS, Dataset, ImageRecord

T = TypeVar("T")


def share_out(counts: Mapping[str, int], limit: int | None) -> dict[str, int]:
    """Return the size of each split's subset: in proportion, and at least one where the split has any.

    Where the limit is smaller than the number of splits, the first of them come first.

    >>> share_out({"train": 29000, "val": 1014, "test": 0}, 20)
    {'train': 19, 'val': 1, 'test': 0}
    >>> share_out({"train": 29000, "val": 1014, "test": 1000}, 1)
    {'train': 1, 'val': 0, 'test': 0}
    """
    total = sum(counts.values())
    if limit is None or limit >= total:
        return dict(counts)
    exact = {split: limit * count / total for split, count in counts.items()}
    shares = {split: min(count, max(1, int(exact[split]))) for split, count in counts.items()}
    while sum(shares.values()) > limit:
        shares[max(reversed(shares), key=lambda split: shares[split])] -= 1
    while sum(shares.values()) < limit:
        shares[max(shares, key=lambda split: exact[split] - shares[split])] += 1
    return shares


def first_images(dataset: Dataset, limit: int | None) -> Sequence[ImageRecord]:
    """Return all images of a dataset, or the first ones of each split within the limit."""
    if limit is None:
        return dataset.images
    splits = {split: dataset.split(split) for split in SPLITS}
    shares = share_out({split: len(records) for split, records in splits.items()}, limit)
    return [record for split, records in splits.items() for record in records[: shares[split]]]


def spread(items: Sequence[T], num_items: int) -> Iterator[T]:
    """Yield at most `num_items` of the items, evenly spread.

    >>> list(spread("abcdef", 3))
    ['a', 'c', 'e']
    """
    number = min(num_items, len(items))
    return (items[position * len(items) // number] for position in range(number))
