"""Splits of images: named by the source, or drawn at random."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from semcore.runtime.errors import UserError

# What sources call their splits. Karpathy's restval is used for training by everyone.
SPLIT_NAMES = {
    "train": "train", "training": "train", "restval": "train", "val": "val", "valid": "val", "validation": "val",
    "dev": "val", "test": "test", "testing": "test",
}  # fmt: skip


@dataclass(kw_only=True)
class SplitSettings:
    """How splits are drawn where the source does not say them."""

    val_fraction: float = 0.1
    """Fraction of the images that becomes the val split, where nothing says so."""
    test_fraction: float = 0.1
    """Fraction of the images that becomes the test split, where nothing says so."""
    split_seed: int = 0
    """Seed of the drawing of splits."""

    def __post_init__(self) -> None:
        fractions = (self.val_fraction, self.test_fraction)
        if not all(0 <= fraction < 1 for fraction in fractions) or sum(fractions) >= 1:
            raise UserError(
                "--val-fraction and --test-fraction are fractions of at least 0 that leave something to train on, "
                f"found {self.val_fraction} and {self.test_fraction}"
            )


def draw_splits(names: Sequence[str], settings: SplitSettings) -> dict[str, str]:
    """Return name -> split, drawn by lot in exactly the fractions of the settings."""
    shuffled = list(names)
    random.Random(settings.split_seed).shuffle(shuffled)
    num_val, num_test = round(settings.val_fraction * len(names)), round(settings.test_fraction * len(names))
    splits = dict.fromkeys(names, "train")
    splits.update(dict.fromkeys(shuffled[:num_val], "val"))
    splits.update(dict.fromkeys(shuffled[num_val : num_val + num_test], "test"))
    return splits
