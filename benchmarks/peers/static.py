"""STATIC (Su et al., 2026), run from a copy of youtube/static-constraint-decoding that the user has fetched.

It needs identifiers of one length, so ours are padded, and tables over the whole vocabulary, so it gets dense numbers
of the tokens that occur, which is in its favour. Its first token is looked up in a dense table, the rest in compressed
rows.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.corpora import Corpus
from semcore.runtime.errors import UserError


class StaticPeer:
    """STATIC's index of a corpus, and its constraint step on some prefixes."""

    def __init__(self, folder: Path, corpus: Corpus, prefixes: list[list[list[int]]], logits: torch.Tensor) -> None:
        """Build the index and find the rows' states, one list of prefixes per step; `logits` are (rows, vocabulary)."""
        build, self._step = _load(folder)
        vocabulary, table = _padded(corpus)
        size = len(vocabulary) + 1
        packed, starts, branches, _, dense_mask, dense_states = build(table, vocab_size=size, dense_lookup_layers=1)
        self.nbytes = sum(array.nbytes for array in (packed, starts, dense_mask, dense_states))
        self._packed = torch.from_numpy(packed).to(logits.device)
        self._starts = torch.from_numpy(starts).to(logits.device)
        self._logits = logits[:, torch.from_numpy(np.append(vocabulary, 0)).to(logits.device)]
        self._size = size
        self._limits = [int(branches[len(rows[0])]) for rows in prefixes]
        self._states = [
            torch.tensor([_state(packed, starts, np.searchsorted(vocabulary, row)) for row in rows]).to(logits.device)
            for rows in prefixes
        ]

    def steps(self) -> list[Any]:
        """Run its constraint step once per list of prefixes."""
        return [
            self._step(self._logits, states, self._packed, self._starts, limit, self._size, self._logits.device)
            for states, limit in zip(self._states, self._limits, strict=True)
        ]


def _load(folder: Path) -> tuple[Any, Any]:
    if not (folder / "static_decoding").is_dir():
        raise UserError(f"--static {folder} holds no static_decoding: fetch youtube/static-constraint-decoding first")
    sys.path.insert(0, str(folder))
    from static_decoding.csr_utils import build_static_index
    from static_decoding.decoding_pt import generate_and_apply_logprobs_mask

    return build_static_index, generate_and_apply_logprobs_mask


def _padded(corpus: Corpus) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the tokens that occur, and the sorted identifiers as dense tokens padded to one length."""
    vocabulary = np.unique(corpus.tokens)
    lengths = np.diff(corpus.offsets)
    table = np.full((len(lengths), int(lengths.max())), len(vocabulary), dtype=np.int32)
    places = np.arange(table.shape[1]) < lengths[:, None]
    table[places] = np.searchsorted(vocabulary, corpus.tokens)
    return vocabulary, table[np.lexsort(table.T[::-1])]


def _state(packed: NDArray[Any], starts: NDArray[Any], prefix: NDArray[Any]) -> int:
    state = int(prefix[0]) + 1
    for token in prefix[1:]:
        row = packed[starts[state] : starts[state + 1]]
        state = int(row[np.flatnonzero(row[:, 0] == token)[0], 1])
    return state
