"""Index of identifiers: the token sequences that are identifiers, and their items (Contract 4)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from semcore.decoding.index_checks import fault_of_arrays
from semcore.decoding.index_file import load_arrays, save_arrays
from semcore.decoding.postings import Items
from semcore.decoding.token_sequences import (
    FlatSequences,
    FlatText,
    TokenSequences,
    fingerprint_of,
    flatten_sequences,
    flatten_text,
)
from semcore.decoding.trie import ROOT, STOP, Trie
from semcore.decoding.trie_reading import end_and_inner_tokens, list_sequences
from semcore.decoding.trie_tensors import TrieTensors
from semcore.decoding.updates import added, build, removed
from semcore.runtime.errors import UserError

TRIE_ARRAYS = tuple(field.name for field in fields(Trie))
ITEM_ARRAYS = tuple(field.name for field in fields(Items))
CPU = torch.device("cpu")


class IdentifierIndex:
    """All identifiers of a corpus as a compressed prefix tree, with the items behind each.

    Sequences contain their end token; the index neither adds nor strips one. Several items may share one
    sequence, and a sequence may be a prefix of another.

    Examples:
        >>> index = IdentifierIndex.from_sequences([[5, 7, 1], [5, 8, 1], [5, 8, 1]], ["a", "b", "c"])
        >>> index.allowed_tokens([5])
        [7, 8]
        >>> index.items([5, 8, 1])
        ['b', 'c']
    """

    def __init__(self, trie: Trie, items: Items, max_length: int, fingerprint: str, device: torch.device = CPU) -> None:
        """Wrap the parts that `from_sequences` or `load` made."""
        self.trie = trie
        """The prefix tree, in the memory of the CPU."""
        self.max_length = max_length
        """Upper bound on the tokens of a sequence; exact until `remove`."""
        self.fingerprint = fingerprint
        """SHA-256 of sequences, ids and tokenizer, and of the changes since."""
        self.device = device
        """Where searches run."""
        self._items = items
        self._tensors: TrieTensors | None = None

    @classmethod
    def from_sequences(
        cls,
        token_sequences: TokenSequences,
        item_ids: Sequence[str] | FlatText,
        offsets: NDArray[Any] | None = None,
        tokenizer_fingerprint: str = "",
    ) -> IdentifierIndex:
        """Build the index of a corpus.

        Args:
            token_sequences: one token sequence per item, end token included; or a pair of arrays (tokens, offsets);
                or the flat array of all tokens (tokens,), together with `offsets`.
            item_ids: one id per item, as texts or laid end to end; items of one sequence keep this order.
            offsets: start of each sequence in the flat array, and its end (items + 1,).
            tokenizer_fingerprint: a hash of the tokenizer, part of the index's own fingerprint.

        Raises:
            UserError: no item, an empty identifier, a token id out of range, or not one id per sequence.
        """
        flat, text = _flatten(token_sequences, offsets, item_ids)
        trie, items = build(flat, text)
        return cls(trie, items, int(flat.lengths.max()), fingerprint_of(flat, text, tokenizer_fingerprint))

    def add(
        self, token_sequences: TokenSequences, item_ids: Sequence[str], offsets: NDArray[Any] | None = None
    ) -> None:
        """Add items; a few items cost little time.

        Args:
            token_sequences: as for `from_sequences`.
            item_ids: one id per sequence.
            offsets: as for `from_sequences`, (items + 1,).

        Raises:
            UserError: as `from_sequences`; the index is then unchanged.
        """
        flat, text = _flatten(token_sequences, offsets, item_ids)
        trie, items = added(self.trie, self._items, flat, text, item_ids)
        self.max_length = max(self.max_length, int(flat.lengths.max()))
        self._change(trie, items, "add", fingerprint_of(flat, text, ""))

    def remove(self, item_ids: Sequence[str]) -> None:
        """Remove items, and sequences left without items.

        Raises:
            UserError: an item is not in the index, or none would remain; the index is then unchanged.
        """
        trie, items = removed(self.trie, self._items, item_ids)
        self._change(trie, items, "remove", "\0".join(sorted(item_ids)))

    def _change(self, trie: Trie, items: Items, *change: str) -> None:
        self.trie, self._items, self._tensors = trie, items, None
        self.fingerprint = hashlib.sha256("\n".join((self.fingerprint, *change)).encode()).hexdigest()

    @property
    def tensors(self) -> TrieTensors:
        """Return the prefix tree as tensors on the index's device; on a CPU they share its memory."""
        if self._tensors is None:
            self._tensors = TrieTensors.of(self.trie, self.device)
        return self._tensors

    def to(self, device: str | torch.device) -> IdentifierIndex:
        """Return the same index for searches on another device."""
        chosen = torch.empty(0, device=device).device
        return IdentifierIndex(self.trie, self._items, self.max_length, self.fingerprint, chosen)

    @property
    def nbytes(self) -> int:
        """Return the bytes of the index, the items' ids included."""
        return self.trie.nbytes + self._items.nbytes

    def allowed_tokens(self, prefix: Sequence[int]) -> list[int]:
        """Return the tokens that may follow a prefix, ascending; none after a whole identifier or an unknown prefix."""
        node, consumed = self.find(prefix)
        if consumed < 0:
            return []
        if self.trie.node_fanout[node] == 0:
            dense = self._tail(node)[consumed : consumed + 1]
        else:
            first = int(self.trie.node_link[node])
            dense = self.trie.node_token[first : first + int(self.trie.node_fanout[node])]
        return self.trie.vocabulary[dense[dense != STOP]].tolist()

    def items(self, sequence: Sequence[int]) -> list[str]:
        """Return the ids of the items with this identifier, in the order given; none if it is not in the index."""
        return [] if (leaf := self.leaf(sequence)) < 0 else self.items_of_leaf(leaf)

    def items_of_leaf(self, leaf: int) -> list[str]:
        """Return the ids of the items of a leaf, in the order they were given."""
        return self._items.ids(int(self.trie.node_link[leaf]))

    def sequence_numbers(self) -> dict[str, list[int]]:
        """Return item id -> the numbers of its sequences in the tree."""
        numbers: dict[str, list[int]] = {}
        for number in range(self.trie.num_sequences):
            for item_id in self._items.ids(number):
                numbers.setdefault(item_id, []).append(number)
        return numbers

    def item_sequences(self) -> dict[str, list[tuple[int, ...]]]:
        """Return item id -> its token sequences."""
        sequences: dict[str, list[tuple[int, ...]]] = {}
        for sequence, number in zip(self.sequences(), list_sequences(self.trie).numbers.tolist(), strict=True):
            for item_id in self._items.ids(number):
                sequences.setdefault(item_id, []).append(sequence)
        return sequences

    def leaf(self, sequence: Sequence[int]) -> int:
        """Return the node that an identifier ends on; -1 if it is foreign."""
        node, consumed = self.find(sequence)
        if consumed < 0:
            return -1
        if self.trie.node_fanout[node]:
            node = int(self.trie.node_link[node])
            if self.trie.node_token[node] != STOP:
                return -1
        return node if len(self._tail(node)) == consumed else -1

    def find(self, prefix: Sequence[int]) -> tuple[int, int]:
        """Return the node a prefix leads to, and how many tokens of its tail; -1 tokens if it leads nowhere."""
        node = ROOT
        for place, token in enumerate(prefix):
            dense = int(np.searchsorted(self.trie.vocabulary, token))
            if dense == len(self.trie.vocabulary) or self.trie.vocabulary[dense] != token:
                return ROOT, -1
            if self.trie.node_fanout[node] == 0:
                return self._walk_tail(node, prefix[place:])
            first = int(self.trie.node_link[node])
            siblings = self.trie.node_token[first : first + int(self.trie.node_fanout[node])]
            child = int(np.searchsorted(siblings, dense))
            if child == len(siblings) or siblings[child] != dense:
                return ROOT, -1
            node = first + child
        return node, 0

    def end_tokens(self) -> list[int]:
        """Return the tokens that identifiers end with, ascending.

        Raises:
            UserError: one of them also occurs inside an identifier.
        """
        ends, inside = end_and_inner_tokens(self.trie)
        clash = np.intersect1d(ends, inside)
        if len(clash):
            raise UserError(
                f"token {clash[0]} ends one identifier and stands inside another: "
                "end every identifier with the same end token"
            )
        return ends.tolist()

    def sequences(self) -> list[tuple[int, ...]]:
        """Return every distinct token sequence, in the order of their numbers."""
        flat = list_sequences(self.trie).sequences
        bounds = flat.offsets.tolist()
        tokens = flat.tokens.tolist()
        return [tuple(tokens[begin:end]) for begin, end in pairwise(bounds)]

    def sequence(self, leaf: int, path: Sequence[int]) -> tuple[int, ...]:
        """Return the token sequence of a leaf, given the dense tokens down to it (`STOP` is left out)."""
        dense = [token for token in path if token != STOP] + self._tail(leaf).tolist()
        return tuple(self.trie.vocabulary[dense].tolist())

    def save(self, path: str | Path) -> None:
        """Write the index as one safetensors file, atomically.

        Raises:
            UserError: the path cannot be written to.
        """
        arrays = {name: getattr(self.trie, name) for name in TRIE_ARRAYS}
        arrays.update({name: getattr(self._items, name) for name in ITEM_ARRAYS})
        save_arrays(Path(path), arrays, {"fingerprint": self.fingerprint, "max_length": str(self.max_length)})

    @classmethod
    def load(cls, path: str | Path, expected_fingerprint: str | None = None, *, check: bool = True) -> IdentifierIndex:
        """Open a saved index; its arrays are memory-mapped.

        Args:
            path: the file.
            expected_fingerprint: of the identifiers it has to be of.
            check: look through its arrays first; false for a file whose content is known by its hash.

        Raises:
            UserError: the file is missing, truncated, not an index, or of other identifiers than expected.
        """
        arrays, metadata = load_arrays(Path(path), TRIE_ARRAYS + ITEM_ARRAYS)
        fingerprint = metadata.get("fingerprint", "")
        if expected_fingerprint not in (None, fingerprint):
            raise UserError(
                f"{path} was built from other identifiers or another tokenizer (fingerprint {fingerprint[:12]}, "
                f"expected {str(expected_fingerprint)[:12]}): build the index again"
            )
        max_length = metadata.get("max_length", "")
        fault = "it has no largest length" if not max_length.isdecimal() or len(max_length) > 9 else ""
        if fault := fault or (fault_of_arrays(arrays) if check else ""):
            raise UserError(f"{path} is damaged ({fault}): build the index again")
        trie = Trie(**{name: arrays[name] for name in TRIE_ARRAYS})
        items = Items(**{name: arrays[name] for name in ITEM_ARRAYS})
        return cls(trie, items, int(max_length), fingerprint)

    def _walk_tail(self, node: int, rest: Sequence[int]) -> tuple[int, int]:
        tail = self.trie.vocabulary[self._tail(node)][: len(rest)].tolist()
        return (node, len(tail)) if tail == list(map(int, rest)) else (ROOT, -1)

    def _tail(self, node: int) -> NDArray[Any]:
        leaf = int(self.trie.node_link[node])
        return self.trie.tail_token[int(self.trie.tail_start[leaf]) : int(self.trie.tail_start[leaf + 1])]


def _flatten(
    token_sequences: TokenSequences, offsets: NDArray[Any] | None, item_ids: Sequence[str] | FlatText
) -> tuple[FlatSequences, FlatText]:
    flat = flatten_sequences(token_sequences, offsets)
    num_sequences = len(flat.offsets) - 1
    text = item_ids if isinstance(item_ids, FlatText) else flatten_text(item_ids)
    if len(text.offsets) - 1 != num_sequences:
        raise UserError(f"{num_sequences} token sequences but {len(text.offsets) - 1} item ids: give one id a sequence")
    return flat, text
