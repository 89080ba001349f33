"""Keys that stand twice, found at eight bytes a key: their hashes are kept, and whose they are is read again."""

from __future__ import annotations

from array import array
from collections.abc import Hashable, Iterable
from typing import TypeVar

import numpy as np

K = TypeVar("K", bound=Hashable)
P = TypeVar("P")


class Keys:
    """Counts keys without holding them."""

    def __init__(self) -> None:
        self._hashes = array("q")

    def add(self, key: Hashable) -> None:
        """Count a key."""
        self._hashes.append(hash(key))

    def first_repeat(self, placed: Iterable[tuple[K, P]]) -> tuple[K, P, P] | None:
        """Return the first key that stands twice, its first place and its second; None where all differ.

        Args:
            placed: the keys once more, each with its place; read only where hashes are equal.
        """
        hashes = np.frombuffer(self._hashes, dtype=np.int64)
        hashes.sort()  # in its place
        suspects = set(hashes[1:][hashes[1:] == hashes[:-1]].tolist())
        if not suspects:
            return None
        first_at: dict[K, P] = {}
        for key, place in placed:
            if key in first_at:
                return key, first_at[key], place
            if hash(key) in suspects:
                first_at[key] = place
        return None
