"""The prior of identifiers: how probable each is over all queries.

The prior is kept for every prefix of an identifier, so that a search can take it off token by token
(`semcore.decoding.prior_correction`).

Shapes: Q queries, T tokens of all sequences.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semcore.decoding.exhaustive import NODES_PER_PASS, token_log_probabilities
from semcore.decoding.index import IdentifierIndex
from semcore.decoding.scoring import Normalization
from semcore.decoding.token_sequences import offsets_of


def estimate_priors(
    model: Any,
    batches: Iterable[Mapping[str, Any]],
    index: IdentifierIndex,
    normalization: Normalization = "vocabulary",
    nodes_per_pass: int = NODES_PER_PASS,
) -> dict[tuple[int, ...], NDArray[np.float64]]:
    """Average the probability of every identifier, and of each of its prefixes, over queries.

    Args:
        model: a decoder-only Hugging Face model, in evaluation mode.
        batches: the queries, in batches of left-padded keyword arguments of `model(**inputs)`: a sample of those that
            the model was trained on, or the null query alone, where it was trained on that too.
        index: the identifiers, on the model's device.
        normalization: as in `constrained_beam_search`.
        nodes_per_pass: most tree nodes to read at once a query; it bounds the memory.

    Returns:
        For each sequence the logarithm of the mean of p(prefix | query), prefix by prefix (tokens of the sequence,).
    """
    sequences = sorted(index.sequences())
    offsets = offsets_of(np.array([len(sequence) for sequence in sequences]))
    sums, num_queries = np.full(int(offsets[-1]), -np.inf), 0
    for inputs in batches:
        tokens = token_log_probabilities(model, inputs, index, normalization, nodes_per_pass)
        prefixes = _sums_within(tokens.numpy().astype(np.float64), offsets)
        sums = np.logaddexp(sums, np.logaddexp.reduce(prefixes, axis=0))
        num_queries += len(prefixes)
    if num_queries == 0:
        raise ValueError("a prior needs at least one query")
    priors = sums - math.log(num_queries)
    return {own: priors[begin:end] for own, (begin, end) in zip(sequences, pairwise(offsets.tolist()), strict=True)}


def _sums_within(values: NDArray[np.float64], offsets: NDArray[np.int64]) -> NDArray[np.float64]:
    """Sum each row up along each of the ragged stretches of its columns (Q, T)."""
    sums = np.empty_like(values)
    for begin, end in pairwise(offsets.tolist()):
        np.cumsum(values[:, begin:end], axis=1, out=sums[:, begin:end])
    return sums
