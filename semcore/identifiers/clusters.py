"""Global ids: k-means over caption embeddings, and the nearest centroid for all other items.

Shapes: embeddings (items, dimensions) float32, centroids (clusters, dimensions) float32.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from semcore.identifiers.embedding_file import EmbeddingFile
from semcore.runtime.errors import UserError
from semcore.runtime.files import write_bytes
from semcore.runtime.typed_commands import data_command

CENTROIDS = "clusters.safetensors"
ITEMS_A_CLUSTER = 256  # the mean of n items is off by 1/n of their variance; FAISS samples as many
_ROWS_AT_ONCE = 65_536
Rows = np.ndarray | EmbeddingFile
"""Embeddings (items, dimensions) in memory or on the disk."""


def fit_centroids(
    embeddings: Rows,
    num_clusters: int,
    *,
    among: Sequence[int] | np.ndarray | None = None,
    seed: int,
    num_inits: int,
    max_iterations: int,
    max_fit_items: int,
) -> np.ndarray:
    """Fit k-means and return the centroids (paper, section 3.2.1).

    It runs in one thread, so that the order of the sums, and with it the result, depends on the seed
    alone. With fewer distinct embeddings than clusters some centroids repeat and their clusters
    stay empty.

    Args:
        embeddings: (items, dimensions).
        num_clusters: how many clusters.
        among: places of the rows that may be fitted on (fitted,), at least as many as clusters; all by default.
        seed: seed of the starting points and of the sample.
        num_inits: number of runs from different starting points; the best is used.
        max_iterations: iterations of one run, at most.
        max_fit_items: with more items, a random sample of this size is fitted; it has at least
            256 items per cluster, which keeps the inertia within 1 % of a fit on all items.

    Returns:
        (clusters, dimensions), float32.
    """
    num_fitted = max(max_fit_items, ITEMS_A_CLUSTER * num_clusters)
    rows = np.arange(len(embeddings)) if among is None else np.asarray(among, np.int64)
    if len(rows) > num_fitted:
        rows = rows[np.sort(np.random.default_rng(seed).choice(len(rows), num_fitted, replace=False))]
    kmeans = KMeans(num_clusters, n_init=num_inits, max_iter=max_iterations, random_state=seed, algorithm="lloyd")
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return np.asarray(kmeans.fit(embeddings[rows]).cluster_centers_, dtype=np.float32)


def nearest_centroids(embeddings: Rows, centroids: np.ndarray) -> np.ndarray:
    """Return the index (items,) of each item's nearest centroid (Euclidean distance); the lowest of equals.

    Args:
        embeddings: (items, dimensions).
        centroids: (clusters, dimensions).
    """
    nearest = np.empty(len(embeddings), dtype=np.int64)
    squares = (centroids.astype(np.float64) ** 2).sum(axis=1).astype(np.float32)
    with threadpool_limits(1):
        for start in range(0, len(embeddings), _ROWS_AT_ONCE):
            rows = slice(start, start + _ROWS_AT_ONCE)
            nearest[rows] = (squares - 2 * embeddings[rows] @ centroids.T).argmin(axis=1)
    return nearest


def save_centroids(folder: Path, centroids: np.ndarray) -> None:
    """Write the centroids (clusters, dimensions) to clusters.safetensors, atomically."""
    write_bytes(folder / CENTROIDS, save({"centroids": np.ascontiguousarray(centroids)}))


def load_centroids(folder: Path | str) -> np.ndarray:
    """Read the centroids of RUN/identifiers, (clusters, dimensions).

    Raises:
        UserError: the file is missing or broken.
    """
    path = Path(folder) / CENTROIDS
    if not path.is_file():
        again = data_command("identifiers", "--run", path.parent.parent)
        raise UserError(f"there is no {path}; make it with `{again}`")
    try:
        return load_file(path)["centroids"]
    except (SafetensorError, KeyError):
        raise UserError(f"{path} holds no centroids; delete {path.parent} and make the identifiers again") from None
