"""Cluster tokens: new tokens of a model, one per cluster, initialised from the cluster's words."""

from __future__ import annotations

from collections.abc import Sequence

from semcore.data.identifier_tokens import cluster_tokens
from semcore.models.checkpoint import Checkpoint
from semcore.models.identifier_tokens import add_identifier_tokens


def add_cluster_tokens(checkpoint: Checkpoint, num_clusters: int, cluster_words: Sequence[Sequence[str]]) -> list[int]:
    """Add one token per cluster and initialise its embeddings with the mean of its words' embeddings.

    Args:
        checkpoint: as for `add_identifier_tokens`.
        num_clusters: how many clusters there are.
        cluster_words: the top TF-IDF words of every cluster; a cluster without words is initialised with
            the mean of all embeddings.

    Returns:
        The ids of the clusters' tokens, in order.
    """
    return add_identifier_tokens(checkpoint, cluster_tokens(cluster_words[:num_clusters]))
