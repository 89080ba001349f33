"""k-means and the nearest centroid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

from semcore.identifiers.clusters import fit_centroids, load_centroids, nearest_centroids, save_centroids
from semcore.runtime.errors import UserError

FIT: dict[str, Any] = {"num_inits": 1, "max_iterations": 300, "max_fit_items": 100_000}


@pytest.fixture(scope="module")
def embeddings() -> np.ndarray:
    rng = np.random.default_rng(0)
    return (rng.standard_normal((12, 16))[rng.integers(0, 12, 900)] + 0.3 * rng.standard_normal((900, 16))).astype(
        np.float32
    )


def _inertia(embeddings: np.ndarray, centroids: np.ndarray) -> float:
    return float(((embeddings - centroids[nearest_centroids(embeddings, centroids)]) ** 2).sum())


def test_every_item_gets_the_centroid_a_loop_finds_nearest(embeddings: np.ndarray) -> None:
    centroids = embeddings[:40]
    expected = [int(((row - centroids) ** 2).sum(axis=1).argmin()) for row in embeddings]
    assert nearest_centroids(embeddings, centroids).tolist() == expected


def test_the_lowest_of_equal_centroids_is_taken() -> None:
    assert nearest_centroids(np.ones((1, 2), np.float32), np.ones((3, 2), np.float32)).tolist() == [0]


def test_the_seed_alone_decides_whatever_the_number_of_threads(embeddings: np.ndarray) -> None:
    fits = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            fits.append(fit_centroids(embeddings, 12, seed=3, **FIT))
    assert fits[0].tobytes() == fits[1].tobytes()
    assert fits[0].tobytes() != fit_centroids(embeddings, 12, seed=4, **FIT).tobytes()


@pytest.mark.parametrize("max_fit_items", [100, 6_000])
def test_a_fit_on_a_sample_is_within_a_percent_of_scikit_learns_on_all(max_fit_items: int) -> None:
    """Clusters overlap, as those of captions do; a sample is never smaller than 256 items a cluster."""
    rng = np.random.default_rng(0)
    spread = rng.standard_normal((16, 24))[rng.integers(0, 16, 20_000)] + rng.standard_normal((20_000, 24))
    items = spread.astype(np.float32)
    whole = KMeans(16, n_init=4, random_state=0).fit(items).inertia_
    sampled = fit_centroids(items, 16, seed=0, num_inits=4, max_iterations=300, max_fit_items=max_fit_items)
    assert whole * 0.999 <= _inertia(items, sampled) <= whole * 1.01


def test_fewer_distinct_texts_than_clusters_leave_clusters_empty() -> None:
    embeddings = np.repeat(np.eye(2, dtype=np.float32), 5, axis=0)
    centroids = fit_centroids(embeddings, 4, seed=0, **FIT)
    labels = nearest_centroids(embeddings, centroids)
    assert centroids.shape == (4, 2)
    assert len(set(labels[:5])) == len(set(labels[5:])) == 1
    assert labels[0] != labels[5]


def test_centroids_survive_the_disk(tmp_path: Path, embeddings: np.ndarray) -> None:
    save_centroids(tmp_path / "identifiers", embeddings[:7])
    assert load_centroids(tmp_path / "identifiers").tobytes() == embeddings[:7].tobytes()
    assert [path.name for path in (tmp_path / "identifiers").iterdir()] == ["clusters.safetensors"]


def test_missing_or_broken_centroids_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no .*clusters.safetensors; make it with"):
        load_centroids(tmp_path)
    (tmp_path / "clusters.safetensors").write_bytes(b"half a file")
    with pytest.raises(UserError, match="holds no centroids"):
        load_centroids(tmp_path)
