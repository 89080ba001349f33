"""State of a beam search as tensors: unfinished paths, finished ones, and the selection among them.

Shapes: Q queries, B beams, D depth so far (tokens since the prompt), W the longest identifier, C candidates per query,
c candidates in all.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch

from semcore.decoding.trie import ROOT, STOP
from semcore.decoding.trie_tensors import TrieTensors, expand


@dataclass(frozen=True)
class Beams:
    """The B best unfinished paths of each query, all of the same depth D, in the order of their tokens.

    A path is at an inner node, or along the tail of a leaf. The rest of a tail may be scored in one pass, but the path
    still competes token by token, so the result is that of a step-by-step search.
    """

    scores: torch.Tensor
    """Sums of log-probabilities (Q, B); -inf marks an empty entry."""
    nodes: torch.Tensor
    """Node of the prefix tree (Q, B)."""
    paths: torch.Tensor
    """Dense tokens down to the node, padded with -1 (Q, B, W)."""
    slots: torch.Tensor
    """Cache positions after the prompt of the path's tokens except the last (Q, B, D - 1)."""
    tail_scores: torch.Tensor
    """Score after each tail token, as far as computed, for paths on a leaf (Q, B, W)."""
    tail_used: torch.Tensor
    """How many tokens of the tail the path has taken (Q, B)."""
    tail_known: torch.Tensor
    """How many tokens of the tail are scored; 0 on inner nodes (Q, B)."""


@dataclass(frozen=True)
class Finished:
    """The best whole identifiers of each query so far, best first."""

    scores: torch.Tensor
    """(Q, B); -inf marks an empty entry."""
    nodes: torch.Tensor
    """Leaf (Q, B)."""
    paths: torch.Tensor
    """Dense tokens down to the leaf, padded with -1 (Q, B, W)."""


class Continuations(NamedTuple):
    """All continuations of the beams by one token."""

    owners: torch.Tensor
    """The continued beam, as its number q * B + b (c,)."""
    nodes: torch.Tensor
    """The node it leads to; along a tail this is the same leaf (c,)."""
    branching: torch.Tensor
    """Whether it starts at an inner node, not along a tail (c,)."""


@dataclass(frozen=True)
class Candidates:
    """The continuations with their scores, padded to C per query."""

    scores: torch.Tensor
    """(Q, C); -inf pads."""
    parents: torch.Tensor
    """The beam it continues (Q, C)."""
    nodes: torch.Tensor
    """The node it leads to (Q, C)."""
    whole: torch.Tensor
    """Whether it is a whole identifier (Q, C)."""


def start(num_queries: int, num_beams: int, width: int, device: torch.device) -> tuple[Beams, Finished]:
    """Return beams (Q, B) that hold only the root, and nothing finished."""
    shape = (num_queries, num_beams)
    scores = torch.full(shape, -torch.inf, device=device)
    nodes = torch.full(shape, ROOT, device=device)
    paths = torch.full((*shape, width), STOP, device=device)
    finished = Finished(scores, nodes, paths)
    live = scores.clone()
    live[:, 0] = 0.0
    slots = torch.empty((*shape, 0), dtype=torch.long, device=device)
    return Beams(live, nodes, paths, slots, torch.zeros((*shape, width), device=device), nodes, nodes), finished


def continuations(trie: TrieTensors, beams: Beams) -> Continuations:
    """Return all continuations (c,) of the beams by one token."""
    beam_nodes = beams.nodes.flatten()
    owners, nodes = expand(trie, beam_nodes, (beams.scores > -torch.inf).flatten())
    return Continuations(owners, nodes, ~trie.is_leaf(beam_nodes)[owners])


def candidates(trie: TrieTensors, beams: Beams, steps: Continuations, gains: torch.Tensor) -> Candidates:
    """Score the continuations and arrange them by query, (Q, C).

    Args:
        trie: the prefix tree.
        beams: the paths continued.
        steps: their continuations.
        gains: log-probability of each one's token; unused for steps along a tail (c,).
    """
    num_queries, num_beams = beams.scores.shape
    owners, nodes = steps.owners, steps.nodes
    used = beams.tail_used.flatten()[owners]
    along_tail = beams.tail_scores.flatten(0, 1)[owners, used]
    scores = torch.where(steps.branching, beams.scores.flatten()[owners] + gains, along_tail)
    _, tail_lengths = trie.tails(nodes)
    whole = trie.is_leaf(nodes) & (tail_lengths == used + ~steps.branching)

    queries = owners // num_beams
    counts = torch.bincount(queries, minlength=num_queries)
    places = torch.arange(len(owners), device=owners.device) - (counts.cumsum(0) - counts)[queries]
    width = max(int(counts.max()), num_beams)

    def laid_out(values: torch.Tensor, filler: float) -> torch.Tensor:
        rows = torch.full((num_queries, width), filler, dtype=values.dtype, device=values.device)
        return rows.index_put_((queries, places), values)

    return Candidates(
        laid_out(scores, -torch.inf), laid_out(owners % num_beams, 0), laid_out(nodes, ROOT), laid_out(whole, False)
    )


def survivors(trie: TrieTensors, beams: Beams, found: Candidates, depth: int) -> Beams:
    """Keep the B best candidates that are not whole identifiers, with the state of their paths.

    Args:
        trie: the prefix tree.
        beams: the paths before.
        found: their continuations.
        depth: tokens since the prompt before this one, D.
    """
    best = _best(trie, beams, found, ~found.whole, depth)
    return Beams(
        best.scores,
        best.nodes,
        best.paths,
        _of(beams.slots, best.parents),
        _of(beams.tail_scores, best.parents),
        torch.where(best.from_leaf, beams.tail_used.gather(1, best.parents) + 1, 0),
        beams.tail_known.gather(1, best.parents),
    )


def collect(trie: TrieTensors, beams: Beams, found: Candidates, finished: Finished, depth: int) -> Finished:
    """Merge the candidates that are whole identifiers into the finished ones; arguments as for `survivors`."""
    best = _best(trie, beams, found, found.whole, depth)
    return merge(finished, Finished(best.scores, best.nodes, best.paths))


def follow_tails(trie: TrieTensors, beams: Beams, finished: Finished) -> Finished:
    """Finish the beams when all of them are on tails already scored: none can displace another any more."""
    _, lengths = trie.tails(beams.nodes)
    ends = beams.tail_scores.gather(2, (lengths - 1).clamp(min=0)[..., None])[..., 0]
    scores = ends.masked_fill(beams.scores == -torch.inf, -torch.inf)
    return merge(finished, Finished(scores, beams.nodes, beams.paths))


def with_slots(beams: Beams, slots: torch.Tensor) -> Beams:
    """Set the cache positions of each path's last token (Q, B)."""
    return replace(beams, slots=torch.cat([beams.slots, slots[..., None]], dim=2))


def with_tails(beams: Beams, owners: torch.Tensor, places: torch.Tensor, gains: torch.Tensor) -> Beams:
    """Set the scores along tails that have just been read.

    Args:
        beams: the paths; those named in `owners` are on a leaf.
        owners: beam of each tail token, as its number q * B + b (n,).
        places: its index in the tail (n,); consecutive within a beam, starting where the path is.
        gains: its log-probability (n,).
    """
    steps = torch.zeros_like(beams.tail_scores).flatten(0, 1)
    steps[owners, places] = gains
    sums = steps.cumsum(dim=1) + beams.scores.flatten()[:, None]
    known = beams.tail_known.flatten().clone().scatter_reduce_(0, owners, places + 1, "amax")
    fresh = torch.zeros(len(steps), dtype=torch.bool, device=steps.device).index_fill_(0, owners, True)
    return replace(
        beams,
        tail_scores=torch.where(fresh[:, None], sums, beams.tail_scores.flatten(0, 1)).view_as(beams.tail_scores),
        tail_known=known.view_as(beams.tail_known),
    )


def merge(first: Finished, second: Finished) -> Finished:
    """Return the B best of two lists of finished paths; among equal scores those of the first list come first."""
    scores, picked = torch.cat([first.scores, second.scores], dim=1).sort(dim=1, descending=True, stable=True)
    scores, picked = (columns[:, : first.scores.shape[1]] for columns in (scores, picked))
    nodes = torch.cat([first.nodes, second.nodes], dim=1).gather(1, picked)
    return Finished(scores, nodes, _of(torch.cat([first.paths, second.paths], dim=1), picked))


def prune(beams: Beams, finished: Finished, top_k: int) -> Beams:
    """Drop the paths below the k-th finished one: scores only fall, so they cannot come back."""
    hopeless = beams.scores < finished.scores[:, top_k - 1, None]
    return replace(beams, scores=beams.scores.masked_fill(hopeless, -torch.inf))


class _Best(NamedTuple):
    scores: torch.Tensor
    nodes: torch.Tensor
    paths: torch.Tensor
    parents: torch.Tensor
    from_leaf: torch.Tensor


def _best(trie: TrieTensors, beams: Beams, found: Candidates, kind: torch.Tensor, depth: int) -> _Best:
    """Select the B best candidates of a kind, in their order, and write their tokens into their paths.

    A `STOP` adds no token, and steps along a tail are not written: the leaf has its tail.
    """
    scores = found.scores.masked_fill(~kind, -torch.inf)
    picked = first_of_best(scores, beams.scores.shape[1])
    scores = scores.gather(1, picked)
    parents, nodes = found.parents.gather(1, picked), found.nodes.gather(1, picked)
    from_leaf = trie.is_leaf(beams.nodes.gather(1, parents))
    paths = _of(beams.paths, parents)
    if depth < paths.shape[2]:
        tokens = trie.node_token[nodes].to(paths.dtype)
        paths[..., depth] = torch.where(from_leaf, paths[..., depth], tokens)
    return _Best(scores, nodes, paths, parents, from_leaf)


def first_of_best(scores: torch.Tensor, most: int) -> torch.Tensor:
    """Return the columns (Q, most) of the greatest scores of each row, ascending; among equal scores the first ones.

    `topk` does not define which of equal scores it returns, and differs between devices.

    Args:
        scores: (Q, C).
        most: how many of the C columns.

    Examples:
        >>> first_of_best(torch.tensor([[1.0, 3.0, 2.0, 2.0, 2.0]]), 3)
        tensor([[1, 2, 3]])
    """
    least = scores.topk(most, dim=1).values[:, -1:]
    above, equal = scores > least, scores == least
    room = most - above.sum(dim=1, keepdim=True)
    chosen = above | (equal & (equal.cumsum(dim=1) <= room))
    return chosen.nonzero()[:, 1].view(len(scores), most)


def _of(values: torch.Tensor, parents: torch.Tensor) -> torch.Tensor:
    """Gather the rows of the parents: (Q, B, W) by (Q, C) -> (Q, C, W)."""
    return values.gather(1, parents[..., None].expand(-1, -1, values.shape[2]))
