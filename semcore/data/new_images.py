"""New images for a run's corpus: one by one, or those of a folder."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from semcore.data.caption_files import read_texts
from semcore.data.dataset import METADATA, Sentence, load_dataset, make_safe_id
from semcore.data.images import IMAGE_SUFFIXES
from semcore.runtime.errors import UserError


@dataclass(frozen=True)
class NewImage:
    """An image to add.

    Attributes:
        image_id: letters, digits, - and _; see `semcore.data.dataset.make_safe_id`.
        picture: its file, which is linked or copied, or the bytes of one.
        sentences: about it, possibly none; each becomes an item that images find. Those without an id get one.
        caption: what its identifier is made from; by default the run's captioner writes it.
        source_file: where it came from.
    """

    image_id: str
    picture: Path | bytes
    sentences: tuple[str | Sentence, ...] = ()
    caption: str = ""
    source_file: str = ""


def images_of_folder(folder: Path, captions: Path | None = None) -> list[NewImage]:
    """Return the images of a dataset folder with their sentences, or all picture files below another folder.

    Args:
        folder: the folder; a picture's path in it, made safe, is the id of an image that has none.
        captions: a file like captions.jsonl, for those images that it has.

    Raises:
        UserError: there is no such folder, no picture in it, a line of its metadata is malformed, or a caption is of no
            image.
    """
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}; give --images a folder of pictures, or a dataset folder")
    texts = {} if captions is None else read_texts(captions)
    images = list(_of_dataset(folder, texts) if (folder / METADATA).is_file() else _of_files(folder, texts))
    if not images:
        raise UserError(f"there is no picture in {folder}; give --images a folder of pictures, or a dataset folder")
    if unknown := texts.keys() - {image.image_id for image in images}:
        raise UserError(f"{captions} captions {min(unknown)!r}, and {folder} has no such image; give it the image's id")
    return images


def _of_dataset(folder: Path, captions: Mapping[str, str]) -> Iterator[NewImage]:
    dataset = load_dataset(folder)
    for record in dataset.images:
        caption = captions.get(record.image_id, "")
        yield NewImage(record.image_id, dataset.image_path(record), record.sentences, caption, record.source_file)


def _of_files(folder: Path, captions: Mapping[str, str]) -> Iterator[NewImage]:
    used: set[str] = set()
    for path in _picture_files(folder):
        name = path.relative_to(folder).as_posix()
        image_id = first = make_safe_id(str(PurePosixPath(name).with_suffix("")))
        while image_id in used:
            image_id = f"{first}-{len(used)}"
        used.add(image_id)
        yield NewImage(image_id, path, (), captions.get(image_id, ""), name)


def _picture_files(folder: Path) -> list[Path]:
    """Return the picture files below a folder, hidden ones apart, sorted."""
    found = []
    for place, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            Path(place) / name
            for name in names
            if not name.startswith(".") and Path(name).suffix.lower() in IMAGE_SUFFIXES
        ]
    return sorted(found)
