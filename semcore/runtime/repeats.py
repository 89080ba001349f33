"""Duplicate keys of a stream, found by 64-bit hashes; a second pass tells which keys they are.

The hashes take eight bytes per key; a set would take sixty, and MSCOCO has 616,000 sentence ids.
"""

from __future__ import annotations

from array import array
from collections.abc import Hashable, Iterable
from typing import TypeVar

import numpy as np

K = TypeVar("K", bound=Hashable)
_FEW = 10_000


class Keys:
    """Counts keys without holding them."""

    def __init__(self) -> None:
        self._hashes = array("q")

    def add(self, key: Hashable) -> None:
        """Count a key."""
        self._hashes.append(hash(key))

    def repeated(self) -> set[int]:
        """Return the hashes that occur more than once; in theory a unique key may share one of them."""
        hashes = self._sorted()
        return set(hashes[1:][hashes[1:] == hashes[:-1]].tolist())

    def __contains__(self, key: Hashable) -> bool:
        hashes = self._sorted()
        place = int(np.searchsorted(hashes, hash(key)))
        return place < len(hashes) and int(hashes[place]) == hash(key)

    def _sorted(self) -> np.ndarray:
        hashes = np.frombuffer(self._hashes, dtype=np.int64) if self._hashes else np.empty(0, np.int64)
        if (hashes[1:] < hashes[:-1]).any():
            hashes.sort()  # in its place
        return hashes


class Used:
    """Keys that are used already, asked for and added in turn: the latest as they are, the others eight bytes each."""

    def __init__(self) -> None:
        self._latest: set[int] = set()
        self._sorted = np.empty(0, np.int64)

    def add(self, key: Hashable) -> None:
        """Note a key."""
        self._latest.add(hash(key))
        if len(self._latest) > max(_FEW, len(self._sorted) // 16):
            latest = np.fromiter(self._latest, np.int64, len(self._latest))
            self._sorted = np.sort(np.concatenate([self._sorted, latest]), kind="stable")
            self._latest.clear()

    def __contains__(self, key: Hashable) -> bool:
        wanted = hash(key)
        place = int(np.searchsorted(self._sorted, wanted))
        return wanted in self._latest or (place < len(self._sorted) and int(self._sorted[place]) == wanted)


class Repeats:
    """Finder of the second and later occurrences of keys with known duplicate hashes."""

    def __init__(self, hashes: set[int]) -> None:
        self._hashes = hashes
        self._met: dict[Hashable, str] = {}

    def owner(self, key: Hashable, own: str) -> str | None:
        """Return the name of this key's first owner; None for the first, which is remembered as `own`."""
        if hash(key) not in self._hashes:
            return None
        if key in self._met:
            return self._met[key]
        self._met[key] = own
        return None


def first_repeat(keys: Iterable[tuple[int, K]], hashes: set[int]) -> tuple[K, int, int] | None:
    """Return the first key that comes again, with its number and that of its first occurrence; None without one.

    Args:
        keys: (number, key) in their order; read only where hashes occur twice.
        hashes: from `Keys.repeated`.
    """
    seen: dict[K, int] = {}
    for number, key in keys if hashes else ():
        if key in seen:
            return key, number, seen[key]
        if hash(key) in hashes:
            seen[key] = number
    return None
