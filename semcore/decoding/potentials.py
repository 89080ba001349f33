"""Potentials of a prefix tree: for each node the best score of the identifiers below it.

Shapes: Q queries, N items, S sequences, E nodes of the prefix tree.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from semcore.decoding.index import IdentifierIndex
from semcore.decoding.trie_tensors import TrieTensors
from semcore.runtime.errors import UserError

NODES_AT_A_TIME = 2**25
"""Queries times nodes whose potentials are held at once, 128 MB."""


def queries_at_a_time(index: IdentifierIndex, batch_size: int) -> int:
    """Return how many queries may be searched at once with potentials: the batch, or fewer in a large tree.

    Args:
        index: the identifiers.
        batch_size: what is wanted.
    """
    return max(1, min(batch_size, NODES_AT_A_TIME // len(index.trie.node_token)))


def potentials(trie: TrieTensors, sequence_scores: torch.Tensor) -> torch.Tensor:
    """Return the best score of the sequences below each node, (Q, E); a leaf has its own sequence's.

    A node that no path from the root leads to has -inf.

    Args:
        trie: the prefix tree.
        sequence_scores: of every sequence, by its number in the tree, -inf excludes it (Q, S).
    """
    num_queries = len(sequence_scores)
    best = torch.full((num_queries, len(trie.node_token)), -torch.inf, device=sequence_scores.device)
    for children, _ in trie.levels:
        leaves = children[trie.is_leaf(children)]
        best[:, leaves] = sequence_scores[:, trie.node_link[leaves].long()].float()
    for children, parents in reversed(trie.levels[1:]):
        best.scatter_reduce_(1, parents.expand(num_queries, -1), best[:, children], "amax")
    return best


class ItemSequences(NamedTuple):
    """The sequences of some items, a pair for each sequence of each item, on the index's device."""

    items: torch.Tensor
    """Place of the item (pairs,)."""
    numbers: torch.Tensor
    """Number of the sequence in the index (pairs,)."""


def sequences_of_items(index: IdentifierIndex, item_ids: Sequence[str]) -> ItemSequences:
    """Return the sequences of N items.

    Args:
        index: holds the items.
        item_ids: in the order of the scores that are to be laid out by `best_by_sequence`.

    Raises:
        UserError: an item is not in the index.
    """
    numbers = index.sequence_numbers()
    if missing := [item_id for item_id in item_ids if item_id not in numbers]:
        raise UserError(f"{len(missing)} items are not in the index, the first is {missing[0]!r}: index them first")
    pairs = [(place, number) for place, item_id in enumerate(item_ids) for number in numbers[item_id]]
    return ItemSequences(*torch.tensor(pairs, device=index.device).reshape(-1, 2).unbind(1))


def best_by_sequence(index: IdentifierIndex, sequences: ItemSequences, item_scores: torch.Tensor) -> torch.Tensor:
    """Return for each sequence the best score of its items (Q, S); -inf where none of them is among the items.

    Args:
        index: the identifiers.
        sequences: of the items, from `sequences_of_items`.
        item_scores: on any device (Q, N).
    """
    scores = item_scores.to(index.device).float()[:, sequences.items]
    best = torch.full((len(scores), index.trie.num_sequences), -torch.inf, device=index.device)
    return best.scatter_reduce_(1, sequences.numbers.expand(len(scores), -1), scores, "amax")
