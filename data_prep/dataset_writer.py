"""Atomic writing of a dataset folder: whole or not at all, and not twice for one request.

The folder is built as a hidden sibling and renamed when it is complete, so a killed import leaves
no half dataset; the next import removes the remains.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from data_prep.clean_sentences import WORDS
from data_prep.left_out import Findings, left_out_lines
from semcore import __version__
from semcore.data.dataset import SPLITS
from semcore.runtime.errors import UserError
from semcore.runtime.files import (
    is_disk_full,
    plain_data,
    read_json,
    read_jsonl,
    sha256_of,
    write_json,
    write_jsonl,
    writing_to,
)
from semcore.runtime.locks import exclusive
from semcore.runtime.repeats import Keys, Repeats
from semcore.runtime.typed_commands import data_command

METADATA = "metadata.jsonl"
ABOUT = "dataset.json"
SKIPPED = "skipped.jsonl"
LOCK = ".lock"
NUM_SHOWN = 10


@dataclass(frozen=True)
class Source:
    """The origin of a dataset.

    Attributes:
        name: the dataset's name.
        place: the file, folder or hub name it was made from.
        licence: a note on permitted use.
        request: the command, its settings and fingerprints of the files, which determine the content.
    """

    name: str
    place: str
    licence: str
    request: Mapping[str, Any]


def already_made(out: Path, request: Mapping[str, Any]) -> bool:
    """Return, and print, whether exactly this request is already done.

    Args:
        out: the dataset folder to make.
        request: as in `Source`.

    Raises:
        UserError: OUT holds something else.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    if (out / ABOUT).is_file() and (out / METADATA).is_file():
        about = read_json(out / ABOUT)
        if about.get("request") == plain_data(request) and about.get("metadata_sha256") == sha256_of(out / METADATA):
            print_made(out, about, already=True)
            return True
        raise UserError(f"{out} already holds another dataset; choose another --out, or delete {out} first")
    raise UserError(f"{out} is not empty and is no dataset; choose another --out")


@contextmanager
def building(out: Path) -> Iterator[Path]:
    """Yield a hidden sibling folder that is renamed to `out` at the end, and removed after an error.

    Raises:
        UserError: another process makes the same folder, or it cannot be written.
    """
    target = Path(os.path.abspath(out))  # "." has no name
    temporary = target.with_name(f".{target.name}.unfinished")
    lock = temporary / LOCK
    with writing_to(out):
        temporary.mkdir(parents=True, exist_ok=True)
    with exclusive(lock, lambda _: f"another process is making {out}; wait until it is done, or choose another --out"):
        for leftover in set(temporary.iterdir()) - {lock}:
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        try:
            if target.is_dir() and any(target.iterdir()):
                raise UserError(f"another process has just made {out}; run the same command again to compare")
            yield temporary
            with writing_to(out):
                lock.unlink()  # still held: whoever has opened it sees that it is gone
                os.rename(temporary, target)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


def place_image(source: Path, target: Path, copy: bool, *, move: bool = False) -> None:
    """Place an image at `target`: a hard link, else a symbolic link, else (or with `copy`) a copy.

    Args:
        source: the image file.
        target: its path in the dataset folder.
        copy: copy it.
        move: the image was written for this import and is moved.

    Raises:
        UserError: no space left on the disk.
    """
    with writing_to(target):
        if move:
            os.replace(source, target)
            return
        if copy:
            shutil.copyfile(source, target)
            return
        for link in (os.link, os.symlink, shutil.copyfile):
            try:
                link(source.resolve(), target)
                return
            except OSError as error:
                if is_disk_full(error) or link is shutil.copyfile:
                    raise


def write_folder(
    folder: Path,
    rows: Iterable[dict[str, Any]],
    source: Source,
    findings: Findings,
    sentence_ids: Keys | None = None,
) -> dict[str, Any]:
    """Write metadata.jsonl, skipped.jsonl and dataset.json, and return the content of the last.

    Args:
        folder: the folder from `building`; the images are there, or `rows` puts them there.
        rows: the lines of metadata.jsonl, in their order.
        source: the origin of the dataset.
        findings: the findings so far; `rows` may add to them.
        sentence_ids: filled by `rows`, where ids come from a source that may use one twice.
    """
    num_images: Counter[str] = Counter()
    num_sentences: Counter[str] = Counter()

    def counted() -> Iterator[dict[str, Any]]:
        for row in rows:
            num_images[row["split"]] += 1
            num_sentences[row["split"]] += len(row["sentences"])
            yield row

    write_jsonl(folder / METADATA, counted())
    if sentence_ids is not None:
        _number_repeated_ids(folder / METADATA, sentence_ids, findings)
    if findings.skipped:
        write_jsonl(folder / SKIPPED, findings.skipped)
    about = {
        "name": source.name,
        "source": source.place,
        "licence": source.licence,
        "counts": {split: num_images[split] for split in SPLITS},
        "sentence_counts": {split: num_sentences[split] for split in SPLITS},
        "seen": dict(findings.seen),
        "skipped": dict(Counter(entry["kind"] for entry in findings.skipped)),
        **({"cleaned": dict(findings.cleaned)} if findings.cleaned else {}),
        **({"notes": findings.notes} if findings.notes else {}),
        "metadata_sha256": sha256_of(folder / METADATA),
        "semcore": __version__,
        "request": plain_data(source.request),
    }
    write_json(folder / ABOUT, about)
    return about


def _number_repeated_ids(metadata: Path, sentence_ids: Keys, findings: Findings) -> None:
    """Append a number to the ids of the second and later sentences with one id."""
    hashes = sentence_ids.repeated()
    if not hashes:
        return
    repeats, num_renamed = Repeats(hashes), 0

    def renamed() -> Iterator[dict[str, Any]]:
        nonlocal num_renamed
        for row in read_jsonl(metadata):
            for sentence in row["sentences"]:
                own = sentence["sentence_id"]
                if repeats.owner(own, own) is not None:
                    sentence["sentence_id"] = next(
                        other for other in (f"{own}-{n}" for n in count(2)) if other not in sentence_ids
                    )
                    sentence_ids.add(sentence["sentence_id"])
                    num_renamed += 1
            yield row

    write_jsonl(metadata, renamed())
    if num_renamed:
        findings.note(f"{num_renamed} sentence ids stand for other sentences before; they were given a number")


def print_made(out: Path, about: dict[str, Any], *, already: bool = False) -> None:
    """Print what a command made and left out, and the next command."""
    counts, sentences = about["counts"], about["sentence_counts"]
    size = f"{sum(counts.values())} images, {sum(sentences.values())} sentences"
    print(f"{out}{' is already made' if already else ''}: {size}")
    for split in SPLITS:
        print(f"  {split:5} {counts[split]:7} images {sentences[split]:8} sentences")
    for kind, number in about.get("cleaned", {}).items():
        print(f"cleaned: {number} {WORDS[kind]}")
    for note in about.get("notes", []):
        print(f"note: {note}")
    for line in left_out_lines(about, str(out / SKIPPED)):
        print(line)
    if already:
        print(f"to make it again, delete {out} first")
    print(f"next: {data_command('check', out)}")


def print_skipped(skipped: Sequence[dict[str, str]]) -> None:
    """Print the first of the entries that were left out."""
    for entry in skipped[:NUM_SHOWN]:
        print(f"  {entry['file']}: {entry['reason']}")
    if len(skipped) > NUM_SHOWN:
        print(f"  and {len(skipped) - NUM_SHOWN} more")
