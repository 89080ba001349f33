"""`IdentifierIndex`: which token sequences are identifiers, and whose (Contract 4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from semcore.decoding.listing import end_and_inner_tokens, list_sequences
from semcore.decoding.sequences import (
    FlatText,
    TokenSequences,
    fingerprint_of,
    flatten_sequences,
    flatten_text,
    gather_ragged,
    offsets_of,
)
from semcore.decoding.storage import load_arrays, save_arrays
from semcore.decoding.tensors import TrieTensors
from semcore.decoding.trie import ROOT, STOP, Trie, build_trie, smallest_ints
from semcore.errors import UserError

TRIE_ARRAYS = tuple(field.name for field in fields(Trie))
CPU = torch.device("cpu")
ITEM_ARRAYS = ("item_start", "text_start", "text")


class IdentifierIndex:
    """All identifiers of a corpus as a compressed prefix tree, with the items behind each.

    Sequences contain their end token already; the index adds, needs and strips none. Several items may share one
    sequence, and a sequence may be a prefix of another.

    Examples:
        >>> index = IdentifierIndex.from_sequences([[5, 7, 1], [5, 8, 1], [5, 8, 1]], ["a", "b", "c"])
        >>> index.allowed_tokens([5])
        [7, 8]
        >>> index.items([5, 8, 1])
        ['b', 'c']
    """

    def __init__(
        self,
        trie: Trie,
        item_start: NDArray[Any],
        text_start: NDArray[Any],
        text: NDArray[np.uint8],
        max_length: int,
        fingerprint: str,
        device: torch.device = CPU,
    ) -> None:
        """Take arrays that `from_sequences` or `load` made."""
        self.trie = trie
        self.item_start = item_start
        self.text_start = text_start
        self.text = text
        self.max_length = max_length
        self.fingerprint = fingerprint
        self.device = device

    @classmethod
    def from_sequences(
        cls,
        token_sequences: TokenSequences,
        item_ids: Sequence[str],
        offsets: NDArray[Any] | None = None,
        tokenizer_fingerprint: str = "",
    ) -> IdentifierIndex:
        """Build the index of a corpus.

        Args:
            token_sequences: one token sequence an item, end token included; or a pair of arrays (tokens, offsets);
                or the flat array of all tokens, with `offsets` beside it.
            item_ids: one id an item; items of one sequence keep this order.
            offsets: where each sequence begins in the flat array, and its end (items + 1,).
            tokenizer_fingerprint: a hash of the tokenizer; it goes into the index's own fingerprint.

        Raises:
            UserError: no item, an empty identifier, a token no vocabulary can hold, or not one id a sequence.
        """
        flat = flatten_sequences(token_sequences, offsets)
        if len(item_ids) != len(flat.offsets) - 1:
            raise UserError(
                f"{len(flat.offsets) - 1} token sequences but {len(item_ids)} item ids: give one id a sequence"
            )
        text = flatten_text(item_ids)
        built = build_trie(flat)
        sorted_text = _reorder(text, built.order)
        return cls(
            built.trie,
            smallest_ints(built.item_start, max(len(item_ids), 2**16)),
            smallest_ints(sorted_text.offsets, max(len(sorted_text.data), 2**16)),
            sorted_text.data,
            int(flat.lengths.max()),
            fingerprint_of(flat, text, tokenizer_fingerprint),
        )

    @cached_property
    def tensors(self) -> TrieTensors:
        """Return the prefix tree as tensors on the index's device; on a CPU they share its memory."""
        return TrieTensors.of(self.trie, self.device)

    def to(self, device: str | torch.device) -> IdentifierIndex:
        """Return the same index for searches on another device."""
        chosen = torch.empty(0, device=device).device
        arrays = (getattr(self, name) for name in ITEM_ARRAYS)
        return IdentifierIndex(self.trie, *arrays, self.max_length, self.fingerprint, chosen)

    @property
    def nbytes(self) -> int:
        """Return the bytes of the index, the items' ids included."""
        return self.trie.nbytes + self.item_start.nbytes + self.text_start.nbytes + self.text.nbytes

    def allowed_tokens(self, prefix: Sequence[int]) -> list[int]:
        """Return the tokens that may follow a prefix, ascending; none after a whole identifier or a foreign prefix."""
        node, consumed = self._walk(prefix)
        if consumed < 0:
            return []
        if self.trie.node_fanout[node] == 0:
            dense = self._tail(node)[consumed : consumed + 1]
        else:
            first = int(self.trie.node_link[node])
            dense = self.trie.node_token[first : first + int(self.trie.node_fanout[node])]
        return self.trie.vocabulary[dense[dense != STOP]].tolist()

    def items(self, sequence: Sequence[int]) -> list[str]:
        """Return the ids of the items with this identifier, in the order they were given; none if it is foreign."""
        node, consumed = self._walk(sequence)
        if consumed < 0:
            return []
        if self.trie.node_fanout[node]:
            node = int(self.trie.node_link[node])
            if self.trie.node_token[node] != STOP:
                return []
        if len(self._tail(node)) != consumed:
            return []
        leaf = int(self.trie.node_link[node])
        return [self._item(row) for row in range(int(self.item_start[leaf]), int(self.item_start[leaf + 1]))]

    def end_tokens(self) -> list[int]:
        """Return the tokens that identifiers end with, ascending.

        Raises:
            UserError: one of them also stands inside an identifier.
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
        return [tuple(tokens[begin:end]) for begin, end in zip(bounds[:-1], bounds[1:], strict=True)]

    def sequence(self, leaf: int, path: Sequence[int]) -> tuple[int, ...]:
        """Return the token sequence of a leaf, given the dense tokens down to it (`STOP` is left out)."""
        dense = [token for token in path if token != STOP] + self._tail(leaf).tolist()
        return tuple(self.trie.vocabulary[dense].tolist())

    def save(self, path: str | Path) -> None:
        """Write the index as one safetensors file, atomically.

        Raises:
            UserError: the place cannot be written to.
        """
        arrays = {name: getattr(self.trie, name) for name in TRIE_ARRAYS}
        arrays.update({name: getattr(self, name) for name in ITEM_ARRAYS})
        save_arrays(Path(path), arrays, {"fingerprint": self.fingerprint, "max_length": str(self.max_length)})

    @classmethod
    def load(cls, path: str | Path, expected_fingerprint: str | None = None) -> IdentifierIndex:
        """Open a saved index; its arrays are memory-mapped.

        Raises:
            UserError: the file is missing, cut short, foreign, or of other identifiers than expected.
        """
        arrays, metadata = load_arrays(Path(path), TRIE_ARRAYS + ITEM_ARRAYS)
        fingerprint = metadata.get("fingerprint", "")
        if expected_fingerprint not in (None, fingerprint):
            raise UserError(
                f"{path} was built from other identifiers or another tokenizer (fingerprint {fingerprint[:12]}, "
                f"expected {str(expected_fingerprint)[:12]}): build the index again"
            )
        trie = Trie(**{name: arrays[name] for name in TRIE_ARRAYS})
        return cls(trie, *(arrays[name] for name in ITEM_ARRAYS), int(metadata["max_length"]), fingerprint)

    def _walk(self, prefix: Sequence[int]) -> tuple[int, int]:
        """Return the node a prefix leads to and how many tail tokens it takes there; -1 tokens if it leads nowhere."""
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

    def _walk_tail(self, node: int, rest: Sequence[int]) -> tuple[int, int]:
        tail = self.trie.vocabulary[self._tail(node)][: len(rest)].tolist()
        return (node, len(tail)) if tail == list(map(int, rest)) else (ROOT, -1)

    def _tail(self, node: int) -> NDArray[Any]:
        leaf = int(self.trie.node_link[node])
        return self.trie.tail_token[int(self.trie.tail_start[leaf]) : int(self.trie.tail_start[leaf + 1])]

    def _item(self, row: int) -> str:
        return self.text[int(self.text_start[row]) : int(self.text_start[row + 1])].tobytes().decode()


def _reorder(text: FlatText, order: NDArray[Any]) -> FlatText:
    lengths = np.diff(text.offsets)[order]
    return FlatText(gather_ragged(text.data, text.offsets[:-1][order], lengths), offsets_of(lengths))
