"""Rows of one forward pass over the beams: their tokens, positions and attention masks.

A path needs its last token read, to score its continuations. On a leaf only the tail can follow, so the tail may be
read with it and scored at once; the path then needs no further pass. Speculatively scoring a tail is wasted when its
beam is pruned, so it is done only when few continuations compete.

Shapes: Q queries, B beams, R rows per query (padded), n rows in all, D depth, S tokens cached after the prompt.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from semcore.decoding.beam_state import Beams
from semcore.decoding.trie_tensors import TrieTensors, ragged

FEW = 1.5
"""Continuations per beam up to which tails are read to their end.

Measured on 100,000 synthetic identifiers, two queries, 20 beams: 315 rows are read without a limit, 279 with 2, 255
with 1.5 or 1.25, 244 with 1, whose passes are smaller and no faster in all. Below 1 some tails would never be read.
"""


@dataclass(frozen=True)
class Rows:
    """The rows of one pass."""

    beams: torch.Tensor
    """The beam each row belongs to, as its number q * B + b (n,)."""
    places: torch.Tensor
    """Number of tail tokens up to and including the row's own; 0 on inner nodes (n,)."""
    queries: torch.Tensor
    """The query of each row (n,)."""
    columns: torch.Tensor
    """Index of the row among its query's (n,)."""
    first_row: torch.Tensor
    """Row of each beam's last token, for beams that have one (Q * B,)."""
    slots: torch.Tensor
    """Cache position after the prompt of each beam's last token (Q, B)."""
    tokens: torch.Tensor
    """Token ids, 0 pads (Q, R)."""
    depths: torch.Tensor
    """Tokens between the prompt and each row (Q, R)."""
    visible: torch.Tensor
    """The cached and new tokens that each row attends to, bool (Q, R, S + R)."""


@dataclass(frozen=True)
class TailRows:
    """The rows that predict a token of a tail, t of them."""

    rows: torch.Tensor
    """Index of the row (t,)."""
    tokens: torch.Tensor
    """Dense token it predicts (t,)."""
    beams: torch.Tensor
    """Beam it belongs to, as its number q * B + b (t,)."""
    places: torch.Tensor
    """Index of the token in the tail (t,)."""


def rows_to_read(trie: TrieTensors, beams: Beams, num_cached: int) -> Rows | None:
    """Return the rows that the beams need; None if there are none.

    Args:
        trie: the prefix tree.
        beams: paths of depth D, at least 1.
        num_cached: tokens cached after the prompt, S.
    """
    counts = _num_rows(trie, beams)
    owners, steps = ragged(counts.flatten())
    if len(owners) == 0:
        return None
    num_queries, num_beams = counts.shape
    first_column = counts.cumsum(dim=1) - counts
    queries, columns = owners // num_beams, first_column.flatten()[owners] + steps
    places = beams.tail_used.flatten()[owners] + steps
    shape = (num_queries, int(counts.sum(dim=1).max()))

    def laid_out(values: torch.Tensor, filler: int) -> torch.Tensor:
        return torch.full(shape, filler, device=values.device).index_put_((queries, columns), values)

    depth = beams.slots.shape[2]
    tokens = laid_out(trie.vocabulary[_tokens(trie, beams, owners, places)], 0)
    visible = torch.zeros((*shape, num_cached + shape[1]), dtype=torch.bool, device=counts.device)
    ancestors = beams.slots.flatten(0, 1)[owners]
    visible[queries[:, None], columns[:, None], ancestors] = True
    of_beam = laid_out(owners, -1)
    visible[..., num_cached:] = (of_beam[:, :, None] == of_beam[:, None, :]).tril()
    return Rows(
        beams=owners,
        places=places,
        queries=queries,
        columns=columns,
        first_row=counts.flatten().cumsum(0) - counts.flatten(),
        slots=num_cached + first_column,
        tokens=tokens,
        depths=laid_out(depth + steps, 0),
        visible=visible,
    )


def tail_rows(trie: TrieTensors, beams: Beams, rows: Rows) -> TailRows:
    """Return the rows that predict the tokens of tails."""
    nodes = beams.nodes.flatten()[rows.beams]
    chosen = trie.is_leaf(nodes).nonzero()[:, 0]
    starts, _ = trie.tails(nodes[chosen])
    places = rows.places[chosen]
    return TailRows(chosen, trie.tail_token[starts + places].long(), rows.beams[chosen], places)


def _num_rows(trie: TrieTensors, beams: Beams) -> torch.Tensor:
    """Return how many rows each beam needs (Q, B)."""
    live, leaves = beams.scores > -torch.inf, trie.is_leaf(beams.nodes)
    continuations = (trie.node_fanout[beams.nodes].clamp(min=1) * live).sum(dim=1, keepdim=True)
    few = continuations <= FEW * live.shape[1]
    rest = trie.tails(beams.nodes)[1] - beams.tail_used
    on_leaf = torch.where(few, rest, 1) * (beams.tail_known == beams.tail_used)
    return torch.where(leaves, on_leaf, 1) * live


def _tokens(trie: TrieTensors, beams: Beams, owners: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Return the dense token each row reads (n,)."""
    nodes = beams.nodes.flatten()[owners]
    tokens = trie.node_token[nodes].long()
    inside = places > 0
    starts, _ = trie.tails(nodes[inside])
    tokens[inside] = trie.tail_token[starts + places[inside] - 1].long()
    return tokens
