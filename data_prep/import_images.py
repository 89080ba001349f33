"""Import of image files into a dataset folder: rows of metadata and links; bad images are left out.

Images come as an iterator that is made twice: once to count the images and to find missing ones, once
to import them. Memory holds a few hundred at a time, however many there are.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from data_prep.cells import is_null
from data_prep.clean_sentences import clean_sentence, printable
from data_prep.dataset_writer import Source, building, place_image, print_made, print_skipped, write_folder
from data_prep.left_out import Findings
from data_prep.names import similar_name
from data_prep.source_images import Images, SourceImage, Survey, suffix_of, verified, within_shares, without_suffix
from semcore.commands.arguments import require_minimum
from semcore.data.dataset import SPLITS, make_safe_id
from semcore.data.subsets import share_out
from semcore.runtime.errors import UnreadableImage, UserError
from semcore.runtime.repeats import Keys, Used
from semcore.runtime.text import clean_text

INCOMING = "incoming"  # holds images that come as bytes, inside the unfinished folder


@dataclass(kw_only=True)
class LinkSettings:
    """What every import of files takes."""

    copy: bool = False
    """Copy the images; the default links them."""
    skip_missing: bool = False
    """Leave out images that are not there; the default says which, and stops."""
    limit: int | None = None
    """Import at most so many images, shared out over the splits."""

    def __post_init__(self) -> None:
        require_minimum(1, self, "limit")


def request_of(command: str, settings: Any, **hashes: str) -> dict[str, Any]:
    """Return the command, settings and hashes that determine an import's content, to recognise a repeated import.

    Paths are relative to the dataset folder, so a folder that was moved together with its source is still recognised.

    Args:
        command: its name.
        settings: its settings.
        hashes: hashes of the files it reads, by the setting that names the file.
    """
    given = {key: value for key, value in asdict(settings).items() if key != "out"}
    out = settings.out.absolute()
    paths = {key: os.path.relpath(value.absolute(), out) for key, value in given.items() if isinstance(value, Path)}
    return {"command": command, **given, **paths, **hashes}


def import_images(
    out: Path,
    images: Images,
    found: Survey,
    source: Source,
    settings: LinkSettings,
    findings: Findings,
    *,
    keep_bare: bool = False,
) -> None:
    """Make the dataset folder `out` from the images that can be read, and print what was made.

    Args:
        out: the dataset folder.
        images: the images to import, in this order.
        found: their survey.
        source: their origin.
        settings: whether to copy, whether to skip missing images, and how many to import.
        findings: the findings so far; grows.
        keep_bare: keep images without sentences.

    Raises:
        UserError: images are missing, or not one can be used.
    """
    total = sum(found.counts.values())
    if found.num_missing and not (settings.skip_missing and found.num_missing < total):
        raise UserError(_missing(found, total, source.place, settings.skip_missing))
    shares = share_out({split: found.counts[split] for split in SPLITS}, settings.limit)

    def chosen(_: Path) -> Iterator[SourceImage]:
        return within_shares(images(), found.counts, shares)

    make_folder(out, chosen, source, findings, copy=settings.copy, keep_bare=keep_bare, total=sum(shares.values()))


def make_folder(
    out: Path,
    images: Callable[[Path], Iterator[SourceImage]],
    source: Source,
    findings: Findings,
    *,
    copy: bool = False,
    keep_bare: bool = False,
    total: int | None = None,
) -> None:
    """Make the dataset folder in a single pass over the images.

    Args:
        out: the dataset folder.
        images: gets the unfinished folder, and may write files that are `owned` into it.
        source: the images' origin.
        findings: the findings so far; grows.
        copy: copy the files instead of linking them.
        keep_bare: keep images without sentences.
        total: the number of images, where it is known.
    """
    sentence_ids = Keys()
    with building(out) as folder:
        (folder / "images").mkdir()
        rows = _rows(folder, verified(images(folder), total), copy, keep_bare, findings, sentence_ids)
        about = write_folder(folder, rows, source, findings, sentence_ids)
        shutil.rmtree(folder / INCOMING, ignore_errors=True)  # unreadable images are still there
        _refuse_nothing(about, source.place, findings)
    print_skipped(findings.skipped)
    print_made(out, about)


def _missing(found: Survey, total: int, place: str, skip_missing: bool) -> str:
    if found.num_missing == total and skip_missing:
        return f"none of the {total} images of {place} is there, the first is {found.first_missing[0]}; check --images"
    return (
        f"{found.num_missing} of the {total} images of {place} are missing, the first: "
        f"{', '.join(found.first_missing)}; put them there, or leave them out with --skip-missing"
    )


def _refuse_nothing(about: Mapping[str, Any], place: str, findings: Findings) -> None:
    if not sum(about["counts"].values()):
        first = f": {findings.skipped[0]['file']}: {findings.skipped[0]['reason']}" if findings.skipped else ""
        raise UserError(f"none of the {findings.seen['images']} images of {place} can be used{first}; check --images")


def _rows(
    folder: Path,
    images: Iterator[tuple[SourceImage, str | UnreadableImage]],
    copy: bool,
    keep_bare: bool,
    findings: Findings,
    sentence_ids: Keys,
) -> Iterator[dict[str, Any]]:
    """Yield the lines of metadata.jsonl, and link each image before its line."""
    used_ids = Used()
    for image, outcome in images:
        findings.seen["images"] += 1
        if isinstance(outcome, UnreadableImage):
            _skip_image(image, str(outcome), findings)
            continue
        sentences = _clean(image, findings)
        if not sentences and not keep_bare:
            findings.skip(image.name, "no_sentences", "no sentence")
            continue
        image_id = _unused(make_safe_id(without_suffix(image.name)), used_ids)
        named = [(given or f"{image_id}-{number}", text) for number, (given, text) in enumerate(sentences)]
        for sentence_id, _ in named:
            sentence_ids.add(sentence_id)
        file_name = f"images/{image_id}{suffix_of(image.path, outcome)}"
        place_image(image.path, folder / file_name, copy, move=image.owned)
        yield {
            "file_name": file_name,
            "image_id": image_id,
            "split": image.split,
            "sentences": [{"sentence_id": sentence_id, "text": text} for sentence_id, text in named],
            "source_file": printable(image.name),
        }


def _skip_image(image: SourceImage, reason: str, findings: Findings) -> None:
    there = os.path.exists(image.path)
    alike = None if there else similar_name(image.path)
    findings.skip(image.name, "unreadable" if there else "missing", f"{reason}; there is {alike}" if alike else reason)


def _clean(image: SourceImage, findings: Findings) -> list[tuple[str | None, str]]:
    """Return the sentences as they are stored; empty ones are left out, and changes are counted."""
    sentences = []
    for given, text in image.sentences:
        findings.seen["sentences"] += 1
        if not isinstance(text, str):
            kind, reason = ("null_sentence", "null") if is_null(text) else ("no_text", f"no text: {str(text)[:60]!r}")
            findings.skip(image.name, kind, f"a sentence that is {reason}")
            continue
        cleaned, changes = clean_sentence(text)
        findings.cleaned.update(changes)
        if cleaned:
            sentences.append((given and "-".join(clean_text(given).split()), cleaned))
        else:
            findings.skip(image.name, "empty_sentence", "an empty sentence")
    return sentences


def _unused(image_id: str, used: Used) -> str:
    """Return the id, with a number where another name gave the same id; it joins the `used` ones."""
    candidate, number = image_id, 1
    while candidate in used:
        number += 1
        candidate = f"{image_id}-{number}"
    used.add(candidate)
    return candidate
