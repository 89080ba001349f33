"""Visual-feature store: outputs of the vision tower and the projector, computed once per image and run.

RUN/features/<key>/ holds the features of the images that stages have used, in shards that are mapped into
memory (`semcore.models.tensor_shards`). The key is a hash of the weights, the image preparation and the
precision, so stages with the same vision tower share them; inside, an image is identified by the hash of its
file's content. So a changed image or checkpoint never gets old features. The folder may be deleted at any time.

Shapes: V visual tokens per image (tiles x tokens per tile), H the text model's hidden size.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from tqdm import tqdm

from semcore.data.dataset import open_image
from semcore.models.checkpoint import Checkpoint
from semcore.models.tensor_shards import Shard, check_owner, claim, read_shard, read_shards, write_shard
from semcore.models.tokenization import prepare_images
from semcore.models.vision_tower import Layer, describe_vision, vision_part
from semcore.runtime.errors import UnreadableImage, UserError
from semcore.runtime.files import hash_of
from semcore.runtime.ranks import num_processes, process_rank
from semcore.runtime.typed_commands import data_command

THREADS = 8  # for reading files
POLL_S = 0.1


@torch.inference_mode()
def encode_pictures(
    checkpoint: Checkpoint, images: Sequence[Image.Image], layer: Layer = "projector"
) -> list[torch.Tensor]:
    """Return the visual features of images in memory, on the model's device.

    Args:
        checkpoint: the model with the vision tower.
        images: one batch.
        layer: "projector" for the features of prompts, (V, H); "vision tower" for the projector's input,
            (tiles, patches + 1, the tower's width).
    """
    tiles = prepare_images(checkpoint, images)
    if not tiles:
        return []
    pixels = torch.cat(tiles).to(checkpoint.device, checkpoint.model.dtype)
    seen = checkpoint.model.get_image_features(pixel_values=pixels)
    counts = [len(own) for own in tiles]
    if layer == "vision tower":
        return list(seen.last_hidden_state.split(counts))
    return [own.flatten(0, 1) for own in seen.pooler_output.split(counts)]


class FeatureStore(Mapping[str, torch.Tensor]):
    """The features of a dataset's images by image id, on the CPU.

    `add` encodes missing images and stores them on disk; `of` and `readable` return stored features; missing ones are
    encoded and held in memory until the next call. Without a folder all images are missing. As a mapping the store
    contains the images that were added and could be read; `failed` has the reason for the others.

    Args:
        checkpoint: the model with the vision tower.
        paths: image id -> file.
        folder: RUN/features; None stores nothing.
        layer: as in `encode_pictures`.
        dtype: precision of the vision tower and of the stored features; the model's own by default.
        device: device of the vision tower; the model's own by default.
        batch_size: images encoded at once.
        images_a_shard: images per file of the store; a kill loses the work on one file.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        paths: Mapping[str, Path],
        folder: Path | None = None,
        *,
        layer: Layer = "projector",
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        batch_size: int = 32,
        images_a_shard: int = 256,
    ):
        self._checkpoint, self._paths, self._layer = checkpoint, paths, layer
        self._dtype, self._device = dtype or checkpoint.model.dtype, device or checkpoint.device
        self._batch_size, self._images_a_shard = batch_size, images_a_shard
        self.failed: dict[str, str] = {}
        self._unreadable: dict[str, str] = {}  # hash -> why
        self._contents: dict[str, str] = {}  # image id -> hash of its file
        self._held: dict[str, torch.Tensor] = {}
        self._shards: dict[str, Shard] = {}  # hash -> the shard that holds it
        self._open: dict[Path, Any] = {}
        self._folder: Path | None = None
        self._owner: dict[str, str] = {}
        if folder is not None:
            self._owner = describe_vision(checkpoint, layer, self._dtype)
            self._folder = folder / hash_of(self._owner)
            check_owner(self._folder, self._owner)
            self._find_shards(self._folder)

    def add(self, image_ids: Iterable[str], *, progress: bool = False) -> None:
        """Encode the images that are not in the store yet, shared between all processes of a launcher.

        Every process must call it, with the same images. Images that cannot be read are recorded in
        `failed`. Without a folder it does nothing.

        Args:
            image_ids: the images to encode.
            progress: show a progress bar.

        Raises:
            UserError: no space left, or a shard is missing.
        """
        if self._folder is not None:
            wanted = list(dict.fromkeys(image_ids))
            self._write(self._folder, self._hash(wanted), progress)
            self._note_failed(wanted)

    def of(self, image_ids: Iterable[str]) -> dict[str, torch.Tensor]:
        """Return image id -> features (V, H), without writing to disk.

        Raises:
            UserError: an image is missing, or cannot be read.
        """
        wanted = list(dict.fromkeys(image_ids))
        found = self.readable(wanted)
        for image_id in wanted:
            if image_id not in found:
                path = self._paths[image_id]
                raise UserError(
                    f"image {image_id} is needed, but {path} cannot be read now ({self.failed[image_id]}); put it "
                    f"back, and look for more with `{data_command('check', path.parent.parent)}`"
                )
        return found

    def readable(self, image_ids: Iterable[str]) -> dict[str, torch.Tensor]:
        """Return image id -> features (V, H) of the images that can be read; `failed` has the others."""
        wanted = list(dict.fromkeys(image_ids))
        self._hold({content: path for content, path in self._hash(wanted).items() if content not in self._shards})
        self._note_failed(wanted)
        return {image_id: self[image_id] for image_id in wanted if image_id not in self.failed}

    def __getitem__(self, image_id: str) -> torch.Tensor:
        content = self._contents[image_id]
        if content in self._held:
            return self._held[content]
        shard = self._shards[content]
        if shard.path not in self._open:
            self._open[shard.path] = shard.open()
        first, last = shard.rows[content]
        return self._open[shard.path][first:last]

    def __iter__(self) -> Iterator[str]:
        return (image_id for image_id in self._contents if image_id not in self.failed)

    def __contains__(self, image_id: object) -> bool:
        return image_id in self._contents and image_id not in self.failed

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _hash(self, wanted: Sequence[str]) -> dict[str, Path]:
        """Return content hash -> file; a content that several images share has one entry."""
        new = [image_id for image_id in wanted if image_id not in self._contents and image_id not in self.failed]
        with ThreadPoolExecutor(THREADS) as pool:
            hashes = pool.map(_content_hash, [self._paths[image_id] for image_id in new])
            for image_id, (content, reason) in zip(new, hashes, strict=True):
                if content is None:
                    self.failed[image_id] = reason
                else:
                    self._contents[image_id] = content
        return {self._contents[image_id]: self._paths[image_id] for image_id in wanted if image_id in self._contents}

    def _hold(self, files: Mapping[str, Path]) -> None:
        """Hold these features in memory, and no others: those of a whole dataset would not fit."""
        self._held = {content: own for content, own in self._held.items() if content in files}
        missing = {c: path for c, path in files.items() if c not in self._held and c not in self._unreadable}
        if missing:
            with self._bar(len(missing), progress=False) as bar:
                tensors, failed = self._encode(missing, bar)
            self._held.update(tensors)
            self._unreadable.update(failed)

    def _write(self, folder: Path, files: Mapping[str, Path], progress: bool) -> None:
        """Write shards of images that are in none yet; each process writes some, and waits for the others'.

        The content of a shard depends only on the requested images and on the shards of earlier calls, so
        that the processes agree whatever the progress of each.
        """
        size, contents = self._images_a_shard, list(files)
        groups = [contents[start : start + size] for start in range(0, len(contents), size)]
        named = {hash_of(group): group for group in groups}
        earlier = {c for name, shard in read_shards(folder).items() if name not in named for c in shard}
        needed = {name: [c for c in group if c not in earlier] for name, group in named.items()}
        needed = {name: group for name, group in needed.items() if group}
        own = [name for name in list(needed)[process_rank() :: num_processes()] if not _has(folder, name, needed[name])]
        if own:
            claim(folder, self._owner)
        with self._bar(sum(len(needed[name]) for name in own), progress) as bar:
            for name in own:
                write_shard(folder, name, *self._encode({c: files[c] for c in needed[name]}, bar))
        for name, group in needed.items():
            while not _has(folder, name, group):
                time.sleep(POLL_S)
        self._find_shards(folder)

    def _encode(self, files: Mapping[str, Path], bar: tqdm[Any]) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
        """Return content hash -> features (V, H), and content hash -> why there are none."""
        vision = vision_part(self._checkpoint, self._dtype, self._device)
        tensors: dict[str, torch.Tensor] = {}
        failed: dict[str, str] = {}
        pending: dict[str, Image.Image] = {}
        with ThreadPoolExecutor(THREADS) as pool:
            opened = pool.map(_open_or_reason, files.values())
            for number, (content, picture) in enumerate(zip(files, opened, strict=True), start=1):
                if isinstance(picture, str):
                    failed[content] = picture
                else:
                    pending[content] = picture
                if len(pending) == self._batch_size or number == len(files):
                    encoded = encode_pictures(vision, list(pending.values()), self._layer)
                    tensors.update(zip(pending, (own.cpu() for own in encoded), strict=True))
                    pending.clear()
                bar.update()
        return tensors, failed

    def _find_shards(self, folder: Path) -> None:
        self._shards = {content: shard for shard in read_shards(folder).values() for content in shard}

    def _note_failed(self, image_ids: Iterable[str]) -> None:
        for image_id in image_ids:
            content = self._contents.get(image_id, "")
            shard = self._shards.get(content)
            reason = self._unreadable.get(content) or (shard.failed.get(content) if shard else None)
            if reason is not None:
                self.failed[image_id] = reason

    def _bar(self, total: int, progress: bool) -> tqdm[Any]:
        return tqdm(total=total, desc="encoding images", unit="image", disable=not progress or total == 0)


def _has(folder: Path, name: str, contents: Iterable[str]) -> bool:
    shard = read_shard(folder, name)
    return shard is not None and all(content in shard for content in contents)


def _content_hash(path: Path) -> tuple[str | None, str]:
    """Return the hash of a file, or None and why there is none."""
    try:
        with path.open("rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest(), ""
    except FileNotFoundError:
        return None, "there is no such file"
    except OSError as error:
        return None, str(error.strerror)


def _open_or_reason(path: Path) -> Image.Image | str:
    try:
        return open_image(path)
    except UnreadableImage as error:
        return str(error)
