"""Rows of a data set: their image's bytes, sentences, id and split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from data_prep.cells import is_null, sentences_in
from data_prep.left_out import BadRow
from data_prep.names import is_there

IMAGES = ("image", "img", "jpg", "jpeg", "png", "webp")
SENTENCES = ("sentences", "captions", "sentence", "caption", "text", "txt", "raw")
IDS = ("file_name", "filename", "image_id", "img_id", "imgid", "cocoid", "__key__")
SPLITS = ("split",)
FLAGS = ("--image-column", "--sentence-column", "--id-column", "--split-column")


class HubRow(NamedTuple):
    """One row; `split` is empty where the row names none, `file_name` where the image has none."""

    image: bytes
    file_name: str
    sentences: list[Any]
    image_id: str
    split: str


class Columns:
    """Finder of a data set's columns and parser of its rows.

    A column is the first of its usual names that any row has a value under; rows without one are bad rows.
    """

    def __init__(self, names: Sequence[str | None]):
        """Take the columns of image, sentences, id and split; None for the usual names."""
        self._names = list(names)
        self._found: list[str | None] = list(names)
        self.met: dict[str, None] = {}  # all columns so far, in their order

    def read(self, row: Mapping[str, Any], default_id: str) -> HubRow:
        """Parse a row.

        Args:
            row: column -> value; images not decoded.
            default_id: the id where the row has none.

        Raises:
            BadRow: there is no image, it is neither bytes nor a file, or it has no sentence.
        """
        flat = {**(row["json"] if isinstance(row.get("json"), Mapping) else {}), **row}
        self.met.update(dict.fromkeys(flat))
        image, sentences, image_id, split = (self._pick(flat, role) for role in range(4))
        content, file_name = _image(image)
        if sentences is None:
            column = self._found[1] or next((name for name in SENTENCES if name in flat), "sentence")
            raise BadRow("no_sentence", f"has no sentence: its {column} is null")
        shown = str(image_id) if image_id not in (None, "") else default_id
        return HubRow(content, file_name, sentences_in(sentences), shown, str(split) if split is not None else "")

    def missing(self) -> str | None:
        """Return an error sentence about a column that no row has had so far; None where all are there."""
        columns = ", ".join(self.met)
        for name, flag in zip(self._names, FLAGS, strict=True):
            if name is not None and name not in self.met:
                return f"there is no column {name!r}; choose {flag} among {columns}"
        for role, (usual, what) in enumerate(((IMAGES, "images"), (SENTENCES, "sentences"))):
            if self._found[role] is None and not any(name in self.met for name in usual):
                return f"no column of {what} was found among {columns}; name it with {FLAGS[role]}"
        return None

    def _pick(self, row: Mapping[str, Any], role: int) -> Any:
        usual = (IMAGES, SENTENCES, IDS, SPLITS)[role]
        if self._found[role] is None:
            self._found[role] = next((name for name in usual if not is_null(row.get(name))), None)
        value = row.get(self._found[role] or "")
        if is_null(value) and role == 0 and self._names[0] is None:  # one row has a .jpg, the next one a .png
            value = next((row[name] for name in usual if not is_null(row.get(name))), None)
        return None if is_null(value) else value


def _image(value: Any) -> tuple[bytes, str]:
    """Return the bytes of an image as it is stored, and its file name where it has one."""
    if isinstance(value, bytes):
        return value, ""
    if isinstance(value, Mapping):
        content, path = value.get("bytes"), value.get("path") or ""
        if content is not None:
            return content, path
        if path and is_there(path):
            return Path(path).read_bytes(), path
    if value is None:
        raise BadRow("no_image", "has no image: it is null")
    raise BadRow(
        "no_image",
        f"has the image {str(value)[:60]!r}, neither bytes nor a file; only images inside the data set are read",
    )
