"""Images of an import's source: their survey, missing files, and verification by decoding."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from data_prep.clean_sentences import printable
from data_prep.names import similar_name
from semcore.data.dataset import verify_image
from semcore.data.images import IMAGE_SUFFIXES
from semcore.data.subsets import spread
from semcore.runtime.errors import UnreadableImage
from semcore.runtime.text import whole_characters

UNLISTED_SUFFIXES = (".avif",)  # of these, not taken for images by `datasets.load_dataset("imagefolder")`
_SUFFIX_OF = {"JPEG2000": ".jp2", "MPO": ".jpg"}  # formats that are not called like a suffix
CHUNK = 256  # images whose decoding is under way at once
MAX_NAME, MAX_PATH = 255, 4_096  # bytes, on Linux
NUM_NAMED = 5  # missing images that a message names


@dataclass(frozen=True)
class SourceImage:
    """An image file of the source with its split and sentences.

    Attributes:
        path: the file.
        name: its name within the source; becomes `source_file` and, with unsafe characters escaped, the image_id.
        split: "train", "val" or "test".
        sentences: (sentence_id or None, text) of each sentence; a value that is no text is counted and left out.
        owned: the file was written for the import, and is moved instead of linked.
    """

    path: Path
    name: str
    split: str
    sentences: tuple[tuple[str | None, object], ...]
    owned: bool = False


Images = Callable[[], Iterator[SourceImage]]
"""Yields all images in their order, each time it is called."""


@dataclass
class Survey:
    """Result of a first pass over the images' names: images per split, and missing files."""

    counts: Counter[str] = field(default_factory=Counter)
    num_missing: int = 0
    first_missing: list[str] = field(default_factory=list)


def survey(images: Images) -> Survey:
    """Count the images and find missing files; none is opened."""
    found = Survey()
    for image in images():
        found.counts[image.split] += 1
        if not os.path.exists(image.path):
            found.num_missing += 1
            if len(found.first_missing) < NUM_NAMED:
                alike = similar_name(image.path)
                found.first_missing.append(printable(f"{image.name} (there is {alike})" if alike else image.name))
    return found


def within_shares(
    images: Iterator[SourceImage], counts: Mapping[str, int], shares: Mapping[str, int]
) -> Iterator[SourceImage]:
    """Yield the wanted number of images of each split, evenly spread over it.

    Args:
        images: all images.
        counts: split -> number of its images.
        shares: split -> number of wanted images.
    """
    wanted = {split: spread(range(counts[split]), share) for split, share in shares.items()}
    following = {split: next(places, None) for split, places in wanted.items()}
    met: Counter[str] = Counter()
    for image in images:
        if met[image.split] == following[image.split]:
            following[image.split] = next(wanted[image.split], None)
            yield image
        met[image.split] += 1


def verified(images: Iterator[SourceImage], total: int | None) -> Iterator[tuple[SourceImage, str | UnreadableImage]]:
    """Yield each image with its format, or why it cannot be read; decoding uses all cores."""
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool, tqdm(total=total, unit="image") as bar:
        while chunk := list(islice(images, CHUNK)):
            for image, outcome in zip(chunk, pool.map(_outcome, chunk), strict=True):
                bar.update()
                yield image, outcome


def _outcome(image: SourceImage) -> str | UnreadableImage:
    try:
        return verify_image(image.path)
    except UnreadableImage as reason:
        return reason


def suffix_of(path: Path, image_format: str) -> str:
    """Return a known suffix as it is, else the format's, so that other tools recognise the file as an image."""
    suffix = path.suffix.lower()
    return suffix if suffix in IMAGE_SUFFIXES else _SUFFIX_OF.get(image_format, f".{image_format.lower()}")


def is_image(name: str) -> bool:
    """Return whether a file has the suffix of an image."""
    return PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES


def without_suffix(name: str) -> str:
    """Leave out the suffix of an image file; an id may hold a dot as well."""
    path = PurePosixPath(name)
    return str(path.with_suffix("")) if is_image(name) else name


def inside(name: str) -> bool:
    """Return whether a relative path stays within its folder, and is one that a file can have."""
    path = PurePosixPath(name)
    short = len(os.fsencode(whole_characters(name))) < MAX_PATH and all(
        len(os.fsencode(whole_characters(part))) <= MAX_NAME for part in path.parts
    )
    return short and "\0" not in name and not path.is_absolute() and ".." not in path.parts
