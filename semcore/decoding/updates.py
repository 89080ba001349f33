"""Updates of an index: small ones change its arrays, large ones rebuild it.

Small updates leave unused entries behind (`additions.py`, `removals.py`); when half of the nodes or of the leaves are
unused, the index is rebuilt from its own content.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from semcore.decoding.additions import add_sequences
from semcore.decoding.postings import Items
from semcore.decoding.removals import leaf_nodes, remove_items
from semcore.decoding.token_sequences import FlatSequences, FlatText, gather_ragged, offsets_of
from semcore.decoding.trie import DEAD, Trie, build_trie
from semcore.decoding.trie_reading import list_sequences, ragged_places
from semcore.runtime.errors import UserError

LARGE_SHARE = 4
"""An update of one item in four or more rebuilds the index."""


def build(flat: FlatSequences, text: FlatText) -> tuple[Trie, Items]:
    """Build a prefix tree and its postings list."""
    built = build_trie(flat)
    return built.trie, Items.sorted_by(text, built.order, built.item_start)


def added(trie: Trie, items: Items, flat: FlatSequences, text: FlatText, ids: Sequence[str]) -> tuple[Trie, Items]:
    """Return the tree and its items with added sequences."""
    if len(ids) * LARGE_SHARE < trie.num_sequences:
        return _tidy(*add_sequences(trie, items, flat, list(ids)))
    old_flat, old_text = _content(trie, items, _rows(trie, items))
    return build(
        FlatSequences(*_joined(old_flat.tokens, old_flat.offsets, flat.tokens, flat.offsets)),
        FlatText(*_joined(old_text.data, old_text.offsets, text.data, text.offsets)),
    )


def removed(trie: Trie, items: Items, ids: Sequence[str]) -> tuple[Trie, Items]:
    """Return the tree and its items without some items.

    Raises:
        UserError: an id is not in the index, or nothing would remain.
    """
    present = _rows(trie, items)
    rows = np.intersect1d(items.find(ids), present)
    missing = set(ids) - {items.id(row) for row in rows.tolist()}
    if missing:
        raise UserError(f"item {min(missing)!r} is not in the index: remove only what was added")
    if len(rows) == len(present):
        raise UserError("removing these items would leave the index empty: build another index instead")
    if len(rows) * LARGE_SHARE < len(present):
        return _tidy(*remove_items(trie, items, rows))
    return build(*_content(trie, items, np.setdiff1d(present, rows)))


def _tidy(trie: Trie, items: Items) -> tuple[Trie, Items]:
    """Rebuild the index if half of its nodes or leaves are unused."""
    unused_nodes = np.count_nonzero((trie.node_fanout == 0) & (trie.node_link == DEAD))
    unused_leaves = np.count_nonzero(leaf_nodes(trie) == DEAD)
    if 2 * unused_nodes < len(trie.node_token) and 2 * unused_leaves < trie.num_sequences:
        return trie, items
    return build(*_content(trie, items, _rows(trie, items)))


def _rows(trie: Trie, items: Items) -> NDArray[np.int64]:
    """Return the rows of the items that are reachable, ascending."""
    numbers = np.flatnonzero(leaf_nodes(trie) != DEAD)
    starts = items.item_start[numbers].astype(np.int64)
    return ragged_places(starts, items.item_start[numbers + 1] - starts)


def _content(trie: Trie, items: Items, rows: NDArray[np.int64]) -> tuple[FlatSequences, FlatText]:
    """Return the sequences and ids of some items, one of each per item."""
    flat, numbers = list_sequences(trie)
    owners = np.searchsorted(numbers, np.searchsorted(items.item_start, rows, side="right") - 1)
    lengths = flat.lengths[owners]
    sequences = FlatSequences(gather_ragged(flat.tokens, flat.offsets[:-1][owners], lengths), offsets_of(lengths))
    starts = items.text_start[rows].astype(np.int64)
    sizes = items.text_start[rows + 1] - starts
    return sequences, FlatText(gather_ragged(items.text, starts, sizes), offsets_of(sizes))


def _joined(
    first: NDArray, first_offsets: NDArray, second: NDArray, second_offsets: NDArray
) -> tuple[NDArray, NDArray[np.int64]]:
    offsets = np.concatenate([first_offsets, first_offsets[-1] + second_offsets[1:]])
    return np.concatenate([first, second]), offsets
