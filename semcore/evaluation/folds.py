"""Folds of a test split, as for MSCOCO's 1k scores: the mean over five folds of a thousand images.

Each fold is searched separately, with its own items and queries.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import fmean

from semcore.runtime.errors import UserError


def assign_folds(image_ids: Sequence[str], num_folds: int) -> list[list[str]]:
    """Divide the images into consecutive folds whose sizes differ by one at most, as the field does.

    >>> assign_folds(["a", "b", "c", "d", "e"], 2)
    [['a', 'b'], ['c', 'd', 'e']]

    Raises:
        UserError: There are fewer images than folds.
    """
    if num_folds > len(image_ids):
        raise UserError(f"--folds {num_folds} is more than the {len(image_ids)} images of the split; choose fewer")
    bounds = [number * len(image_ids) // num_folds for number in range(num_folds + 1)]
    return [list(image_ids[start:end]) for start, end in pairwise(bounds)]


def mean_metrics(folds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of each score over the folds; "num_queries" and "num_items" are those of a fold, on average.

    >>> mean_metrics([{"R@1": 50.0, "num_items": 10}, {"R@1": 100.0, "num_items": 10}])
    {'R@1': 75.0, 'num_items': 10.0}

    Raises:
        ValueError: There is no fold, or folds have different scores.
    """
    if not folds or any(fold.keys() != folds[0].keys() for fold in folds):
        raise ValueError("every fold needs the same scores")
    return {name: fmean(fold[name] for fold in folds) for name in folds[0]}
