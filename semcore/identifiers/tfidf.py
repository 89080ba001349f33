"""Words that characterise a cluster (paper, equation 2), which its items' keywords then leave out.

Shapes: counts (items, words), cluster_counts and weights (clusters, words), all sparse.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse


def sum_by_cluster(counts: sparse.csr_matrix, labels: np.ndarray, num_clusters: int) -> sparse.csr_matrix:
    """Add up the word counts of each cluster's items: "each cluster is treated as a single unit".

    Args:
        counts: (items, words).
        labels: (items,), the cluster of each.
        num_clusters: how many clusters; one without items has an empty row.

    Returns:
        (clusters, words).
    """
    num_items = counts.shape[0]
    members = sparse.csr_matrix(
        (np.ones(num_items, dtype=counts.dtype), (labels, np.arange(num_items))), shape=(num_clusters, num_items)
    )
    return sparse.csr_matrix(members @ counts)


def weigh_words(cluster_counts: sparse.csr_matrix) -> sparse.csr_matrix:
    """Return equation 2's weight of each word in each cluster (paper, section 3.2.2).

        W(x, cluster) = ||tf(x, cluster)|| * log(1 + A / f(x))

    tf is the word's count in the cluster, f its count over all clusters, A the mean number of
    words per cluster. The formula is BERTopic's c-TF-IDF (Grootendorst, 2022, arXiv:2203.05794;
    `bertopic/vectorizers/_ctfidf.py`), where ||.|| is the division by the cluster's number of words
    (L1): so it is here. It makes clusters of different size comparable and changes no order within
    one. BERTopic rounds A down to a whole number; the paper does not say so, and we do not.

    Args:
        cluster_counts: (clusters, words), from `sum_by_cluster`.

    Returns:
        (clusters, words), natural logarithm; a word a cluster does not hold has no entry.
    """
    num_words = np.asarray(cluster_counts.sum(axis=1), dtype=np.float64).ravel()
    frequency = np.asarray(cluster_counts.sum(axis=0), dtype=np.float64).ravel()
    weights = cluster_counts.astype(np.float64).tocsr()
    weights.sum_duplicates()
    rarity = np.log1p(num_words.mean() / frequency[weights.indices])
    weights.data *= rarity / np.repeat(num_words, np.diff(weights.indptr))
    return weights


def top_words(weights: sparse.csr_matrix, num_words: int) -> list[list[tuple[int, float]]]:
    """Return each cluster's words of greatest weight as (word, weight), best first.

    Words of equal weight are in the order of the vocabulary, which is alphabetical.

    Args:
        weights: (clusters, words), from `weigh_words`.
        num_words: words per cluster, at most.
    """
    best = []
    for start, end in zip(weights.indptr[:-1], weights.indptr[1:], strict=True):
        words, values = weights.indices[start:end], weights.data[start:end]
        order = np.lexsort((words, -values))[:num_words]
        best.append([(int(words[index]), float(values[index])) for index in order])
    return best
