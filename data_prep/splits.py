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

    val_share: float = 0.1
    """Share of the images that becomes the val split, where nothing says so."""
    test_share: float = 0.1
    """Share of the images that becomes the test split, where nothing says so."""
    split_seed: int = 0
    """Seed of the drawing of splits."""

    def __post_init__(self) -> None:
        shares = (self.val_share, self.test_share)
        if not all(0 <= share < 1 for share in shares) or sum(shares) >= 1:
            raise UserError(
                "--val-share and --test-share are shares of at least 0 that leave something to train on, "
                f"found {self.val_share} and {self.test_share}"
            )


def draw_splits(names: Sequence[str], settings: SplitSettings) -> dict[str, str]:
    """Return name -> split, drawn at random in exactly the fractions of the settings."""
    shuffled = list(names)
    random.Random(settings.split_seed).shuffle(shuffled)
    num_val, num_test = round(settings.val_share * len(names)), round(settings.test_share * len(names))
    splits = dict.fromkeys(names, "train")
    splits.update(dict.fromkeys(shuffled[:num_val], "val"))
    splits.update(dict.fromkeys(shuffled[num_val : num_val + num_test], "test"))
    return splits
