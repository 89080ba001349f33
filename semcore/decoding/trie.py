"""Compressed prefix tree of the identifiers in a few flat arrays.

Sequences that share a prefix share its nodes. The children of a node are adjacent, in the order of their tokens,
so the number of an edge is the number of the node it leads to and no next-state column is kept. Where only one
sequence is left below a node, the node is a leaf and the rest of the sequence is a slice of `tail_token`. A
sequence that is a prefix of another ends in a leaf under the token `STOP`.

Tokens are numbered densely, in the order of their ids: a corpus uses few of a model's tokens, so two bytes suffice.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semcore.decoding.token_sequences import FlatSequences, gather_ragged, offsets_of

STOP = -1
"""The dense token of an edge without a token: a sequence ends here that others continue."""

ROOT = 0

DEAD = -1
"""Link of a node that changes have left unused."""


@dataclass
class Trie:
    """Flat arrays; V tokens in use, E nodes, S distinct sequences (leaves)."""

    vocabulary: NDArray[np.int32]
    """Dense token -> token id, ascending (V,)."""
    node_token: NDArray[Any]
    """Dense token of the edge into a node (E,); the root has `STOP`."""
    node_link: NDArray[Any]
    """First child of an inner node; sequence number of a leaf (E,)."""
    node_fanout: NDArray[Any]
    """Number of children (E,); 0 marks a leaf."""
    tail_start: NDArray[Any]
    """Start of the tail of each sequence in `tail_token` (S + 1,)."""
    tail_token: NDArray[Any]
    """Dense tokens after the leaf's own, sequence by sequence."""

    @property
    def num_sequences(self) -> int:
        """Return the number of leaves ever made."""
        return len(self.tail_start) - 1

    @property
    def nbytes(self) -> int:
        """Return the bytes of all arrays."""
        return sum(getattr(self, field.name).nbytes for field in fields(self))


@dataclass
class BuiltTrie:
    """A prefix tree, and the leaf of each given sequence."""

    trie: Trie
    order: NDArray[np.int64]
    """The given sequences sorted by their tokens; equal ones in the order given (N,)."""
    item_start: NDArray[np.int64]
    """Start in `order` of each leaf's group of equal sequences (S + 1,)."""


def build_trie(flat: FlatSequences) -> BuiltTrie:
    """Sort the sequences and cut them into a prefix tree."""
    vocabulary, dense = _number_tokens(flat.tokens)
    order = sort_sequences(FlatSequences(dense, flat.offsets), len(vocabulary))
    starts, lengths = flat.offsets[:-1][order], flat.lengths[order]
    shared = _shared_prefixes(dense, starts, lengths)
    first = np.flatnonzero(shared < lengths)
    trie = _cut(vocabulary, dense, starts[first], lengths[first], shared[first])
    return BuiltTrie(trie, order, np.append(first, len(order)))


def smallest_ints(values: NDArray[Any], largest: int) -> NDArray[Any]:
    """Return integers (entries,) up to `largest` as int16, int32 or int64."""
    kinds: list[type[np.signedinteger[Any]]] = [np.int16, np.int32, np.int64]
    return values.astype(next(kind for kind in kinds if largest <= np.iinfo(kind).max))


def sort_sequences(dense: FlatSequences, num_tokens: int) -> NDArray[np.int64]:
    """Return the stable order of sequences of dense tokens (N,).

    As many tokens as fit are packed into one 64-bit word; only rows still equal are compared on the next word.
    """
    bits = int(num_tokens).bit_length()
    width = 63 // bits
    order = np.argsort(_packed(dense, np.arange(len(dense.lengths)), 0, width, bits), kind="stable")
    tied, depth = np.arange(len(order)), 0
    groups = np.zeros(len(order), dtype=np.int64)
    while True:
        tied, groups = _still_tied(dense, order, tied, groups, depth, width, bits)
        depth += width
        if not len(tied) or int(dense.lengths[order[tied]].max()) <= depth:
            return order
        rows = order[tied]
        order[tied] = rows[np.lexsort((_packed(dense, rows, depth, width, bits), groups))]


def _number_tokens(tokens: NDArray[Any]) -> tuple[NDArray[np.int32], NDArray[Any]]:
    present = np.zeros(int(tokens.max()) + 1, dtype=bool)
    present[tokens] = True
    vocabulary = np.flatnonzero(present).astype(np.int32)
    numbers = smallest_ints(np.cumsum(present) - 1, len(vocabulary))
    return vocabulary, numbers[tokens]


