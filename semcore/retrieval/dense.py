"""Dense vectors of sentences and images: encoders by name, and the vectors of items kept in the run.

RUN/vectors/KEY.safetensors    vectors of some items, float16; KEY is a hash of the encoder and of what it was shown

An encoder is `SENTENCE_ENCODER`, which puts the model's captions in the place of images, or a CLIP or SigLIP
checkpoint, which reads the images themselves.

Shapes: N texts or images, d dimensions; all vectors have length 1, or 0 where an image has no caption.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import load_file, save
from tqdm import tqdm

from semcore.data.dataset import Dataset, open_image
from semcore.data.directions import Direction
from semcore.data.items_and_queries import Item
from semcore.data.run_folder import RunFolder
from semcore.identifiers.sentence_encoder import DEFAULT_ENCODER, embed, load_encoder
from semcore.models.dual_encoder import Vectors, load_dual_encoder, normalised
from semcore.runtime.errors import UnreadableImage, UserError
from semcore.runtime.files import hash_of, read_jsonl, write_bytes
from semcore.runtime.fingerprints import fingerprint
from semcore.runtime.text import clean_text
from semcore.runtime.typed_commands import data_command

SENTENCE_ENCODER = "sentence-encoder"
FOLDER = "vectors"
ITEMS_PER_FILE = 512


class DenseEncoder(NamedTuple):
    """Encoders of texts and images to vectors (N, d): texts are given as they are, images by their ids."""

    texts: Callable[[Sequence[str]], Vectors]
    images: Callable[[Sequence[str]], Vectors]

    def queries(self, direction: Direction, queries: Sequence[str]) -> Vectors:
        """Return the vectors of queries, which are image ids or sentences."""
        return self.images(queries) if direction.queries_are_images else self.texts(queries)

    def items(self, direction: Direction, items: Sequence[Item]) -> Vectors:
        """Return the vectors of items."""
        if direction.items_are_images:
            return self.images([item.item_id for item in items])
        return self.texts([item.text for item in items])


def open_dense(
    name: str,
    run: RunFolder,
    dataset: Dataset,
    device: str | None = None,
    pictures: Mapping[str, Image.Image] | None = None,
) -> DenseEncoder:
    """Return an encoder by name.

    Args:
        name: `SENTENCE_ENCODER`, or a CLIP or SigLIP checkpoint: a folder or a hub id.
        run: holds the captions, and knows the identifiers' sentence encoder.
        dataset: holds the images.
        device: the fastest one by default.
        pictures: images that are no files, by their ids.

    Raises:
        UserError: a checkpoint is neither of them, or there are no captions.
    """
    if name != SENTENCE_ENCODER:
        return dual_encoder(name, dataset, device, pictures)
    captions, encoder = captions_and_encoder(run)
    return caption_encoder(captions, encoder, device)


def require_captions(run: RunFolder, reader: str = SENTENCE_ENCODER) -> Path:
    """Return the file of a run's captions.

    Args:
        run: the run folder.
        reader: what reads them.

    Raises:
        UserError: the run has none.
    """
    path = run / "captions.jsonl"
    if not path.exists():
        again = data_command("caption", "--run", run.path)
        raise UserError(
            f"{reader} reads captions, and {run.path} has none; make them with `{again}`, or use a CLIP or SigLIP "
            "checkpoint in its place"
        )
    return path


def captions_and_encoder(run: RunFolder) -> tuple[dict[str, str], str]:
    """Return captions by image id, and the name of the sentence encoder that the identifiers were made with.

    Raises:
        UserError: the run has no captions.
    """
    path = require_captions(run)
    captions = {row["image_id"]: clean_text(row["caption"]) for row in read_jsonl(path)}
    made = run.manifest().get("stages", {}).get("identifiers", {})
    return captions, made.get("settings", {}).get("encoder", DEFAULT_ENCODER)


def caption_encoder(captions: Mapping[str, str], encoder: str, device: str | None = None) -> DenseEncoder:
    """Return the encoder that compares sentences with the images' captions; an image without one is near nothing."""
    encode = load_encoder(encoder, device)

    def texts(sentences: Sequence[str]) -> Vectors:
        return normalised(embed(sentences, encode))

    def images(image_ids: Sequence[str]) -> Vectors:
        shown = [captions.get(image_id, "") for image_id in image_ids]
        return texts(shown) * np.array([[bool(text)] for text in shown], dtype=np.float32)

    return DenseEncoder(texts, images)


def dual_encoder(
    name: str, dataset: Dataset, device: str | None = None, pictures: Mapping[str, Image.Image] | None = None
) -> DenseEncoder:
    """Return the encoder that compares sentences with the images by a CLIP or SigLIP checkpoint.

    Raises:
        UserError: it cannot be loaded, or is neither of them.
    """
    encoder = load_dual_encoder(name, device)
    paths, in_memory = dataset.image_paths, {} if pictures is None else pictures  # a caller may fill it later

    def opened(image_id: str) -> Any:
        return in_memory[image_id] if image_id in in_memory else open_stored(paths[image_id])

    return DenseEncoder(encoder.texts, lambda image_ids: encoder.pictures(image_ids, opened))


def encoder_key(name: str, run: RunFolder) -> str:
    """Return a hash of what an encoder is: its weights, or the captions and the sentence encoder."""
    if name != SENTENCE_ENCODER:
        return fingerprint(name)
    captions, encoder = captions_and_encoder(run)
    return hash_of(encoder, sorted(captions.items()))


def item_vectors(
    encoder: DenseEncoder,
    key: str,
    direction: Direction,
    items: Sequence[Item],
    folder: Path,
    *,
    progress: bool = False,
) -> Vectors:
    """Return the vectors of items (N, d), those that the folder has from there; the others are kept in it.

    Args:
        encoder: makes those that are missing.
        key: from `encoder_key`.
        direction: tells whether items are images or sentences.
        items: N of them.
        folder: RUN/vectors; it may be deleted at any time.
        progress: show a progress bar.
    """
    chunks = [items[first : first + ITEMS_PER_FILE] for first in range(0, len(items), ITEMS_PER_FILE)]
    bar = tqdm(chunks, desc=f"vectors {direction}", unit="file", disable=not progress)
    return np.concatenate([_kept(encoder, key, direction, chunk, folder) for chunk in bar]).astype(np.float32)


def _kept(
    encoder: DenseEncoder, key: str, direction: Direction, items: Sequence[Item], folder: Path
) -> NDArray[np.float16]:
    path = folder / f"{hash_of(key, str(direction), [_content(item) for item in items])[:32]}.safetensors"
    if path.exists():
        return load_file(path)["vectors"]
    vectors = encoder.items(direction, items).astype(np.float16)
    write_bytes(path, save({"vectors": vectors}))
    return vectors


def _content(item: Item) -> list[str]:
    """Return what an item's vector depends on; of an image its file's size and time."""
    if item.image_path is None:
        return [item.item_id, item.text]
    status = item.image_path.stat()
    return [item.item_id, str(status.st_size), str(status.st_mtime_ns)]


def open_stored(path: Path) -> Image.Image:
    """Return the picture of a file that could be read before.

    Raises:
        UserError: it cannot be read any more.
    """
    try:
        return open_image(path)
    except UnreadableImage as reason:
        check = data_command("check", path.parent.parent)
        raise UserError(f"{path} cannot be read any more ({reason}); check with `{check}`") from None
