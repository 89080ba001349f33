"""Sequences of a prefix tree, and the tokens that end them.

Shapes: S sequences, n nodes of one level, D their depth.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from semcore.decoding.token_sequences import FlatSequences, offsets_of
from semcore.decoding.trie import ROOT, STOP, Trie


class Listing(NamedTuple):
    """The sequences of a prefix tree, in the order of their numbers."""

    sequences: FlatSequences
    """The sequences' token ids."""
    numbers: NDArray[np.int64]
    """Sequence number of each (S,), without numbers that changes have left unused."""


def list_sequences(trie: Trie) -> Listing:
    """Return all sequences of a prefix tree."""
    levels = list(_leaves_by_level(trie))
    numbers = np.concatenate([trie.node_link[nodes] for nodes, _ in levels]).astype(np.int64)
    heads = np.concatenate([(paths != STOP).sum(axis=1) for _, paths in levels])
    order = np.argsort(numbers)
    tail_lengths = (trie.tail_start[numbers + 1] - trie.tail_start[numbers]).astype(np.int64)
    offsets = offsets_of((heads + tail_lengths)[order])
    begins = np.empty(len(order), dtype=np.int64)
    begins[order] = offsets[:-1]
    tokens = np.empty(int(offsets[-1]), dtype=trie.vocabulary.dtype)
    done = 0
    for nodes, paths in levels:
        rows = slice(done, done + len(nodes))
        done += len(nodes)
        kept = paths != STOP
        tokens[(begins[rows, None] + np.arange(paths.shape[1]))[kept]] = trie.vocabulary[paths[kept]]
        places = ragged_places(begins[rows] + heads[rows], tail_lengths[rows])
        tails = ragged_places(trie.tail_start[numbers[rows]].astype(np.int64), tail_lengths[rows])
        tokens[places] = trie.vocabulary[trie.tail_token[tails]]
    return Listing(FlatSequences(tokens, offsets), numbers[order])


def end_and_inner_tokens(trie: Trie) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return the token ids that end a sequence (end tokens,), and those that another token follows (tokens,)."""
    flat = list_sequences(trie).sequences
    last = flat.offsets[1:] - 1
    return np.unique(flat.tokens[last]), np.unique(np.delete(flat.tokens, last))


def _leaves_by_level(trie: Trie) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Yield, level by level, the leaves (n,) and the dense tokens down to each (n, D)."""
    nodes = np.array([ROOT])
    paths = np.empty((1, 0), dtype=trie.node_token.dtype)
    while len(nodes):
        fanout = trie.node_fanout[nodes].astype(np.int64)
        leaf = fanout == 0
        if leaf.any():
            yield nodes[leaf], paths[leaf]
        children = ragged_places(trie.node_link[nodes[~leaf]].astype(np.int64), fanout[~leaf])
        parents = np.repeat(paths[~leaf], fanout[~leaf], axis=0)
        nodes, paths = children, np.column_stack([parents, trie.node_token[children]])


def ragged_places(starts: NDArray[Any], lengths: NDArray[Any]) -> NDArray[np.int64]:
    """Enumerate `start, start + 1, ...` for each ragged row (n,), concatenated to (entries,)."""
    ends = offsets_of(lengths)
    return np.repeat(starts - ends[:-1], lengths) + np.arange(ends[-1])
