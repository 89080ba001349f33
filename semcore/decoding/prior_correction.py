"""Taking a share of the identifiers' prior off the scores of a search, as its paths get longer.

An identifier that is likely whatever is asked outranks the right one: p(identifier | query) carries the identifier's
own probability. The corrected score, log p(identifier | query) - weight * log p(identifier), takes that off; the paper
does not. A path's score is corrected by the prior of the prefix it has written, so that paths compete as they will in
the end. Such scores may rise, so what a path can still gain is known for every node.

Shapes: E nodes and t tail tokens of the prefix tree, S sequences, Q queries, B beams, c continuations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from semcore.decoding.beam_state import Beams, Continuations
from semcore.decoding.forward_rows import TailRows
from semcore.decoding.index import IdentifierIndex
from semcore.decoding.trie import ROOT, STOP, Trie
from semcore.decoding.trie_reading import leaf_nodes, list_sequences, parents_of, ragged_places
from semcore.decoding.trie_tensors import TrieTensors

Priors = Mapping[tuple[int, ...], NDArray[np.float64]]
"""Token sequence -> log p of each of its prefixes, the whole sequence last (its length,)."""

SLACK = 1e-4
"""What bounds are raised by: sums of some tens of log-probabilities in float32 are right to about 1e-5."""


@dataclass(frozen=True)
class Correction:
    """What a search adds to the scores of its paths: -weight * log p, as the path gets longer."""

    node_gain: torch.Tensor
    """Added on the way into a node, float32 (E,)."""
    tail_gain: torch.Tensor
    """Added for a token of a tail, float32 (t,)."""
    node_bound: torch.Tensor
    """The most that can still be added below a node, float32 (E,)."""
    tail_bound: torch.Tensor
    """What will still be added behind a token of a tail, float32 (t,)."""

    node_total: torch.Tensor
    """What is added to a whole path, by the leaf that it ends on, float32 (E,)."""

    def start(self) -> None:
        """Return nothing."""

    def of_steps(self, trie: TrieTensors, beams: Beams, steps: Continuations) -> torch.Tensor:
        """Return what each step adds (c,)."""
        return self.node_gain[steps.nodes]

    def of_tails(self, trie: TrieTensors, beams: Beams, tails: TailRows) -> torch.Tensor:
        """Return what each token of a tail adds (t,)."""
        starts, _ = trie.tails(beams.nodes.flatten()[tails.beams])
        return self.tail_gain[starts + tails.places]

    def bound(self, trie: TrieTensors, beams: Beams) -> torch.Tensor:
        """Return the most that each path can still gain from the correction (Q, B)."""
        nodes, tail_used = beams.nodes, beams.tail_used
        starts, _ = trie.tails(nodes)
        inside = tail_used > 0
        behind = self.tail_bound[(starts + tail_used - 1)[inside]]
        return self.node_bound[nodes].masked_scatter(inside, behind) + SLACK

    def total(self, trie: TrieTensors, leaves: torch.Tensor) -> torch.Tensor:
        """Return the correction of whole paths (Q, B)."""
        return self.node_total[leaves]


def correction_of(index: IdentifierIndex, priors: Priors, weight: float) -> Correction:
    """Lay a share of the priors out along the prefix tree of an index.

    Args:
        index: the identifiers.
        priors: of all of them, from `estimate_priors`.
        weight: how much of the prior is taken off, 0 or more.

    Raises:
        KeyError: an identifier has no prior.
        ValueError: the weight is negative.
    """
    if weight < 0:
        raise ValueError(f"the weight of a prior must be 0 or more, found {weight}")
    node, least, tail, rest = _along_the_tree(index, priors)
    parents = parents_of(index.trie)
    columns = (-weight * (node - np.where(parents >= 0, node[parents], 0.0)), -weight * tail)
    bounds = (weight * (node - least), weight * rest)
    laid_out = (*columns, *bounds, -weight * least)  # a leaf has one sequence below it, so its least is its own
    return Correction(*(torch.from_numpy(column.astype(np.float32)).to(index.device) for column in laid_out))


def _along_the_tree(index: IdentifierIndex, priors: Priors) -> tuple[NDArray[np.float64], ...]:
    """Return the prior of each node and the least below it (E,), of each tail token its own and what is behind (t,).

    What sequences say of a prefix that they share may differ in the last digits, so the last one's counts; a leaf has
    its own sequence's, and so every path ends with its own prior.
    """
    trie = index.trie
    flat, numbers = list_sequences(trie)
    values = np.concatenate([priors[sequence] for sequence in index.sequences()])
    totals, starts = values[flat.offsets[1:] - 1], flat.offsets[:-1]
    tail_lengths = (trie.tail_start[numbers + 1] - trie.tail_start[numbers]).astype(np.int64)
    heads = flat.lengths - tail_lengths
    node, least = _node_priors(trie, numbers, values, starts + heads - 1, totals)
    places = ragged_places(trie.tail_start[numbers].astype(np.int64), tail_lengths)
    behind = ragged_places(starts + heads, tail_lengths)
    tail, rest = np.zeros(len(trie.tail_token)), np.zeros(len(trie.tail_token))
    tail[places] = values[behind] - values[behind - 1]
    rest[places] = values[behind] - np.repeat(totals, tail_lengths)
    return node, least, tail, rest


def _node_priors(
    trie: Trie,
    numbers: NDArray[np.int64],
    values: NDArray[np.float64],
    places: NDArray[np.int64],
    totals: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Walk from the leaves up to the root, all at once.

    Args:
        trie: the prefix tree.
        numbers: of the sequences (S,).
        values: prior of each prefix of each sequence.
        places: where in `values` the prefix down to each sequence's leaf stands (S,).
        totals: prior of each whole sequence (S,).
    """
    parents, nodes = parents_of(trie), leaf_nodes(trie)[numbers]
    node, least = np.zeros(len(trie.node_token)), np.zeros(len(trie.node_token))  # no log-probability is above 0
    while len(nodes):
        np.minimum.at(least, nodes, totals)
        inside = nodes != ROOT
        nodes, places, totals = nodes[inside], places[inside], totals[inside]
        node[nodes] = values[places]
        places = places - (trie.node_token[nodes] != STOP)
        nodes = parents[nodes]
    return node, least
