"""Dense retrieval baselines on the same items and queries, without training.

Two kinds: `SENTENCE_ENCODER` compares sentences with the model's captions of the images (always possible:
both exist), and a CLIP or SigLIP checkpoint compares sentences with the images themselves.

Shapes: N texts or images, d dimensions; all vectors have length 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from semcore.data.dataset import Dataset
from semcore.data.directions import Direction
from semcore.evaluation.metrics import CUTOFFS, retrieval_metrics
from semcore.models.dual_encoder import Vectors
from semcore.retrieval.batch import QUERIES_PER_CHUNK, SplitKey, SplitView, WorkDir
from semcore.retrieval.dense import SENTENCE_ENCODER, DenseEncoder, caption_encoder, dual_encoder

Scores = dict[str, float]


def measure_baselines(
    names: Sequence[str],
    dataset: Dataset,
    captions: Mapping[str, str],
    encoder: str,
    views: Mapping[SplitKey, SplitView],
    work_dir: WorkDir,
    device: str | None = None,
) -> dict[str, dict[Direction, Scores]]:
    """Score each baseline on each part.

    Args:
        names: `SENTENCE_ENCODER`, or checkpoints: folders or hub ids.
        dataset: holds the images.
        captions: image id -> the model's caption, for the sentence encoder.
        encoder: the sentence encoder's name.
        views: items and queries.
        work_dir: folder of the resumable work.
        device: the encoders' device.

    Returns:
        name -> direction -> scores.

    Raises:
        UserError: a checkpoint is no CLIP or SigLIP, or an image cannot be read.
    """
    scores: dict[str, dict[Direction, Scores]] = {}
    for number, name in enumerate(names):
        by_caption = name == SENTENCE_ENCODER
        baseline = caption_encoder(captions, encoder, device) if by_caption else dual_encoder(name, dataset, device)
        for key, view in views.items():
            step = f"baseline {number} {key.direction} {key.split}"
            if by_caption and key.direction.queries_are_images:
                view = _with_captions(view, captions)
            scores.setdefault(name, {})[key.direction] = _score(baseline, step, key, view, work_dir)
    return scores


def nearest(
    queries: Vectors, items: Vectors, item_ids: Sequence[str], num_items: int = max(CUTOFFS)
) -> list[list[str]]:
    """Return each query's nearest items by cosine, best first; among equals the first in `item_ids`.

    Args:
        queries: (queries, d), unit vectors.
        items: (items, d), unit vectors.
        item_ids: the ids of the items.
        num_items: items per query, at most.
    """
    order = np.argsort(-(queries @ items.T), axis=1, kind="stable")[:, :num_items]
    return [[item_ids[index] for index in row] for row in order]


def _score(baseline: DenseEncoder, step: str, key: SplitKey, view: SplitView, work_dir: WorkDir) -> Scores:
    item_ids = list(view.items)
    found: list[Vectors] = []  # computed at the first unfinished chunk

    def work(queries: list[str]) -> list[Any]:
        if not found:
            texts = [item.text for item in view.items.values()]
            found.append(baseline.images(item_ids) if key.direction.items_are_images else baseline.texts(texts))
        vectors = baseline.images(queries) if key.direction.queries_are_images else baseline.texts(queries)
        return nearest(vectors, found[0], item_ids)

    contents = view.unique_queries
    rankings = dict(zip(contents, work_dir.run(step, contents, QUERIES_PER_CHUNK, work, "query"), strict=True))
    run = {query: rankings[content] for query, content in view.queries.contents.items()}
    return retrieval_metrics(run, view.queries.relevant, len(view.items))


def _with_captions(view: SplitView, captions: Mapping[str, str]) -> SplitView:
    """Return the view with only those image queries that have a caption; the others count as misses."""
    captioned = {query: image_id for query, image_id in view.queries.contents.items() if captions.get(image_id)}
    return SplitView(view.items, replace(view.queries, contents=captioned))
