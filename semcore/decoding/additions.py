"""Additions to a prefix tree without rebuilding it.

The children of a node are adjacent, so a node that gets one more has its children copied to the end of the table,
the new one among them; the old entries are marked dead. Leaves are never changed: one whose tail is cut or whose
items grow is written again under a new number. Searches are not affected by either.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from semcore.decoding.postings import Items
from semcore.decoding.token_sequences import FlatSequences, flatten_text, offsets_of
from semcore.decoding.trie import DEAD, ROOT, STOP, Trie, smallest_ints


def add_sequences(trie: Trie, items: Items, flat: FlatSequences, ids: list[str]) -> tuple[Trie, Items]:
    """Return the tree and its items with added sequences; the given arrays are not changed."""
    trie = _with_vocabulary(trie, flat.tokens)
    dense = np.searchsorted(trie.vocabulary, flat.tokens).tolist()
    growing = Growing(trie, items)
    for begin, end, item in zip(flat.offsets[:-1].tolist(), flat.offsets[1:].tolist(), ids, strict=True):
        growing.insert(dense[begin:end], item)
    return growing.grown()


class Growing:
    """A prefix tree under change: its columns with spare capacity, and its new leaves."""

    def __init__(self, trie: Trie, items: Items) -> None:
        """Copy the columns of a tree."""
        self._trie, self._items = trie, items
        self._size = len(trie.node_token)
        room = self._size // 8 + 64
        self.token, self.link, self.fanout = (
            np.concatenate([column, np.zeros(room, dtype=column.dtype)])
            for column in (trie.node_token, trie.node_link, trie.node_fanout)
        )
        self._tails: list[list[int]] = []
        self._ids: list[list[str]] = []

    def insert(self, sequence: list[int], item: str) -> None:
        """Add a sequence of dense tokens for an item."""
        node, place = ROOT, 0
        while self.fanout[node]:
            token = sequence[place] if place < len(sequence) else STOP
            place += 1
            child = self._child(node, token)
            if child is None:
                self._add_child(node, token, self.new_leaf(sequence[place:], [item]))
                return
            node = child
        rest, tail = sequence[place:], self.tail(node)
        if rest == tail:
            self.link[node] = self.new_leaf(tail, [*self.ids(node), item])
        else:
            self._split(node, tail, rest, item)

    def new_leaf(self, tail: list[int], ids: list[str]) -> int:
        """Write a leaf and return its number."""
        self._tails.append(tail)
        self._ids.append(ids)
        return self._trie.num_sequences + len(self._tails) - 1

    def tail(self, node: int) -> list[int]:
        """Return the dense tokens of a leaf's tail."""
        number = int(self.link[node])
        if number >= self._trie.num_sequences:
            return self._tails[number - self._trie.num_sequences]
        return self._trie.tail_token[self._trie.tail_start[number] : self._trie.tail_start[number + 1]].tolist()

    def ids(self, node: int) -> list[str]:
        """Return the ids behind a leaf."""
        number = int(self.link[node])
        if number >= self._trie.num_sequences:
            return self._ids[number - self._trie.num_sequences]
        return self._items.ids(number)

    def grown(self) -> tuple[Trie, Items]:
        """Return the changed tree and items."""
        trie, items = self._trie, self._items
        tails, ids = [token for tail in self._tails for token in tail], [item for group in self._ids for item in group]
        tail_token = np.concatenate([trie.tail_token, np.array(tails, dtype=trie.tail_token.dtype)])
        tail_start = _appended(trie.tail_start, np.array([len(tail) for tail in self._tails], dtype=np.int64))
        text = flatten_text(ids)
        item_start = _appended(items.item_start, np.array([len(group) for group in self._ids], dtype=np.int64))
        text_start = _appended(items.text_start, np.diff(text.offsets))
        token, link, fanout = (column[: self._size].copy() for column in (self.token, self.link, self.fanout))
        packed_start = smallest_ints(tail_start, max(len(tail_token), 2**16))
        grown = Trie(trie.vocabulary, token, link, fanout, packed_start, tail_token)
        return grown, Items.packed(item_start, text_start, np.concatenate([items.text, text.data]))

    def _child(self, node: int, token: int) -> int | None:
        first = int(self.link[node])
        siblings = self.token[first : first + int(self.fanout[node])]
        place = int(np.searchsorted(siblings, token))
        return first + place if place < len(siblings) and siblings[place] == token else None

    def _add_child(self, node: int, token: int, leaf: int) -> None:
        first, fanout = int(self.link[node]), int(self.fanout[node])
        old = slice(first, first + fanout)
        place = int(np.searchsorted(self.token[old], token))
        self.link[node] = self._append(
            np.insert(self.token[old], place, token),
            np.insert(self.link[old], place, leaf),
            np.insert(self.fanout[old], place, 0),
        )
        self.fanout[node] = fanout + 1
        self.link[old], self.fanout[old] = DEAD, 0

    def _split(self, node: int, tail: list[int], rest: list[int], item: str) -> None:
        """Turn a leaf into inner nodes down to where its tail and another one diverge, with a leaf for each."""
        common = next(
            (i for i, (a, b) in enumerate(zip(tail, rest, strict=False)) if a != b), min(len(tail), len(rest))
        )
        parting = [
            (tail[common] if common < len(tail) else STOP, self.new_leaf(tail[common + 1 :], self.ids(node))),
            (rest[common] if common < len(rest) else STOP, self.new_leaf(rest[common + 1 :], [item])),
        ]
        tokens, leaves = zip(*sorted(parting), strict=True)
        link, fanout = self._append(np.array(tokens), np.array(leaves), np.zeros(2)), 2
        for token in reversed(tail[:common]):
            link, fanout = self._append(np.array([token]), np.array([link]), np.array([fanout])), 1
        self.link[node], self.fanout[node] = link, fanout

    def _append(self, token: NDArray[Any], link: NDArray[Any], fanout: NDArray[Any]) -> int:
        """Append adjacent nodes to the table and return the first one's number."""
        first, self._size = self._size, self._size + len(token)
        if self._size > len(self.token):
            room = self._size // 4 + 64
            self.token, self.link, self.fanout = (
                np.concatenate([column, np.zeros(room, dtype=column.dtype)])
                for column in (self.token, self.link, self.fanout)
            )
        new = slice(first, self._size)
        self.token[new], self.link[new], self.fanout[new] = token, link, fanout
        return first


def _with_vocabulary(trie: Trie, tokens: NDArray[Any]) -> Trie:
    """Number new tokens; existing numbers shift, since numbers keep the order of the token ids."""
    vocabulary = np.union1d(trie.vocabulary, tokens).astype(trie.vocabulary.dtype)
    if len(vocabulary) == len(trie.vocabulary):
        return trie
    numbers = np.append(np.searchsorted(vocabulary, trie.vocabulary), STOP)
    return Trie(
        vocabulary,
        smallest_ints(numbers[trie.node_token], len(vocabulary)),
        trie.node_link,
        smallest_ints(trie.node_fanout, len(vocabulary) + 1),
        trie.tail_start,
        smallest_ints(numbers[trie.tail_token], len(vocabulary)),
    )


def _appended(offsets: NDArray[Any], lengths: NDArray[Any]) -> NDArray[np.int64]:
    """Return offsets extended by more rows."""
    return np.concatenate([offsets.astype(np.int64), int(offsets[-1]) + offsets_of(lengths)[1:]])
