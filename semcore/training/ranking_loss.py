"""Ranking loss over the identifiers that a search found (AVG, section 3.2, equations 8 to 10).

With s(d) = log p(d | q), the sum over the identifier's tokens and the end token,

    contrastive:  L = -log softmax(s / T)_right     over the right identifier and the found ones that are not it
    hinge:        L = max(0, s_found - s_right + margin)     for one found identifier

AVG's released code gives softmax(s) to a cross-entropy, which takes the softmax again; the gradient is then smaller by
a factor from 11 to 1,500. This is the paper's formula. Where a query has several right identifiers, as an image has
sentences, their probabilities are summed: s_right is the log-sum-exp.

Shapes: E candidates of all queries.
"""

from __future__ import annotations

import torch
from torch.nn import functional

from semcore.training.objective import Ranking


def ranking_loss(log_probs: torch.Tensor, query: torch.Tensor, right: torch.Tensor, ranking: Ranking) -> torch.Tensor:
    """Return the sum over all queries, (). A query to which nothing wrong was found adds nothing.

    Args:
        log_probs: log p(identifier | query) of every candidate (E,).
        query: number of the query that each is a candidate of (E,).
        right: whether it is a right one (E,).
        ranking: which loss, with temperature or margin.
    """
    num_queries = int(query.max()) + 1 if len(query) else 0
    if ranking.loss == "hinge":
        rights = _log_sums(log_probs.masked_fill(~right, -torch.inf), query, num_queries)
        return functional.relu(log_probs - rights[query] + ranking.margin)[~right].sum()
    scores = log_probs / ranking.temperature
    present = query.unique()
    among_all = _log_sums(scores, query, num_queries)
    of_right = _log_sums(scores.masked_fill(~right, -torch.inf), query, num_queries)
    return (among_all - of_right)[present].sum()


def _log_sums(scores: torch.Tensor, query: torch.Tensor, num_queries: int) -> torch.Tensor:
    """Return the log-sum-exp of each query's scores, (queries,); every query has a finite one."""
    lowest = torch.finfo(scores.dtype).min
    largest = scores.new_full((num_queries,), lowest).scatter_reduce(0, query, scores.detach(), "amax")
    sums = scores.new_zeros(num_queries).index_add(0, query, (scores - largest[query]).exp())
    return sums.log() + largest
