"""Embeddings of many texts in a temporary file: read by rows, and never all in memory.

A mapped file would count as resident memory as far as it is read; rows are read and written at their places instead.

Shapes: N rows of d numbers, float32.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from semcore.runtime.files import writing_to

_NUMBER_BYTES = 4


class EmbeddingFile:
    """The rows (N, d) of an array that lies on the disk, in a file without a name."""

    def __init__(self, num_rows: int, dimensions: int):
        self.shape = (num_rows, dimensions)
        self._row_bytes = dimensions * _NUMBER_BYTES
        with writing_to(Path(tempfile.gettempdir())):
            self._file = tempfile.TemporaryFile(prefix="semcore-")  # noqa: SIM115
            os.posix_fallocate(self._file.fileno(), 0, max(num_rows * self._row_bytes, 1))

    def __len__(self) -> int:
        return self.shape[0]

    def write(self, places: Sequence[int] | np.ndarray, rows: np.ndarray) -> None:
        """Write rows (places, d) at their places."""
        rows = np.ascontiguousarray(rows, np.float32)
        for place, row in zip(places, rows, strict=True):
            os.pwrite(self._file.fileno(), row.data, int(place) * self._row_bytes)

    def __getitem__(self, key: slice | Sequence[int] | np.ndarray) -> np.ndarray:
        """Return some rows (rows, d): a slice without a step, or those at some places."""
        if isinstance(key, slice):
            start, stop, _ = key.indices(self.shape[0])
            rows = np.empty((max(stop - start, 0), self.shape[1]), np.float32)
            self._read(rows, start)
            return rows
        rows = np.empty((len(key), self.shape[1]), np.float32)
        for row, place in zip(rows, key, strict=True):
            self._read(row, int(place))
        return rows

    def _read(self, rows: np.ndarray, place: int) -> None:
        """Fill an array with the rows from a place on; one call reads two GB at most."""
        view, start, done = rows.reshape(-1).view(np.uint8).data, place * self._row_bytes, 0
        while done < len(view):
            done += os.preadv(self._file.fileno(), [view[done:]], start + done)
