"""Prefix tree as tensors on a device, with the expansion of many nodes at once.

Shapes: n nodes, c children of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from semcore.decoding.trie import ROOT, Trie


@dataclass(frozen=True)
class TrieTensors:
    """The arrays of a `Trie`; on a CPU they share its memory."""

    vocabulary: torch.Tensor
    node_token: torch.Tensor
    node_link: torch.Tensor
    node_fanout: torch.Tensor
    tail_start: torch.Tensor
    tail_token: torch.Tensor

    @classmethod
    def of(cls, trie: Trie, device: torch.device) -> TrieTensors:
        """Put the arrays of a prefix tree on a device."""
        return cls(
            torch.from_numpy(trie.vocabulary.astype(np.int64)).to(device),
            *(
                torch.from_numpy(array).to(device)
                for array in (trie.node_token, trie.node_link, trie.node_fanout, trie.tail_start, trie.tail_token)
            ),
        )

    @cached_property
    def levels(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Return the nodes that paths lead to and their parents, level by level, both (n,); the root is its own."""
        nodes = torch.tensor([ROOT], device=self.node_token.device)
        levels = [(nodes, nodes)]
        while True:
            rows, places = ragged(self.node_fanout[nodes].long())
            if len(rows) == 0:
                return levels
            parents = nodes[rows]
            nodes = self.node_link[parents].long() + places
            levels.append((nodes, parents))

    def is_leaf(self, nodes: torch.Tensor) -> torch.Tensor:
        """Return which nodes have a single sequence below them, same shape (...)."""
        return self.node_fanout[nodes] == 0

    def tails(self, nodes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the starts of leaves' tails in `tail_token` and their lengths, 0 for inner nodes; same shape (...)."""
        numbers = torch.where(self.is_leaf(nodes), self.node_link[nodes].long(), 0)
        starts = self.tail_start[numbers].long()
        return starts, torch.where(self.is_leaf(nodes), self.tail_start[numbers + 1].long() - starts, 0)


def ragged(counts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Enumerate ragged rows: for each entry its row, and its index in the row, both (entries,).

    Args:
        counts: entries of each row (n,).

    Examples:
        >>> ragged(torch.tensor([2, 0, 3]))
        (tensor([0, 0, 2, 2, 2]), tensor([0, 1, 0, 1, 2]))
    """
    rows = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)
    starts = counts.cumsum(0) - counts
    return rows, torch.arange(len(rows), device=counts.device) - starts[rows]


def expand(trie: TrieTensors, nodes: torch.Tensor, live: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return all continuations by one token: the children of inner nodes; a leaf continues along its own tail.

    Args:
        trie: the prefix tree.
        nodes: node numbers (n,).
        live: which of them to expand (n,).

    Returns:
        For each continuation, the index of the node it continues and the node it leads to, both (c,).
    """
    fanout = trie.node_fanout[nodes].long()
    first = torch.where(fanout > 0, trie.node_link[nodes].long(), nodes)
    owners, places = ragged(fanout.clamp(min=1) * live)
    return owners, first[owners] + places
