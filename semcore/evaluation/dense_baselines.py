"""Dense retrieval baselines on the same items and queries, without training.

Two kinds: `SENTENCE_ENCODER` compares sentences with the model's captions of the images (always possible:
both exist), and a CLIP or SigLIP checkpoint compares sentences with the images themselves.

Shapes: N texts or images, d dimensions; all vectors have length 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from semcore.data.dataset import Dataset, open_image
from semcore.data.directions import Direction
from semcore.evaluation.metrics import CUTOFFS, retrieval_metrics
from semcore.identifiers.sentence_encoder import embed, load_encoder
from semcore.models.checkpoint import load_image_processor, load_tokenizer
from semcore.models.inference import default_device
from semcore.retrieval.batch import QUERIES_PER_CHUNK, SplitKey, SplitView, WorkDir
from semcore.runtime.errors import UnreadableImage, UserError
from semcore.runtime.typed_commands import data_command

SENTENCE_ENCODER = "sentence-encoder"
DUAL_ENCODERS = ("clip", "siglip", "siglip2")
BATCH = 64

Vectors = np.ndarray
Scores = dict[str, float]


class Baseline(NamedTuple):
    """Encoders of texts and images to vectors (N, d): texts are given as they are, images by their ids."""

    texts: Callable[[Sequence[str]], Vectors]
    images: Callable[[Sequence[str]], Vectors]


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
        baseline = caption_baseline(captions, encoder, device) if by_caption else dual_encoder(name, dataset, device)
        for key, view in views.items():
            step = f"baseline {number} {key.direction} {key.split}"
            if by_caption and key.direction.queries_are_images:
                view = _with_captions(view, captions)
            scores.setdefault(name, {})[key.direction] = _score(baseline, step, key, view, work_dir)
    return scores


def caption_baseline(captions: Mapping[str, str], encoder: str, device: str | None = None) -> Baseline:
    """Return the baseline that compares sentences with the images' captions by the sentence encoder."""
    encode = load_encoder(encoder, device)

    def texts(sentences: Sequence[str]) -> Vectors:
        return _normalised(embed(sentences, encode))

    return Baseline(texts, lambda image_ids: texts([captions[image_id] for image_id in image_ids]))


def dual_encoder(name: str, dataset: Dataset, device: str | None = None) -> Baseline:
    """Load a CLIP or SigLIP checkpoint.

    Raises:
        UserError: it cannot be loaded, or is neither of them.
    """
    device = device or default_device()
    tokenizer = load_tokenizer(name)
    tokenizer.padding_side = "right"  # these text towers count positions from the start
    model = _load_dual_encoder(name).to(device)
    processor = load_image_processor(name)
    paths = dataset.image_paths
    longest = model.config.text_config.max_position_embeddings
    padding = True if model.config.model_type == "clip" else "max_length"  # SigLIP was trained on full lengths

    def texts(batch: Sequence[str]) -> torch.Tensor:
        inputs = tokenizer(list(batch), padding=padding, truncation=True, max_length=longest, return_tensors="pt")
        return model.get_text_features(**inputs.to(device)).pooler_output

    def images(batch: Sequence[str]) -> torch.Tensor:
        pictures = [_open(paths[image_id]) for image_id in batch]
        return model.get_image_features(**processor(images=pictures, return_tensors="pt").to(device)).pooler_output

    return Baseline(lambda given: _in_batches(texts, given), lambda given: _in_batches(images, given))


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


def _score(baseline: Baseline, step: str, key: SplitKey, view: SplitView, work_dir: WorkDir) -> Scores:
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


def _load_dual_encoder(name: str) -> Any:
    from transformers import AutoConfig, AutoModel

    try:
        kind = AutoConfig.from_pretrained(name).model_type
        if kind not in DUAL_ENCODERS:
            raise UserError(f"--baselines takes {SENTENCE_ENCODER} and CLIP or SigLIP checkpoints; {name} is a {kind}")
        model, loading = AutoModel.from_pretrained(name, dtype=torch.float32, output_loading_info=True)
    except (OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"the baseline {name} cannot be loaded: {reason}") from error
    if loading["missing_keys"]:
        raise UserError(f"{name} is not a whole checkpoint: {len(loading['missing_keys'])} weights are missing")
    return model.eval()


@torch.inference_mode()
def _in_batches(encode: Callable[[Sequence[str]], torch.Tensor], given: Sequence[str]) -> Vectors:
    batches = [encode(given[start : start + BATCH]).float().cpu().numpy() for start in range(0, len(given), BATCH)]
    return _normalised(np.concatenate(batches))


def _normalised(vectors: Vectors) -> Vectors:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _open(path: Path) -> Any:
    try:
        return open_image(path)
    except UnreadableImage as reason:
        check = data_command("check", path.parent.parent)
        raise UserError(f"{path} cannot be read any more ({reason}); check with `{check}`") from None
