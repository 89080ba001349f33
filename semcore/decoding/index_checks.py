"""Checks of arrays that were read from a file: whether they are an index at all, before anything walks through them.

A file that was damaged, or made by something else, may say the right names and link a node to itself. Shapes: V tokens,
E nodes, S sequences, N items.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semcore.decoding.trie import DEAD, ROOT, STOP, Trie

KINDS = {"text": "u"}
"""Kind of an array's entries where these are not signed integers."""


def fault_of_arrays(arrays: Mapping[str, NDArray[Any]]) -> str:
    """Return why arrays are no index, in some words; "" where they are one.

    Args:
        arrays: the fields of `Trie`: (V,), (E,), (E,), (E,), (S + 1,), (tail tokens,), and of `Items`: (S + 1,),
            (N + 1,), (bytes,).
    """
    for name, array in arrays.items():
        if array.ndim != 1 or array.dtype.kind != KINDS.get(name, "i"):
            return f"{name} is no list of whole numbers"
    own = Trie(*(arrays[name] for name in Trie.__dataclass_fields__))
    num_sequences = own.num_sequences
    if not len(own.vocabulary) or (np.diff(own.vocabulary) <= 0).any() or own.vocabulary[0] < 0:
        return "its tokens are not in order"
    num_items, num_bytes = len(arrays["text_start"]) - 1, len(arrays["text"])
    for name, total in (("tail_start", len(own.tail_token)), ("item_start", num_items), ("text_start", num_bytes)):
        if not _are_bounds(arrays[name], total):
            return f"{name} leads outside"
    if len(arrays["item_start"]) != num_sequences + 1 or not _tokens_known(own):
        return "its parts do not belong together"
    return "" if _is_tree(own, num_sequences) else "its nodes are no tree"


def _are_bounds(starts: NDArray[Any], total: int) -> bool:
    """Return whether places (entries + 1,) never go back and stay within a total."""
    return len(starts) > 1 and starts[0] >= 0 and starts[-1] <= total and not (starts[1:] < starts[:-1]).any()


def _tokens_known(trie: Trie) -> bool:
    size = len(trie.vocabulary)
    within = [
        (own >= least).all() and (own < size).all() for own, least in ((trie.node_token, STOP), (trie.tail_token, 0))
    ]
    return all(within) and len(trie.node_token) == len(trie.node_link) == len(trie.node_fanout) > 0


def _is_tree(trie: Trie, num_sequences: int) -> bool:
    """Return whether no node is the child of two, and none above the root: then every walk from there ends."""
    fanout, num_nodes = trie.node_fanout.astype(np.int64), len(trie.node_token)
    if (fanout < 0).any() or fanout.sum() >= num_nodes:
        return False
    inner = np.flatnonzero(fanout)
    first, last = trie.node_link[inner].astype(np.int64), trie.node_link[inner] + fanout[inner]
    leaves = trie.node_link[fanout == 0]
    if (first <= ROOT).any() or (last > num_nodes).any() or (leaves < DEAD).any() or (leaves >= num_sequences).any():
        return False
    if fanout[ROOT] == 0 and trie.node_link[ROOT] == DEAD:
        return False
    claims = np.zeros(num_nodes + 1, dtype=np.int64)
    np.add.at(claims, first, 1)
    np.add.at(claims, last, -1)
    return bool((np.cumsum(claims) <= 1).all())
