"""Pictures that the page searches with: those of the dataset by their id, dropped ones by a hash of their content."""

from __future__ import annotations

import hashlib
import shutil
import threading
from pathlib import Path

from PIL import Image

from semcore.data.dataset import Dataset
from semcore.data.images import open_image, plain_format
from semcore.runtime.errors import UnreadableImage, UserError

UPLOAD = "upload:"
"""What the key of a dropped picture begins with; no image's id has a colon."""
MOST_BYTES = 50 << 20  # ours: the largest photographs of phones have 30 MB
LONGEST_NAME = 80


class QueryPictures:
    """The pictures of a page.

    Args:
        dataset: its images can be searched with, too.
        folder: holds copies of the dataset's pictures that browsers may ask for.

    Attributes:
        dataset: as given; another one may take its place.
    """

    def __init__(self, dataset: Dataset, folder: Path):
        self.dataset, self._folder = dataset, folder
        self._names: dict[str, str] = {}  # hash -> image id or upload key
        self._uploads: dict[str, Path] = {}
        self._lock = threading.Lock()

    def key_of(self, path: Path) -> str:
        """Return what a link calls a picture that the page has shown or was given.

        Raises:
            UserError: it is gone, or too large.
        """
        content = _read(path)
        digest = hashlib.sha256(content).hexdigest()
        with self._lock:
            if digest not in self._names:
                self._names[digest] = UPLOAD + digest[:16]
                self._uploads[UPLOAD + digest[:16]] = path
            return self._names[digest]

    def file_of(self, key: str) -> Path:
        """Return the file behind a key, or an image's id.

        Raises:
            UserError: there is none.
        """
        if not key.startswith(UPLOAD):
            if key not in self.dataset.image_paths:
                raise UserError(
                    f"there is no image {key[:LONGEST_NAME]!r} in the dataset {self.dataset.name!r}; choose another"
                )
            return self.dataset.image_paths[key]
        path = self._uploads.get(key)
        if path is None or not path.is_file():
            raise UserError("the picture of this link was dropped on a page that is no longer served; drop it again")
        return path

    def open(self, key: str) -> Image.Image:
        """Return the picture behind a key, or an image's id.

        Raises:
            UserError: there is none, or it cannot be read.
        """
        path = self.file_of(key)
        try:
            return open_image(path)
        except UnreadableImage as error:
            name = path.name if len(path.name) <= LONGEST_NAME else path.name[:LONGEST_NAME] + "…"
            raise UserError(f"{name} cannot be read: {error}; give a picture such as a PNG or a JPEG") from None

    def shown(self, key: str) -> str | None:
        """Return a file that a browser can show for a key, or an image's id; None where the picture is broken.

        Raises:
            UserError: there is no such picture.
        """
        path = self.file_of(key)
        if key.startswith(UPLOAD):
            return str(path)
        try:
            copy = self._copy(path, key)
        except (UnreadableImage, OSError):
            return None
        with self._lock:
            self._names[hashlib.sha256(copy.read_bytes()).hexdigest()] = key
        return str(copy)

    def _copy(self, path: Path, image_id: str) -> Path:
        """Return a copy of a dataset's picture as a PNG or a JPEG."""
        kind = plain_format(path)
        copy = self._folder / f"{image_id}.{'jpg' if kind == 'JPEG' else 'png'}"
        if copy.is_file():
            return copy
        self._folder.mkdir(parents=True, exist_ok=True)
        if kind is None:
            open_image(path).save(copy)
        else:
            shutil.copyfile(path, copy)
        return copy


def _read(path: Path) -> bytes:
    try:
        num_bytes = path.stat().st_size
        if num_bytes > MOST_BYTES:
            raise UserError(f"a picture may have {MOST_BYTES >> 20} MB here, found {num_bytes >> 20}; make it smaller")
        return path.read_bytes()
    except OSError:
        raise UserError("the dropped picture is gone; drop it again") from None