def _packed(dense: FlatSequences, rows: NDArray[Any], depth: int, width: int, bits: int) -> NDArray[np.int64]:
    """Pack the tokens `depth .. depth + width` of some rows into one integer that sorts like them."""
    starts, lengths = dense.offsets[:-1][rows] + depth, dense.lengths[rows] - depth
    words = np.zeros(len(rows), dtype=np.int64)
    for place in range(width):
        words <<= bits
        there = lengths > place
        if there.all():
            words += dense.tokens[starts + place] + np.int64(1)
        else:
            words[there] += dense.tokens[starts[there] + place] + np.int64(1)
    return words


def _still_tied(
    dense: FlatSequences,
    order: NDArray[Any],
    tied: NDArray[Any],
    groups: NDArray[Any],
    depth: int,
    width: int,
    bits: int,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Keep the positions whose row equals a neighbour's in this word too, and number their groups."""
    if not len(tied):
        return tied, groups
    words = _packed(dense, order[tied], depth, width, bits)
    new = np.ones(len(tied) + 1, dtype=bool)
    new[1:-1] = (words[1:] != words[:-1]) | (groups[1:] != groups[:-1])
    keep = ~(new[:-1] & new[1:])
    return tied[keep], np.cumsum(new[:-1])[keep]


def _shared_prefixes(dense: NDArray[Any], starts: NDArray[Any], lengths: NDArray[Any]) -> NDArray[np.int64]:
    """Return how many tokens each sorted sequence shares with the one before it (N,); 0 for the first."""
    shared = np.zeros(len(starts), dtype=np.int64)
    pairs, depth = np.arange(1, len(starts)), 0
    while len(pairs):
        pairs = pairs[np.minimum(lengths[pairs], lengths[pairs - 1]) > depth]
        pairs = pairs[dense[starts[pairs] + depth] == dense[starts[pairs - 1] + depth]]
        depth += 1
        shared[pairs] = depth
    return shared


def _cut(
    vocabulary: NDArray[np.int32],
    dense: NDArray[Any],
    starts: NDArray[Any],
    lengths: NDArray[Any],
    shared: NDArray[Any],
) -> Trie:
    """Lay out the nodes breadth first; a sequence's leaf is one token after the prefix it shares with a neighbour."""
    leaf_depth = np.maximum(shared, np.append(shared[1:], 0)) + 1
    tokens, links, fanouts = [np.array([STOP])], [], []
    inner, num_nodes = np.array([0]), 1
    leaf_here = np.zeros(1, dtype=bool)
    link_here = np.zeros(1, dtype=np.int64)
    for depth in range(1, int(leaf_depth.max()) + 1):
        level = np.flatnonzero((shared < depth) & (leaf_depth >= depth))
        first = np.searchsorted(level, inner)
        fanout = np.zeros(len(leaf_here), dtype=np.int64)
        fanout[~leaf_here] = np.diff(np.append(first, len(level)))
        link_here[~leaf_here] = num_nodes + first
        links.append(link_here)
        fanouts.append(fanout)
        ends = lengths[level] < depth
        tokens.append(np.where(ends, STOP, dense[starts[level] + np.where(ends, 0, depth - 1)]))
        num_nodes += len(level)
        leaf_here = leaf_depth[level] == depth
        link_here = np.where(leaf_here, level, 0)
        inner = level[~leaf_here]
    links.append(link_here)
    fanouts.append(np.zeros(len(link_here), dtype=np.int64))
    tail_lengths = np.maximum(lengths - leaf_depth, 0)
    tails = gather_ragged(dense, starts + np.minimum(leaf_depth, lengths), tail_lengths)
    return _packed_trie(
        vocabulary,
        np.concatenate(tokens),
        np.concatenate(links),
        np.concatenate(fanouts),
        offsets_of(tail_lengths),
        tails,
    )


def _packed_trie(
    vocabulary: NDArray[np.int32],
    tokens: NDArray[Any],
    links: NDArray[Any],
    fanouts: NDArray[Any],
    tail_start: NDArray[Any],
    tails: NDArray[Any],
) -> Trie:
    """Store every column in as few bytes as its numbers need."""
    largest = max(len(links), len(tail_start))
    return Trie(
        vocabulary=vocabulary,
        node_token=smallest_ints(tokens, len(vocabulary)),
        node_link=smallest_ints(links, max(largest, 2**16)),
        node_fanout=smallest_ints(fanouts, len(vocabulary) + 1),
        tail_start=smallest_ints(tail_start, max(len(tails), 2**16)),
        tail_token=smallest_ints(tails, len(vocabulary)),
    )
