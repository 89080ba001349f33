"""From pictures that lie somewhere to the rows and links of a dataset folder; bad ones are left out.

Pictures come as an iterator that is asked for twice: once to count them and to look whether they are
there, once to import them. Memory holds a few hundred at a time, however many there are.
"""

from __future__ import annotations

import os
import shutil
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from tqdm import tqdm

from data_prep.sentences import clean_sentence, printable
from data_prep.writing import (
    METADATA,
    Findings,
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
from semcore.files import read_jsonl

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
CHUNK = 256  # pictures whose decoding is under way at once
NUM_NAMED = 5  # of the missing pictures
INCOMING = "incoming"  # where pictures that come as bytes wait, inside the unfinished folder


@dataclass(frozen=True)
class SourceImage:
    """A picture where it lies, and what is said about it there.

    Attributes:
        path: the file.
        name: its name within the source; becomes `source_file` and, made safe, the image_id.
        split: "train", "val" or "test".
        sentences: (sentence_id or None, text) of each sentence.
        owned: the file was written for the import, and is moved instead of linked.
    """

    path: Path
    name: str
    split: str
    sentences: tuple[tuple[str | None, str], ...]
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
                found.first_missing.append(printable(image.name))
    return found


def already_made(out: Path, request: Mapping[str, Any]) -> bool:
    """Tell, and print, whether exactly this import was done before.

    Raises:
        UserError: OUT holds something else.
    """
    about = finished_before(out, dict(request))
    if about is not None:
        print_made(out, about, already=True)
    return about is not None


def import_images(
    out: Path,
    images: Images,
    found: Survey,
    *,
    name: str,
    source: str,
    licence: str,
    request: Mapping[str, Any],
    copy: bool,
    limit: int | None,
    skip_missing: bool,
    keep_without_sentences: bool = False,
    left_out: Sequence[dict[str, str]] = (),
    notes: Sequence[str] = (),
) -> None:
    """Make the dataset folder `out` of the pictures that can be read, and print what was made.

    Args:
        out: the dataset folder.
        images: what to import, in this order.
        found: their survey.
        name: the dataset's name.
        source: where the pictures come from.
        licence: a note on what may be done with them.
        request: what makes the content, as in `data_prep.writing.finished_before`.
        copy: copy the files instead of linking them.
        limit: import at most so many, shared out over the splits.
        skip_missing: leave out pictures that are not there; otherwise they are an error.
        keep_without_sentences: keep pictures about which nothing is said.
        left_out: what was left out already, entries as in `data_prep.writing.Findings`.
        notes: what a reader of the scores should know.

    Raises:
        UserError: pictures are missing, not one can be used, or a sentence id is used twice.
    """
    total = sum(found.counts.values())
    if found.num_missing and not (skip_missing and found.num_missing < total):
        raise UserError(_missing(found, total, source, skip_missing))
    shares = share_out({split: found.counts[split] for split in SPLITS}, limit)

    def chosen(_: Path) -> Iterator[SourceImage]:
        yield from _within_limit(images(), found.counts, shares)

    make_folder(
        out,
        chosen,
        name=name,
        source=source,
        licence=licence,
        request=request,
        copy=copy,
        keep_without_sentences=keep_without_sentences,
        findings=Findings(skipped=list(left_out), notes=list(notes)),
        total=sum(shares.values()),
    )


def make_folder(
    out: Path,
    images: Callable[[Path], Iterator[SourceImage]],
    *,
    name: str,
    source: str,
    licence: str,
    request: Mapping[str, Any],
    copy: bool,
    keep_without_sentences: bool,
    findings: Findings,
    total: int | None = None,
) -> None:
    """Make the dataset folder of a single pass over the pictures.

    Args:
        out: the dataset folder.
        images: gets the unfinished folder, and may write files that are `owned` into it.
        name: the dataset's name.
        source: where the pictures come from.
        licence: a note on what may be done with them.
        request: what makes the content, as in `data_prep.writing.finished_before`.
        copy: copy the files instead of linking them.
        keep_without_sentences: keep pictures about which nothing is said.
        findings: what was found so far; grows.
        total: how many pictures there are, where that is known.
    """
    sentence_ids = array("q")
    with building(out) as folder:
        (folder / "images").mkdir()
        rows = _rows(folder, images(folder), copy, keep_without_sentences, findings, sentence_ids, total)
        about = write_folder(
            folder,
            rows,
            name=name,
            source=source,
            licence=licence,
            request=dict(request),
            skipped=findings.skipped,
            cleaned=findings.cleaned,
            notes=findings.notes,
        )
        shutil.rmtree(folder / INCOMING, ignore_errors=True)  # what could not be read is still there
        _refuse_repeated_ids(folder / METADATA, sentence_ids)
        _refuse_nothing(about, source, findings)
    print_skipped(findings.skipped)
    print_made(out, about)


def _missing(found: Survey, total: int, source: str, skip_missing: bool) -> str:
    if found.num_missing == total and skip_missing:
        return f"none of the {total} images of {source} is there, the first is {found.first_missing[0]}; check --images"
    return (
        f"{found.num_missing} of the {total} images of {source} are missing, the first: "
        f"{', '.join(found.first_missing)}; put them there, or leave them out with --skip-missing"
    )


def _within_limit(
    images: Iterator[SourceImage], counts: Mapping[str, int], shares: Mapping[str, int]
) -> Iterator[SourceImage]:
    """Yield each split's share, evenly spread over it."""
    wanted = {split: iter(spread(range(counts[split]), share)) for split, share in shares.items()}
    following = {split: next(places, None) for split, places in wanted.items()}
    met: Counter[str] = Counter()
    for image in images:
        if met[image.split] == following[image.split]:
            following[image.split] = next(wanted[image.split], None)
            yield image
        met[image.split] += 1


def _refuse_nothing(about: Mapping[str, Any], source: str, findings: Findings) -> None:
    if not sum(about["counts"].values()):
        first = f": {findings.skipped[0]['file']}: {findings.skipped[0]['reason']}" if findings.skipped else ""
        raise UserError(f"none of the {findings.num_tried} images of {source} can be used{first}; check --images")


def _rows(
    folder: Path,
    images: Iterator[SourceImage],
    copy: bool,
    keep_bare: bool,
    findings: Findings,
    sentence_ids: array[int],
    total: int | None,
) -> Iterator[dict[str, Any]]:
    """Yield the lines of metadata.jsonl, and link each picture before its line."""
    used_ids: set[str] = set()
    for image, outcome in _verified(images, total):
        findings.num_tried += 1
        if isinstance(outcome, UnreadableImage):
            kind = "unreadable" if os.path.exists(image.path) else "missing"
            findings.skip(image.name, kind, str(outcome))
            continue
        sentences = _clean(image, findings)
        if not sentences and not keep_bare:
            findings.skip(image.name, "no_sentences", "no sentence")
            continue
        image_id = _unused(make_safe_id(_without_suffix(image.name)), used_ids)
        named = [(given or f"{image_id}-{number}", text) for number, (given, text) in enumerate(sentences)]
        sentence_ids.extend(hash(sentence_id) for sentence_id, _ in named)
        file_name = f"images/{image_id}{_suffix(image.path, outcome)}"
        place_image(image.path, folder / file_name, copy, move=image.owned)
        yield {
            "file_name": file_name,
            "image_id": image_id,
            "split": image.split,
            "sentences": [{"sentence_id": sentence_id, "text": text} for sentence_id, text in named],
            "source_file": printable(image.name),
        }


def _clean(image: SourceImage, findings: Findings) -> list[tuple[str | None, str]]:
    """Return the sentences as they are stored; empty ones are left out, and what was changed is counted."""
    sentences = []
    for given, text in image.sentences:
        cleaned, changes = clean_sentence(text)
        findings.cleaned.update(changes)
        if cleaned:
            sentences.append((given and printable("-".join(given.split())), cleaned))
        else:
            findings.skip(image.name, "empty_sentence", "an empty sentence")
    return sentences


def _verified(images: Iterator[SourceImage], total: int | None) -> Iterator[tuple[SourceImage, str | UnreadableImage]]:
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


def _suffix(path: Path, image_format: str) -> str:
    """Keep a known suffix; else name it after the format, so that other tools know the picture as one."""
    suffix = path.suffix.lower()
    return suffix if suffix in IMAGE_SUFFIXES else f".{image_format.lower()}"


def _without_suffix(name: str) -> str:
    """Leave out the suffix of an image file; an id may hold a dot as well."""
    path = PurePosixPath(name)
    return str(path.with_suffix("")) if path.suffix.lower() in IMAGE_SUFFIXES else name


def _unused(image_id: str, used: set[str]) -> str:
    """Return the id, or where another name gave the same one, the id with a number; and mark it used."""
    candidate, number = image_id, 1
    while candidate in used:
        number += 1
        candidate = f"{image_id}-{number}"
    used.add(candidate)
    return candidate


def _refuse_repeated_ids(metadata: Path, hashes: array[int]) -> None:
    """Refuse a sentence id that stands twice; only hashes are kept in memory, so the file says whose it is."""
    values, counts = np.unique(np.asarray(hashes, dtype=np.int64), return_counts=True)
    suspects = set(values[counts > 1].tolist())
    if not suspects:
        return
    owners: dict[str, str] = {}
    for row in read_jsonl(metadata):
        for sentence in row["sentences"]:
            sentence_id = sentence["sentence_id"]
            if sentence_id in owners:
                raise UserError(
                    f"sentence id {sentence_id!r} stands at {owners[sentence_id]} and again at {row['source_file']}"
                )
            if hash(sentence_id) in suspects:
                owners[sentence_id] = row["source_file"]


def inside(name: str) -> bool:
    """Tell whether a relative path stays within the folder it is relative to."""
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts
