"""Guides of a beam search: what is known of a query before the first token is written, added to its paths.

Three forms, after ComGTIR. Write p(n) for the probability of a prefix n, h(t) >= 0 for a query's weight of token t and
s(m) for its score of a whole identifier m.

    look-ahead   log p(n) + w * (the best s(m) of all m below n)                   its paper, equations 12 and 13; PAG
    tokens       log p(n) + w * (the sum of h over the tokens of n)                the same without looking ahead
    released     as its released code does it: each token adds (lp + lt, the first one lp) * h(t), and with every token
                 after the first what lies below the prefix before it: the best s(m) / (M * tau) of the n best m

With look-ahead a score only falls along a path, since the best below a child is no better than the best below its
parent: pruning and reading ahead stay exact. A score of -inf excludes an identifier. The other two may rise, so no path
is dropped early.

Shapes: Q queries, B beams, E nodes, S sequences, V tokens in use, c continuations, t tokens of tails.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch

from semcore.decoding.beam_state import Beams, Continuations
from semcore.decoding.forward_rows import TailRows
from semcore.decoding.index import IdentifierIndex
from semcore.decoding.potentials import potentials
from semcore.decoding.trie import ROOT, STOP
from semcore.decoding.trie_tensors import TrieTensors, ragged
from semcore.runtime.errors import UserError

GuideMode = Literal["lookahead", "tokens", "released"]
MODES: tuple[GuideMode, ...] = get_args(GuideMode)
TOKEN_WEIGHT, PREFIX_WEIGHT, TAU, BEST = 0.5, 1.0, 8.0, 500
"""ComGTIR's settings of the released form: lt, lp, tau and how many identifiers are looked at [its test_tir.py]."""


@dataclass(frozen=True)
class LookAhead:
    """The best score below each node."""

    potential: torch.Tensor
    """With its weight, float32 (Q, E)."""

    def start(self) -> torch.Tensor:
        """Return the best score of all identifiers (Q,)."""
        return self.potential[:, ROOT]

    def of_steps(self, trie: TrieTensors, beams: Beams, steps: Continuations) -> torch.Tensor:
        """Return how much less the best below the child is than that below its parent (c,)."""
        queries, parents = _origins(beams, steps)
        return self.potential[queries, steps.nodes] - self.potential[queries, parents]

    def of_tails(self, trie: TrieTensors, beams: Beams, tails: TailRows) -> torch.Tensor:
        """Return zeros (t,): the leaf has had its own score."""
        return torch.zeros(len(tails.rows), device=self.potential.device)

    def bound(self, trie: TrieTensors, beams: Beams) -> float:
        """Return 0: the best below a node only falls."""
        return 0.0

    def total(self, trie: TrieTensors, leaves: torch.Tensor) -> torch.Tensor:
        """Return the score of each leaf's identifier (Q, B)."""
        return self.potential.gather(1, leaves)


@dataclass(frozen=True)
class TokenByToken:
    """What each token adds."""

    node_gain: torch.Tensor
    """On the way into each node, float32 (Q, E)."""
    token_gain: torch.Tensor
    """For each token of a tail, float32 (Q, V)."""
    tail_gain: torch.Tensor
    """For each token of a tail too, by its leaf (Q, E)."""
    first_gain: torch.Tensor
    """For the first token of all instead of the last two, where the tree has only one sequence (Q, V)."""

    def start(self) -> None:
        """Return nothing."""

    def of_steps(self, trie: TrieTensors, beams: Beams, steps: Continuations) -> torch.Tensor:
        """Return what each step's token adds (c,)."""
        queries, _ = _origins(beams, steps)
        return self.node_gain[queries, steps.nodes]

    def of_tails(self, trie: TrieTensors, beams: Beams, tails: TailRows) -> torch.Tensor:
        """Return what each token of a tail adds (t,)."""
        leaves = beams.nodes.flatten()[tails.beams]
        return self._along(tails.beams // beams.nodes.shape[1], leaves, tails.tokens, tails.places)

    def bound(self, trie: TrieTensors, beams: Beams) -> None:
        """Return nothing: the next token may add anything."""

    def total(self, trie: TrieTensors, leaves: torch.Tensor) -> torch.Tensor:
        """Return the sums along whole paths (Q, B)."""
        sums = torch.zeros_like(self.node_gain)
        for children, parents in trie.levels[1:]:
            sums[:, children] = sums[:, parents] + self.node_gain[:, children]
        num_queries, num_beams = leaves.shape
        flat = leaves.flatten()
        starts, lengths = trie.tails(flat)
        owners, places = ragged(lengths)
        tokens = trie.tail_token[starts[owners] + places].long()
        along = self._along(owners // num_beams, flat[owners], tokens, places)
        tails = torch.zeros(len(flat), device=flat.device).index_add(0, owners, along)
        return sums.gather(1, leaves) + tails.view(num_queries, num_beams)

    def _along(
        self, queries: torch.Tensor, leaves: torch.Tensor, tokens: torch.Tensor, places: torch.Tensor
    ) -> torch.Tensor:
        """Return what tokens of tails add (t,); the arguments are one a token, (t,)."""
        later = self.token_gain[queries, tokens] + self.tail_gain[queries, leaves]
        return torch.where((leaves == ROOT) & (places == 0), self.first_gain[queries, tokens], later)


def look_ahead(index: IdentifierIndex, sequence_scores: torch.Tensor, weight: float = 1.0) -> LookAhead:
    """Guide a search by the best score below each prefix.

    Args:
        index: the identifiers.
        sequence_scores: s, by the sequence's number, -inf excludes it (Q, S), from `best_by_sequence` say.
        weight: of the scores, 0 or more; -inf stays -inf.

    Raises:
        ValueError: the weight is negative.
    """
    if weight < 0:
        raise ValueError(f"the weight of a guide must be 0 or more, found {weight}")
    best = potentials(index.tensors, sequence_scores)
    return LookAhead(best.masked_fill(best > -torch.inf, 0.0) if weight == 0 else weight * best)


def token_by_token(index: IdentifierIndex, weights: torch.Tensor, weight: float = 1.0) -> TokenByToken:
    """Guide a search by the sum of the weights of the tokens written so far.

    Args:
        index: the identifiers.
        weights: h of each token in use (Q, V), from `weights_in_use`.
        weight: of the sum.
    """
    tokens = weight * weights
    return TokenByToken(_into_nodes(index.tensors, tokens), tokens, _zeros(index.tensors, tokens), tokens)


def released_form(
    index: IdentifierIndex,
    weights: torch.Tensor,
    *,
    prefix_weight: float = PREFIX_WEIGHT,
    token_weight: float = TOKEN_WEIGHT,
    tau: float = TAU,
    best: int = BEST,
) -> TokenByToken:
    """Guide a search as ComGTIR's released code does.

    Args:
        index: identifiers of one length.
        weights: h of each token in use (Q, V), from `weights_in_use`; 0 for the end token.
        prefix_weight: lp.
        token_weight: lt.
        tau: divides what is looked ahead.
        best: how many identifiers are looked at, those of the greatest s.

    Raises:
        UserError: the identifiers' lengths differ: a longer one would gain with every token.
    """
    trie = index.tensors
    lengths = sorted({len(sequence) for sequence in index.sequences()})
    if len(lengths) > 1:
        raise UserError(
            f"guide mode released needs identifiers of one length, found {lengths[0]} to {lengths[-1]} tokens, of "
            "which the longer would gain by their length alone; use mode lookahead"
        )
    scores = sequence_sums(index, weights)
    kept = scores.topk(min(best, scores.shape[1]), dim=1).indices
    ahead = torch.zeros_like(scores).scatter(1, kept, scores.gather(1, kept) / (max(lengths[0] - 1, 1) * tau))
    below = potentials(trie, ahead)
    first, later = prefix_weight * weights, (prefix_weight + token_weight) * weights
    gains = _into_nodes(trie, later)
    for children, _ in trie.levels[1:2]:
        gains[:, children] = _into_nodes(trie, first)[:, children]
    for children, parents in trie.levels[2:]:
        gains[:, children] += below[:, parents]
    return TokenByToken(gains, later, below, first)


def weights_in_use(index: IdentifierIndex, tokens: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Return the weights of the tokens that the index uses, 0 for those without one (Q, V).

    Args:
        index: the identifiers.
        tokens: token ids, each once (U,).
        weights: of these tokens for each query (Q, U).
    """
    vocabulary = index.tensors.vocabulary
    places = torch.searchsorted(vocabulary, tokens.to(index.device)).clamp(max=len(vocabulary) - 1)
    known = vocabulary[places] == tokens.to(index.device)
    laid = torch.zeros((len(weights), len(vocabulary)), device=index.device)
    laid[:, places[known]] = weights.to(index.device).float()[:, known]
    return laid


def sequence_sums(index: IdentifierIndex, weights: torch.Tensor) -> torch.Tensor:
    """Return s, the sum of the weights over each sequence's tokens, by its number, -inf for unused numbers (Q, S).

    Args:
        index: the identifiers.
        weights: h of each token in use (Q, V).
    """
    trie = index.tensors
    leaves = torch.cat([nodes[trie.is_leaf(nodes)] for nodes, _ in trie.levels])
    sums = torch.full((len(weights), index.trie.num_sequences), -torch.inf, device=index.device)
    sums[:, trie.node_link[leaves].long()] = token_by_token(index, weights).total(trie, leaves.expand(len(weights), -1))
    return sums


def _origins(beams: Beams, steps: Continuations) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the query and the node from which each step starts, both (c,)."""
    return steps.owners // beams.nodes.shape[1], beams.nodes.flatten()[steps.owners]


def _zeros(trie: TrieTensors, weights: torch.Tensor) -> torch.Tensor:
    """Return zeros (Q, E), which take no memory."""
    return weights.new_zeros(1, 1).expand(len(weights), len(trie.node_token))


def _into_nodes(trie: TrieTensors, weights: torch.Tensor) -> torch.Tensor:
    """Return the weight of the token on the way into each node, 0 for a `STOP` (Q, E)."""
    tokens = trie.node_token.long()
    return weights[:, tokens.clamp(min=0)].masked_fill(tokens == STOP, 0.0)
