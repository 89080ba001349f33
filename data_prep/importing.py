"""From pictures that lie somewhere to the rows and links of a dataset folder; bad ones are left out."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from tqdm import tqdm

from data_prep.writing import (
    building,
    finished_before,
    place_image,
    print_made,
    print_skipped,
    share_out,
    spread,
    write_folder,
)
from semcore.dataset import SPLITS, make_safe_id, verify_image
from semcore.errors import UnreadableImage, UserError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
CHUNK = 256  # pictures whose decoding is under way at once


@dataclass(frozen=True)
class SourceImage:
    """A picture where it lies, and what is said about it there.

    Attributes:
        path: the file.
        name: its name within the source; becomes `source_file` and, made safe, the image_id.
        split: "train", "val" or "test".
        sentences: (sentence_id or None, text) of each sentence.
    """

    path: Path
    name: str
    split: str
    sentences: tuple[tuple[str | None, str], ...]


def import_images(
    out: Path,
    images: Sequence[SourceImage],
    *,
    name: str,
    source: str,
    licence: str,
    request: dict[str, Any],
    copy: bool,
    limit: int | None,
    keep_without_sentences: bool = False,
    left_out: Sequence[dict[str, str]] = (),
) -> None:
    """Make the dataset folder `out` of the pictures that can be read, and print what was made.

    Args:
        out: the dataset folder.
        images: what to import, in this order.
        name: the dataset's name.
        source: where the pictures come from.
        licence: a note on what may be done with them.
        request: what makes the content, as in `data_prep.writing.finished_before`.
        copy: copy the files instead of linking them.
        limit: import at most so many, shared out over the splits.
        keep_without_sentences: keep pictures about which nothing is said.
        left_out: what was left out already, entries as in `data_prep.writing.write_folder`.

    Raises:
        UserError: not one picture can be used, an id is used twice, or OUT holds something else.
    """
    request = {**request, "copy": copy, "limit": limit}
    about = finished_before(out, request)
    if about is not None:
        print_made(out, about, already=True)
        return
    wanted = _within_limit(images, limit)
    skipped = list(left_out)
    with building(out) as folder:
        (folder / "images").mkdir()
        rows = _rows(folder, wanted, copy, keep_without_sentences, skipped)
        about = write_folder(folder, rows, name=name, source=source, licence=licence, request=request, skipped=skipped)
        _refuse_nothing(about, len(wanted), source, skipped)
    print_skipped(skipped)
    print_made(out, about)


def _within_limit(images: Sequence[SourceImage], limit: int | None) -> list[SourceImage]:
    by_split = {split: [image for image in images if image.split == split] for split in SPLITS}
    shares = share_out({split: len(members) for split, members in by_split.items()}, limit)
    chosen = {image for split, members in by_split.items() for image in spread(members, shares[split])}
    return [image for image in images if image in chosen]


def _refuse_nothing(about: dict[str, Any], num_tried: int, source: str, skipped: list[dict[str, str]]) -> None:
    if not sum(about["counts"].values()):
        first = f": {skipped[0]['file']}: {skipped[0]['reason']}" if skipped else ""
        raise UserError(f"none of the {num_tried} images of {source} can be used{first}; check --images")


def _rows(
    folder: Path, images: Sequence[SourceImage], copy: bool, keep_bare: bool, skipped: list[dict[str, str]]
) -> Iterator[dict[str, Any]]:
    """Yield the lines of metadata.jsonl, and link each picture before its line."""
    used_ids: set[str] = set()
    sentence_owners: dict[str, str] = {}

    def skip(image: SourceImage, kind: str, reason: str) -> None:
        skipped.append({"file": image.name, "kind": kind, "reason": reason})

    for image, outcome in zip(images, _verified(images), strict=True):
        if isinstance(outcome, UnreadableImage):
            skip(image, "unreadable", str(outcome))
            continue
        spoken = [(given, " ".join(text.split())) for given, text in image.sentences]
        for _ in range(sum(not text for _, text in spoken)):
            skip(image, "empty_sentence", "an empty sentence")
        sentences = [(given, text) for given, text in spoken if text]
        if not sentences and not keep_bare:
            skip(image, "no_sentences", "no sentence")
            continue
        image_id = _unused(make_safe_id(str(PurePosixPath(image.name).with_suffix(""))), used_ids)
        named = [(given or f"{image_id}-{number}", text) for number, (given, text) in enumerate(sentences)]
        _claim_sentence_ids(image, [sentence_id for sentence_id, _ in named], sentence_owners)
        file_name = f"images/{image_id}{_suffix(image.path, outcome)}"
        place_image(image.path, folder / file_name, copy)
        yield {
            "file_name": file_name,
            "image_id": image_id,
            "split": image.split,
            "sentences": [{"sentence_id": sentence_id, "text": text} for sentence_id, text in named],
            "source_file": image.name,
        }


def _verified(images: Sequence[SourceImage]) -> Iterator[str | UnreadableImage]:
    """Yield the format of each picture, or why it cannot be read; decoding uses all cores."""
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool, tqdm(total=len(images), unit="image") as bar:
        for start in range(0, len(images), CHUNK):
            for outcome in pool.map(_outcome, images[start : start + CHUNK]):
                bar.update()
                yield outcome


def _outcome(image: SourceImage) -> str | UnreadableImage:
    try:
        return verify_image(image.path)
    except UnreadableImage as reason:
        return reason


def _suffix(path: Path, image_format: str) -> str:
    """Keep a known suffix; else name it after the format, so that other tools know the picture as one."""
    suffix = path.suffix.lower()
    return suffix if suffix in IMAGE_SUFFIXES else f".{image_format.lower()}"


def _unused(image_id: str, used: set[str]) -> str:
    """Return the id, or where another name gave the same one, the id with a number; and mark it used."""
    candidate, number = image_id, 1
    while candidate in used:
        number += 1
        candidate = f"{image_id}-{number}"
    used.add(candidate)
    return candidate


def _claim_sentence_ids(image: SourceImage, sentence_ids: list[str], owners: dict[str, str]) -> None:
    for sentence_id in sentence_ids:
        if sentence_id in owners:
            raise UserError(f"sentence id {sentence_id!r} stands at {owners[sentence_id]} and again at {image.name}")
        owners[sentence_id] = image.name


def inside(name: str) -> bool:
    """Tell whether a relative path stays within the folder it is relative to."""
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts
