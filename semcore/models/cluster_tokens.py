"""Cluster tokens: new tokens of a model, one per cluster, initialised from the cluster's words."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from semcore.data.identifier_files import cluster_token
from semcore.models.checkpoint import Checkpoint
from semcore.models.embeddings import embedding_weights


def add_cluster_tokens(checkpoint: Checkpoint, num_clusters: int, cluster_words: Sequence[Sequence[str]]) -> list[int]:
    """Add one token per cluster and initialise its embeddings with the mean of its words' embeddings.

    Existing tokens are left unchanged, so this can be called on a trained model.

    Args:
        checkpoint: its tokenizer, its input embedding and, where it is untied, its output head get the tokens.
        num_clusters: how many clusters there are.
        cluster_words: the top TF-IDF words of every cluster; a cluster without words is initialised with
            the mean of all embeddings.

    Returns:
        The ids of the clusters' tokens, in order.
    """
    model, tokenizer = checkpoint.model, checkpoint.tokenizer
    tokens = [cluster_token(cluster) for cluster in range(num_clusters)]
    known = tokenizer.get_vocab()
    new = [cluster for cluster, token in enumerate(tokens) if token not in known]
    tokenizer.add_tokens(tokens, special_tokens=True)
    ids = tokenizer.convert_tokens_to_ids(tokens)
    if not new:
        return ids
    rows_before = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows_before:
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    for weight in embedding_weights(model):
        with torch.no_grad():
            known_rows = weight[: min(rows_before, ids[new[0]])]
            for cluster in new:
                words = [f" {word}" for word in cluster_words[cluster]]  # without special tokens, such as BOS
                word_ids = [i for word in words for i in tokenizer(word, add_special_tokens=False)["input_ids"]]
                weight[ids[cluster]] = known_rows[word_ids].mean(0) if word_ids else known_rows.mean(0)
    return ids
