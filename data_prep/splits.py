"""Which split a picture belongs to: by the name a source uses, or by lot."""

from __future__ import annotations

import random
from collections.abc import Sequence

from semcore.errors import UserError

# What sources call their splits. Karpathy's restval is used for training by everyone.
SPLIT_NAMES = {
    "train": "train", "training": "train", "restval": "train", "val": "val", "valid": "val", "validation": "val",
    "dev": "val", "test": "test", "testing": "test",
}  # fmt: skip


def check_shares(val_share: float, test_share: float) -> None:
    """Raise a `UserError` unless both are shares that leave something to train on."""
    if not all(0 <= share < 1 for share in (val_share, test_share)) or val_share + test_share >= 1:
        raise UserError(
            "--val-share and --test-share are shares of at least 0 that leave something to train on, "
            f"found {val_share} and {test_share}"
        )


def draw_splits(names: Sequence[str], val_share: float, test_share: float, seed: int) -> dict[str, str]:
    """Return name -> split, drawn by lot in exactly these shares."""
    shuffled = list(names)
    random.Random(seed).shuffle(shuffled)
    num_val, num_test = round(val_share * len(names)), round(test_share * len(names))
    splits = dict.fromkeys(names, "train")
    splits.update(dict.fromkeys(shuffled[:num_val], "val"))
    splits.update(dict.fromkeys(shuffled[num_val : num_val + num_test], "test"))
    return splits
