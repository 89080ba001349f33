"""Pictures that were added to a run's corpus: RUN/corpus/images, named by image and content."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from pathlib import Path

from semcore.data.corpus_changes import CorpusChanges, pictures_folder
from semcore.data.images import verify_image
from semcore.data.run_folder import RunFolder
from semcore.runtime.errors import UnreadableImage
from semcore.runtime.files import is_disk_full, sha256_of, writing_to
from semcore.runtime.remains import is_left_behind, temporary_beside

ABANDONED_S = 3_600  # ours: whoever had the run open when a picture was removed has opened it again by then
_SUFFIXES = {"JPEG": "jpg", "TIFF": "tif"}


def content_hash(picture: Path | bytes) -> str:
    """Return the SHA-256 of a picture's file.

    Raises:
        UnreadableImage: there is no such file.
    """
    if isinstance(picture, bytes):
        return hashlib.sha256(picture).hexdigest()
    if not picture.is_file():
        raise UnreadableImage("there is no such file")
    return sha256_of(picture)


def place_picture(run: RunFolder, image_id: str, picture: Path | bytes, sha256: str, copy: bool) -> str:
    """Put a picture into the run, and return its file name there.

    A name stands for one content: a picture that somebody reads is never written over by another one.

    Args:
        run: the run folder.
        image_id: a safe id.
        picture: a file, or the bytes of one.
        sha256: of its content.
        copy: copy a file rather than link it.

    Raises:
        UnreadableImage: it cannot be decoded.
        UserError: no space left, or the run cannot be written to.
    """
    folder = pictures_folder(run)
    temporary = temporary_beside(folder / image_id)
    with writing_to(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            if isinstance(picture, bytes):
                temporary.write_bytes(picture)
            else:
                _link_or_copy(picture, temporary, copy)
            kind = verify_image(temporary)
            name = f"{image_id}-{sha256[:12]}.{_SUFFIXES.get(kind, kind.lower())}"
            os.replace(temporary, folder / name)
        finally:
            temporary.unlink(missing_ok=True)
    return name


def remove_abandoned(run: RunFolder, changes: CorpusChanges) -> None:
    """Delete pictures that left the corpus over an hour ago, and those that a killed addition left as long ago.

    Parts of pictures, which nobody can have open, go at once.

    Args:
        run: the run folder, locked by `changing`.
        changes: of its corpus.
    """
    there = {image.file_name for image in changes.added.values()}
    folder, now = pictures_folder(run), time.time()
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.name in there:
            continue
        if is_left_behind(path.name) or now - changes.dropped.get(path.name, path.lstat().st_ctime) > ABANDONED_S:
            path.unlink(missing_ok=True)


def _link_or_copy(source: Path, target: Path, copy: bool) -> None:
    if not copy:
        try:
            os.link(source.resolve(), target)
            return
        except OSError as error:
            if is_disk_full(error):
                raise
    shutil.copyfile(source, target)
