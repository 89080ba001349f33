"""Token sequences and item ids as flat arrays, validated once here.

Shapes: N sequences, T tokens in all; `offsets` has N + 1 entries, sequence i is `tokens[offsets[i]:offsets[i + 1]]`.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from semcore.runtime.errors import UserError

TokenSequences = Sequence[Sequence[int]] | tuple[NDArray[Any], NDArray[Any]] | NDArray[Any]

LARGEST_TOKEN = 2**24 - 1
BLOCK = 1_000_000


class FlatSequences(NamedTuple):
    """Concatenated sequences, and the start of each."""

    tokens: NDArray[Any]
    """Token ids (T,)."""
    offsets: NDArray[np.int64]
    """(N + 1,)."""

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Return the number of tokens of each sequence (N,)."""
        return np.diff(self.offsets)


class FlatText(NamedTuple):
    """Concatenated strings in UTF-8, and the start of each."""

    data: NDArray[np.uint8]
    """Bytes of all strings."""
    offsets: NDArray[np.int64]
    """(N + 1,)."""


def flatten_sequences(token_sequences: TokenSequences, offsets: NDArray[Any] | None = None) -> FlatSequences:
    """Concatenate token sequences into one flat array and validate them.

    Args:
        token_sequences: one sequence of token ids per item; or a pair of arrays (tokens, offsets); or the flat array
            (T,), together with `offsets`.
        offsets: start of each sequence in the flat array, and its end (N + 1,).

    Raises:
        UserError: no sequence, an empty one, or a token id out of range.
    """
    if offsets is not None:
        flat = _flat_arrays(np.asarray(token_sequences), np.asarray(offsets))
    elif _is_pair_of_arrays(token_sequences):
        flat = _flat_arrays(*token_sequences)
    else:
        flat = _flat_lists(token_sequences)  # type: ignore[arg-type]
    _check(flat)
    return flat


def flatten_text(strings: Sequence[str]) -> FlatText:
    """Encode strings into one flat array of UTF-8."""
    joined = "".join(strings)
    if joined.isascii():
        data, lengths = joined.encode(), map(len, strings)
    else:
        encoded = [string.encode() for string in strings]
        data, lengths = b"".join(encoded), map(len, encoded)
    return FlatText(np.frombuffer(data, dtype=np.uint8), offsets_of(np.fromiter(lengths, np.int64, len(strings))))


def flatten_long_text(strings: Iterable[str]) -> FlatText:
    """Encode strings as `flatten_text` does, one at a time: a list of a million takes seventy bytes each."""
    data, ends = bytearray(), array("q", [0])
    for string in strings:
        data += string.encode()
        ends.append(len(data))
    return FlatText(np.frombuffer(data, dtype=np.uint8), np.frombuffer(ends, dtype=np.int64))


def offsets_of(lengths: NDArray[Any]) -> NDArray[np.int64]:
    """Return the start of each ragged row, and the end of the last (N + 1,), from their lengths (N,)."""
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def gather_ragged(values: NDArray[Any], starts: NDArray[Any], lengths: NDArray[Any]) -> NDArray[Any]:
    """Concatenate the slices `values[start:start + length]`, one block of rows at a time to bound the memory.

    Args:
        values: flat array (entries,).
        starts: start of each slice (N,).
        lengths: length of each slice (N,).
    """
    ends = offsets_of(lengths)
    gathered = np.empty(int(ends[-1]), dtype=values.dtype)
    for first in range(0, len(starts), BLOCK):
        rows = slice(first, first + BLOCK)
        begin, end = int(ends[first]), int(ends[min(first + BLOCK, len(starts))])
        shifts = np.repeat(starts[rows] - ends[:-1][rows], lengths[rows])
        gathered[begin:end] = values[shifts + np.arange(begin, end)]
    return gathered


def fingerprint_of(flat: FlatSequences, text: FlatText, tokenizer_fingerprint: str) -> str:
    """Hash sequences, item ids and the tokenizer's own hash (SHA-256, hexadecimal)."""
    digest = hashlib.sha256(tokenizer_fingerprint.encode())
    for values in (flat.tokens, flat.offsets, text.data, text.offsets):
        digest.update(len(values).to_bytes(8, "little"))
        for first in range(0, len(values), BLOCK):
            block = values[first : first + BLOCK]
            digest.update((block if block.dtype == np.uint8 else block.astype("<i8")).tobytes())
    return digest.hexdigest()


def _is_pair_of_arrays(value: object) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and all(isinstance(part, np.ndarray) for part in value)


def _flat_arrays(tokens: NDArray[Any], offsets: NDArray[Any]) -> FlatSequences:
    if tokens.ndim != 1 or tokens.dtype.kind not in "iu":
        raise UserError(f"flat token sequences must be one integer array, found {tokens.dtype} {tokens.shape}")
    offsets = offsets.astype(np.int64)
    if offsets.ndim != 1 or len(offsets) == 0 or offsets[0] != 0 or offsets[-1] != len(tokens):
        raise UserError(
            f"offsets must run from 0 to the number of tokens, {len(tokens)}, with one entry more than items"
        )
    return FlatSequences(tokens, offsets)


def _flat_lists(sequences: Sequence[Sequence[int]]) -> FlatSequences:
    offsets = offsets_of(np.fromiter(map(len, sequences), np.int64, len(sequences)))
    try:
        tokens = np.fromiter(chain.from_iterable(sequences), np.int64, int(offsets[-1]))
    except (TypeError, ValueError, OverflowError):
        raise UserError("token sequences must hold whole numbers: tokenize the identifiers first") from None
    return FlatSequences(tokens, offsets)


def _check(flat: FlatSequences) -> None:
    if len(flat.offsets) == 1:
        raise UserError("the corpus is empty: an index needs at least one identifier")
    empty = np.flatnonzero(flat.lengths <= 0)
    if len(empty):
        raise UserError(f"identifier {empty[0]} is empty: every item needs at least one token")
    outside = np.flatnonzero((flat.tokens < 0) | (flat.tokens > LARGEST_TOKEN))
    if len(outside):
        row = int(np.searchsorted(flat.offsets, outside[0], side="right")) - 1
        raise UserError(f"token {flat.tokens[outside[0]]} of identifier {row} lies outside any vocabulary")
