"""Pictures where they lie, before they are imported: which there are, which are missing, which can be read."""

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
from data_prep.names import look_alike
from semcore.data.dataset import verify_image
from semcore.data.subsets import spread
from semcore.runtime.errors import UnreadableImage

# What Pillow reads, in any letter case.
IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".avif", ".bmp", ".dib", ".gif", ".tif", ".tiff",
    ".jp2", ".j2k", ".jpx", ".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".ico",
)  # fmt: skip
UNLISTED_SUFFIXES = (".avif",)  # of these, what `datasets.load_dataset("imagefolder")` does not take for images
_SUFFIX_OF = {"JPEG2000": ".jp2", "MPO": ".jpg"}  # formats that are not called like a suffix
CHUNK = 256  # pictures whose decoding is under way at once
NUM_NAMED = 5  # of the missing pictures


@dataclass(frozen=True)
class SourceImage:
    """A picture where it lies, and what is said about it there.

    Attributes:
        path: the file.
        name: its name within the source; becomes `source_file` and, made safe, the image_id.
        split: "train", "val" or "test".
        sentences: (sentence_id or None, text) of each sentence; what is no text is counted and left out.
        owned: the file was written for the import, and is moved instead of linked.
    """

    path: Path
    name: str
    split: str
    sentences: tuple[tuple[str | None, object], ...]
    owned: bool = False


Images = Callable[[], Iterator[SourceImage]]
"""Gives all pictures in their order, each time it is called."""


@dataclass
class Survey:
    """What a first look at the pictures finds: how many a split has, and which are not there."""

    counts: Counter[str] = field(default_factory=Counter)
    num_missing: int = 0
    first_missing: list[str] = field(default_factory=list)


def survey(images: Images) -> Survey:
    """Look at all pictures' names once; none is opened."""
    found = Survey()
    for image in images():
        found.counts[image.split] += 1
        if not os.path.exists(image.path):
            found.num_missing += 1
            if len(found.first_missing) < NUM_NAMED:
                alike = look_alike(image.path)
                found.first_missing.append(printable(f"{image.name} (there is {alike})" if alike else image.name))
    return found


def within_shares(
    images: Iterator[SourceImage], counts: Mapping[str, int], shares: Mapping[str, int]
) -> Iterator[SourceImage]:
    """Yield each split's share, evenly spread over it.

    Args:
        images: all of them.
        counts: how many a split has.
        shares: how many of them are wanted.
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
    """Yield each picture with its format, or why it cannot be read; decoding uses all cores."""
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
    """Keep a known suffix; else name it after the format, so that other tools know the picture as one."""
    suffix = path.suffix.lower()
    return suffix if suffix in IMAGE_SUFFIXES else _SUFFIX_OF.get(image_format, f".{image_format.lower()}")


def is_image(name: str) -> bool:
    """Tell whether a file is called like an image."""
    return PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES


def without_suffix(name: str) -> str:
    """Leave out the suffix of an image file; an id may hold a dot as well."""
    path = PurePosixPath(name)
    return str(path.with_suffix("")) if is_image(name) else name


def inside(name: str) -> bool:
    """Tell whether a relative path stays within the folder it is relative to."""
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts
