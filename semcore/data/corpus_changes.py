"""Changes of a run's corpus since its identifiers were made: images that were added, and items that were removed.

RUN/corpus/changes.jsonl    one line a change, the oldest first
RUN/corpus/images           the pictures that were added

The dataset and RUN/identifiers stay as the models were trained on them, so that trainings, evaluations and the lineage
of models are not concerned. A change is one line that is appended, and counts once its line end is written: a reader
sees all of it or nothing, and a kill leaves what was before.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from semcore.data.dataset import Dataset, ImageRecord, Sentence
from semcore.data.identifier_files import IdentifierRow
from semcore.data.run_folder import RunFolder
from semcore.runtime.errors import UserError
from semcore.runtime.files import hash_of, writing_to
from semcore.runtime.fingerprints import file_fingerprint
from semcore.runtime.json_values import parse_json

FOLDER, CHANGES, IMAGES = "corpus", "changes.jsonl", "images"
FITTED = ("clusters.safetensors", "quantizer.safetensors", "tree.safetensors")
"""Files of RUN/identifiers that identifiers of later items depend on; a scheme has one or two of them."""
ADDED = "added"
"""The split of items that were added: none of the dataset's."""


@dataclass(frozen=True)
class AddedImage:
    """An image that was added, with its sentences.

    Attributes:
        image_id: its id.
        file_name: of the picture, in RUN/corpus/images.
        sha256: of the picture's file.
        source_file: where it came from.
        caption: what its identifier was made from.
        row: the image's identifier.
        sentences: the sentences about it, possibly none.
        sentence_rows: their identifiers.
    """

    image_id: str
    file_name: str
    sha256: str
    source_file: str
    caption: str
    row: IdentifierRow
    sentences: tuple[Sentence, ...]
    sentence_rows: tuple[IdentifierRow, ...]


@dataclass(frozen=True)
class CorpusChanges:
    """The changes of a corpus, taken together.

    Attributes:
        number: how many there were.
        added: image id -> the image, of those that are there, in the order of their addition.
        removed: ids of images and sentences of the dataset that were removed.
        dropped: file name of an added picture that was removed -> when, in seconds since 1970.
    """

    number: int = 0
    added: dict[str, AddedImage] = field(default_factory=dict)
    removed: frozenset[str] = frozenset()
    dropped: dict[str, float] = field(default_factory=dict)


@contextmanager
def changing(run: RunFolder) -> Iterator[None]:
    """Lock the corpus of a run against a second change; readers need no lock.

    Raises:
        UserError: another process, or another thread, changes it.
    """
    with run.lock("corpus"):
        yield


def read_changes(run: RunFolder) -> CorpusChanges:
    """Read what has become of a run's corpus.

    Raises:
        UserError: a line is broken, or the run's identifiers were made again since.
    """
    path = run / FOLDER / CHANGES
    state, clusters = _State(), set[str]()
    for number, line in enumerate(_whole_lines(path), start=1):
        try:
            change = parse_json(line.decode())
            clusters.add(change["clusters"])
            state.apply(change)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise UserError(
                f"{path}, line {number}: not a change of the corpus; put the file back from a copy, or remove "
                f"{path.parent} and add again"
            ) from None
    if clusters - {clusters_fingerprint(run)}:
        raise UserError(
            f"the identifiers of {run.path} were made again since items were added or removed; put them back, or "
            f"remove {path.parent} and add the items again"
        )
    return CorpusChanges(state.number, state.added, frozenset(state.removed), state.dropped)


def changes_stamp(run: RunFolder) -> tuple[int, int]:
    """Return what differs after every change of the corpus: size in bytes and time in ns; zeros before the first."""
    try:
        stat = (run / FOLDER / CHANGES).stat()
    except FileNotFoundError:
        return (0, 0)
    return (stat.st_size, stat.st_mtime_ns)


def write_addition(run: RunFolder, images: Iterable[AddedImage]) -> None:
    """Append an addition; the pictures have to be in their place, and the corpus locked by `changing`."""
    _append(run, {"added": [asdict(image) for image in images]})


def write_removal(run: RunFolder, item_ids: Iterable[str]) -> None:
    """Append a removal, of an image together with all its sentences; the corpus has to be locked by `changing`."""
    _append(run, {"removed": list(item_ids)})


def picture_path(run: RunFolder, image: AddedImage) -> Path:
    """Return where the picture of an added image lies."""
    return pictures_folder(run) / image.file_name


def pictures_folder(run: RunFolder) -> Path:
    """Return RUN/corpus/images."""
    return run.path.absolute() / FOLDER / IMAGES


def with_added_images(run: RunFolder, dataset: Dataset, changes: CorpusChanges) -> Dataset:
    """Return the dataset with the images that were added, of split `ADDED`; those that were removed are still in it."""
    if not changes.added:
        return dataset
    records = [
        ImageRecord(own.image_id, str(picture_path(run, own)), ADDED, own.sentences, own.source_file)
        for own in changes.added.values()
    ]
    return replace(
        dataset, images=[record for record in dataset.images if record.image_id not in changes.added] + records
    )


def clusters_fingerprint(run: RunFolder) -> str:
    """Return a hash of the clusters and codebooks that identifiers are made with; "" where there are none."""
    paths = [run / "identifiers" / name for name in FITTED]
    found = [file_fingerprint(path) for path in paths if path.is_file()]
    return hash_of(*found) if found else ""


@dataclass
class _State:
    """The changes read so far; attributes as in `CorpusChanges`, and the image of every sentence that was added."""

    number: int = 0
    added: dict[str, AddedImage] = field(default_factory=dict)
    removed: set[str] = field(default_factory=set)
    dropped: dict[str, float] = field(default_factory=dict)
    image_of: dict[str, str] = field(default_factory=dict)

    def apply(self, change: dict[str, Any]) -> None:
        """Apply the next change."""
        self.number += 1
        for image in map(_image, change.get("added", ())):
            self.added[image.image_id] = image
            self.image_of.update((own.sentence_id, image.image_id) for own in image.sentences)
            self.dropped.pop(image.file_name, None)
        for item_id in change.get("removed", ()):
            self.removed.add(item_id)
            if item_id in self.added:
                self.dropped[self.added.pop(item_id).file_name] = float(change["time"])
            elif (image_id := self.image_of.pop(item_id, None)) in self.added:
                self.added[str(image_id)] = _without(self.added[str(image_id)], item_id)


def _without(image: AddedImage, sentence_id: str) -> AddedImage:
    return replace(
        image,
        sentences=tuple(own for own in image.sentences if own.sentence_id != sentence_id),
        sentence_rows=tuple(row for row in image.sentence_rows if row["item_id"] != sentence_id),
    )


def _image(row: dict[str, Any]) -> AddedImage:
    sentences = tuple(Sentence(**sentence) for sentence in row["sentences"])
    return AddedImage(**{**row, "sentences": sentences, "sentence_rows": tuple(row["sentence_rows"])})


def _whole_lines(path: Path) -> list[bytes]:
    """Return the lines that were written to their end; none where there is no file."""
    try:
        return path.read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None


def _append(run: RunFolder, change: dict[str, Any]) -> None:
    path = run / FOLDER / CHANGES
    line = json.dumps({"time": round(time.time(), 3), "clusters": clusters_fingerprint(run), **change})
    with writing_to(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        end = sum(len(own) + 1 for own in _whole_lines(path))
        with path.open("ab") as handle:
            handle.truncate(end)  # what a killed process has left of a line
            try:
                handle.write(line.encode() + b"\n")
                handle.flush()
                os.fsync(handle.fileno())
            except BaseException:
                handle.truncate(end)
                raise
