"""Dense retrieval by FAISS: the query's embedding is compared with every item's vector."""

from __future__ import annotations

import importlib.util

import numpy as np
import torch

from benchmarks.report import Row, lower_is_better, not_run
from benchmarks.timing import interleaved_medians

DIMENSIONS = 512  # CLIP ViT-B/32's
TOP_K = 10


def dense_scan_row(num_items: int, num_queries: int, ours: float, repeats: int) -> Row:
    """Time an exact scan of random unit vectors, with as many threads as torch has.

    Up to about 10^8 items the scan is the cheaper of the two; generation saves the memory of the vectors.

    Args:
        num_items: number of vectors.
        num_queries: queries searched at once.
        ours: seconds of our search for as many queries among as many items.
        repeats: runs that count.
    """
    name = "dense scan (FAISS) of as many items"
    if importlib.util.find_spec("faiss") is None:
        return not_run(name, "pip install faiss-cpu")
    import faiss

    faiss.omp_set_num_threads(torch.get_num_threads())
    rng = np.random.default_rng(0)
    index = faiss.IndexFlatIP(DIMENSIONS)
    index.add(_unit_vectors(rng, num_items))
    queries = _unit_vectors(rng, num_queries)
    seconds = interleaved_medians({"scan": lambda: index.search(queries, TOP_K)}, repeats)["scan"]
    note = f"{DIMENSIONS} dimensions, {4 * DIMENSIONS} bytes an item; embedding the query is not counted"
    return lower_is_better(name, ours, seconds, "s", note)


def _unit_vectors(rng: np.random.Generator, number: int) -> np.ndarray:
    vectors = rng.standard_normal((number, DIMENSIONS), dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
