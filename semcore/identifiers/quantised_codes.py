"""Codes of vectors under a fitted quantiser, with or without a cluster before them, and the rows that they make.

A dataset's items and those that come later go through the same functions.

Shapes: N items, vectors (N, d), codes (N, M).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from semcore.data.caption_files import TextItem
from semcore.data.identifier_files import NO_CLUSTER, IdentifierRow
from semcore.identifiers.coded import code_rows, identifier_tokens
from semcore.identifiers.collisions import Codes, Numbered
from semcore.identifiers.quantizers import Quantizer
from semcore.identifiers.residual import encode, last_codes, nearest_rows


class Coder(NamedTuple):
    """What encodes vectors.

    Attributes:
        quantizer: of the vectors, or of what their clusters' centres leave of them.
        centroids: (K, d), the clusters' centres; None where no cluster stands first.
    """

    quantizer: Quantizer
    centroids: np.ndarray | None


class Encoded(NamedTuple):
    """Items as codes.

    Attributes:
        clusters: of each, or `NO_CLUSTER`.
        codes: (N, M).
        latent: (N, e), what was quantised.
    """

    clusters: list[int]
    codes: np.ndarray
    latent: np.ndarray

    def whole(self) -> list[Codes]:
        """Return each item's cluster and codes."""
        return [(cluster, *own) for cluster, own in zip(self.clusters, self.codes.tolist(), strict=True)]

    def others(self, place: int, quantizer: Quantizer) -> list[Codes]:
        """Return an item's cluster and codes with every last code, the nearest first."""
        before = tuple(self.codes[place, :-1].tolist())
        nearest = last_codes(self.latent[place], self.codes[place], quantizer.books).tolist()
        return [(self.clusters[place], *before, last) for last in nearest]


def encode_vectors(vectors: np.ndarray, coder: Coder, rank: int = 0) -> Encoded:
    """Return the codes of vectors (N, d); of rank 1 on with the next nearest cluster or first code."""
    quantizer, centroids = coder
    if centroids is not None:
        labels = nearest_rows(vectors, centroids, rank + 1)[:, rank]
        latent = quantizer.latent(vectors - centroids[labels])
        return Encoded(labels.tolist(), encode(latent, quantizer.books), latent)
    latent = quantizer.latent(vectors)
    first = nearest_rows(latent, quantizer.books[0], rank + 1)[:, rank] if rank else None
    return Encoded([NO_CLUSTER] * len(vectors), encode(latent, quantizer.books, first), latent)


def whole_tokens(told: Numbered, quantizer: Quantizer, first: Sequence[str]) -> tuple[str, ...]:
    """Return the tokens of an identifier: its cluster with its codes, and its number; `first` stand before them."""
    (cluster, *codes), number = told
    return identifier_tokens(codes, shared=quantizer.shared, first=first, cluster=cluster, number=number)


def rows_and_tokens(
    items: Sequence[TextItem],
    told: Sequence[Numbered],
    more: Sequence[Encoded],
    quantizer: Quantizer,
    first: Sequence[str],
) -> tuple[list[IdentifierRow], list[list[tuple[str, ...]]]]:
    """Return the rows of items, and the tokens of each identifier of each item, the best first.

    Args:
        items: N items.
        told: the cluster with the codes, and the number, of each.
        more: their further codes, by rank.
        quantizer: what codes are of.
        first: tokens that stand before all identifiers.
    """
    ranks = [told, *([(own, None) for own in encoded.whole()] for encoded in more)]
    tokens = [[whole_tokens(own, quantizer, first) for own in of_item] for of_item in zip(*ranks, strict=True)]
    numbered: list[Numbered] = [(own[1:], number) for own, number in told]
    return code_rows(items, [own[0] for own, _ in told], numbered, tokens), tokens
