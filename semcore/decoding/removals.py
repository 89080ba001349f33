"""Removals from a prefix tree without rebuilding it.

A sequence is removed with its last item, a node with its last child. The remaining children of a node are moved
together, so that they stay adjacent.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semcore.decoding.additions import Growing
from semcore.decoding.postings import Items
from semcore.decoding.trie import DEAD, ROOT, Trie


def leaf_nodes(trie: Trie) -> NDArray[np.int64]:
    """Return the node of each sequence number; `DEAD` for numbers that changes have left unused (S,)."""
    nodes = np.flatnonzero((trie.node_fanout == 0) & (trie.node_link != DEAD))
    by_number = np.full(trie.num_sequences, DEAD, dtype=np.int64)
    by_number[trie.node_link[nodes]] = nodes
    return by_number


def remove_items(trie: Trie, items: Items, rows: NDArray[np.int64]) -> tuple[Trie, Items]:
    """Return the tree and its items without the items at `rows` (rows,); at least one item must remain."""
    nodes = leaf_nodes(trie)
    numbers = np.searchsorted(items.item_start, rows, side="right") - 1
    growing = Growing(trie, items)
    gone: dict[int, set[int]] = defaultdict(set)
    for number, row in zip(numbers.tolist(), rows.tolist(), strict=True):
        gone[number].add(row - int(items.item_start[number]))
    emptied = []
    for number, places in gone.items():
        node = int(nodes[number])
        kept = [item for place, item in enumerate(growing.ids(node)) if place not in places]
        if kept:
            growing.link[node] = growing.new_leaf(growing.tail(node), kept)
        else:
            emptied.append(node)
    _remove_nodes(growing, _parents(trie), emptied)
    return growing.grown()


def _parents(trie: Trie) -> NDArray[np.int64]:
    """Return the parent of every node that has one (E,)."""
    inner = np.flatnonzero(trie.node_fanout)
    fanout = trie.node_fanout[inner].astype(np.int64)
    before = np.cumsum(fanout) - fanout
    children = np.repeat(trie.node_link[inner] - before, fanout) + np.arange(int(fanout.sum()))
    parents = np.full(len(trie.node_token), DEAD, dtype=np.int64)
    parents[children] = np.repeat(inner, fanout)
    return parents


def _remove_nodes(growing: Growing, parents: NDArray[Any], emptied: list[int]) -> None:
    """Remove nodes from their parents' children, and the parents too when they have no children left."""
    lost: dict[int, set[int]] = defaultdict(set)
    while emptied:
        node = emptied.pop()
        if node == ROOT:
            continue
        parent = int(parents[node])
        lost[parent].add(node)
        if len(lost[parent]) == int(growing.fanout[parent]):
            emptied.append(parent)
    # A node may move with its siblings after its own children did, so its counts are settled before anything moves.
    blocks = {parent: (int(growing.link[parent]), int(growing.fanout[parent])) for parent in lost}
    for parent, children in lost.items():
        growing.fanout[parent] -= len(children)
    for parent, (first, fanout) in blocks.items():
        kept = [node for node in range(first, first + fanout) if node not in lost[parent]]
        _close_ranks(growing, first, fanout, np.array(kept, dtype=np.int64))


def _close_ranks(growing: Growing, first: int, fanout: int, kept: NDArray[np.int64]) -> None:
    for column in (growing.token, growing.link, growing.fanout):
        column[first : first + len(kept)] = column[kept]
    dead = slice(first + len(kept), first + fanout)
    growing.link[dead], growing.fanout[dead] = DEAD, 0
