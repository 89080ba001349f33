"""Postings: the item ids of each sequence, as one array of UTF-8 bytes.

Shapes: S sequences, N items.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semcore.decoding.token_sequences import BLOCK, FlatText, flatten_text, gather_ragged, offsets_of
from semcore.decoding.trie import smallest_ints


@dataclass
class Items:
    """The postings list of an index."""

    item_start: NDArray[Any]
    """Index of each sequence's first item, and the end of the last (S + 1,)."""
    text_start: NDArray[Any]
    """Start of each item's id in `text`, and the end of the last (N + 1,)."""
    text: NDArray[np.uint8]
    """Bytes of all ids (bytes,)."""

    @classmethod
    def sorted_by(cls, text: FlatText, order: NDArray[Any], item_start: NDArray[Any]) -> Items:
        """Sort ids by their sequences: item order (N,), offsets of the sequences (S + 1,)."""
        lengths = np.diff(text.offsets)[order]
        data = gather_ragged(text.data, text.offsets[:-1][order], lengths)
        return cls.packed(item_start, offsets_of(lengths), data)

    @classmethod
    def packed(cls, item_start: NDArray[Any], text_start: NDArray[Any], text: NDArray[np.uint8]) -> Items:
        """Store the offsets (S + 1,) and (N + 1,) in as few bytes as they need, four at least."""
        return cls(
            smallest_ints(item_start, max(len(text_start), 2**16)),
            smallest_ints(text_start, max(len(text), 2**16)),
            text,
        )

    @property
    def nbytes(self) -> int:
        """Return the bytes of all arrays."""
        return self.item_start.nbytes + self.text_start.nbytes + self.text.nbytes

    def ids(self, sequence: int) -> list[str]:
        """Return the ids of the items of a sequence, in the order they were given."""
        return [self.id(row) for row in range(int(self.item_start[sequence]), int(self.item_start[sequence + 1]))]

    def id(self, row: int) -> str:
        """Return the id of one item."""
        return self.text[int(self.text_start[row]) : int(self.text_start[row + 1])].tobytes().decode(errors="replace")

    def find(self, ids: Sequence[str]) -> NDArray[np.int64]:
        """Return the row indices of all items with one of these ids, ascending (rows,)."""
        wanted = flatten_text(ids)
        lengths, wanted_lengths = np.diff(self.text_start), np.diff(wanted.offsets)
        found = []
        for length in np.unique(wanted_lengths).tolist():
            values = np.unique(_words(wanted.data, wanted.offsets[:-1][wanted_lengths == length], length))
            rows = np.flatnonzero(lengths == length)
            for block in range(0, len(rows), BLOCK):
                some = rows[block : block + BLOCK]
                words = _words(self.text, self.text_start[some].astype(np.int64), length)
                places = np.minimum(np.searchsorted(values, words), len(values) - 1)
                found.append(some[values[places] == words])
        return np.sort(np.concatenate(found)) if found else np.empty(0, dtype=np.int64)


def _words(data: NDArray[np.uint8], starts: NDArray[Any], length: int) -> NDArray[Any]:
    """Gather strings of one length from an array of bytes."""
    if length == 0:
        return np.zeros(len(starts), dtype="S1")
    letters = np.ascontiguousarray(data[starts[:, None] + np.arange(length)])
    return letters.view(f"S{length}")[:, 0]
