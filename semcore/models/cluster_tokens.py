"""Cluster tokens: new tokens of a model, one a cluster, initialised from its words."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from semcore.data.identifier_files import cluster_token
from semcore.models.checkpoint import Checkpoint
from semcore.models.embeddings import embedding_weights


def add_cluster_tokens(checkpoint: Checkpoint, num_clusters: int, cluster_words: Sequence[Sequence[str]]) -> list[int]:
    """Add one token a cluster and start its rows at the mean of its words' rows.

    Tokens that are there already are left as they are, so this can be called on a trained model.

    Args:
        checkpoint: gets the tokens in its tokenizer, its input embedding and, where that is not
            tied, its output head.
        num_clusters: how many clusters there are.
        cluster_words: the top TF-IDF words of every cluster; a cluster without words starts at the
            mean of all rows.

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
                words = [f" {word}" for word in cluster_words[cluster]]  # a BOS token is no word: no special tokens
                word_ids = [i for word in words for i in tokenizer(word, add_special_tokens=False)["input_ids"]]
                weight[ids[cluster]] = known_rows[word_ids].mean(0) if word_ids else known_rows.mean(0)
    return ids
