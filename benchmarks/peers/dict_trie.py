"""Nested dictionaries as prefix tree, the field's usual constraint: one call per beam and step."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch


class DictTrie:
    """A prefix tree of nested dictionaries; an identifier's last node has its items."""

    ITEMS = -1

    def __init__(self, sequences: Iterable[Sequence[int]], item_ids: Iterable[str]) -> None:
        """Insert the identifiers one by one."""
        self.root: dict[int, Any] = {}
        for sequence, item in zip(sequences, item_ids, strict=True):
            node = self.root
            for token in sequence:
                node = node.setdefault(token, {})
            node.setdefault(self.ITEMS, []).append(item)

    def allowed_tokens(self, prefix: Sequence[int]) -> list[int]:
        """Return the tokens that may follow a prefix."""
        node = self.root
        for token in prefix:
            if token not in node:
                return []
            node = node[token]
        return [token for token in node if token != self.ITEMS]

    def callback(self, prompt_length: int, end_token: int) -> Callable[[int, torch.Tensor], list[int]]:
        """Return the `prefix_allowed_tokens_fn` of this tree: token ids of a prefix (tokens,) -> allowed token ids."""

        def allowed(_query: int, tokens: torch.Tensor) -> list[int]:
            return self.allowed_tokens(tokens[prompt_length:].tolist()) or [end_token]

        return allowed

    def nbytes(self) -> int:
        """Return the bytes of all dictionaries, lists and ids; token numbers, which may be shared, do not count."""
        total, open_nodes = 0, [self.root]
        while open_nodes:
            node = open_nodes.pop()
            total += sys.getsizeof(node)
            for token, child in node.items():
                if token == self.ITEMS:
                    total += sys.getsizeof(child) + sum(map(sys.getsizeof, child))
                else:
                    open_nodes.append(child)
        return total
