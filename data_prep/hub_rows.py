"""What a row of a data set says: its image's bytes, its sentences, its id and its split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from semcore.errors import UserError

IMAGES = ("image", "img", "jpg", "jpeg", "png", "webp")
SENTENCES = ("sentences", "captions", "sentence", "caption", "text", "txt", "raw")
IDS = ("file_name", "filename", "image_id", "img_id", "imgid", "cocoid", "__key__")
SPLITS = ("split",)
FLAGS = ("--image-column", "--sentence-column", "--id-column", "--split-column")


class HubRow(NamedTuple):
    """One row; `split` is empty where it says none, `file_name` where the image has none."""

    image: bytes
    file_name: str
    sentences: list[str]
    image_id: str
    split: str


def read_row(row: Mapping[str, Any], names: Sequence[str | None], default_id: str) -> HubRow:
    """Take a row apart.

    Args:
        row: column -> value; images not decoded.
        names: the columns of image, sentences, id and split; None for the usual names.
        default_id: where there is no id.

    Raises:
        UserError: a named column is not there, or there is no image or no sentence column.
    """
    flat = {**(row["json"] if isinstance(row.get("json"), Mapping) else {}), **row}
    image, sentences, image_id, split = (
        _pick(flat, name, usual, flag)
        for name, usual, flag in zip(names, (IMAGES, SENTENCES, IDS, SPLITS), FLAGS, strict=True)
    )
    for value, what, flag in ((image, "images", FLAGS[0]), (sentences, "sentences", FLAGS[1])):
        if value is None:
            columns = ", ".join(flat)
            raise UserError(f"no column of {what} was found among {columns}; name it with {flag}")
    content, file_name = _image(image)
    shown = str(image_id) if image_id not in (None, "") else default_id
    return HubRow(content, file_name, _texts(sentences), shown, str(split) if split is not None else "")


def _pick(row: Mapping[str, Any], name: str | None, usual: Sequence[str], flag: str) -> Any:
    if name is not None:
        if name not in row:
            raise UserError(f"there is no column {name!r}; choose {flag} among {', '.join(row)}")
        return row[name]
    return next((row[column] for column in usual if row.get(column) is not None), None)


def _image(value: Any) -> tuple[bytes, str]:
    """Return the bytes of an image as it is stored, and its file name where it has one."""
    if isinstance(value, bytes):
        return value, ""
    if isinstance(value, Mapping):
        content, path = value.get("bytes"), value.get("path") or ""
        if content is not None:
            return content, path
        if path and Path(path).is_file():
            return Path(path).read_bytes(), path
    raise UserError(
        f"an image is {str(value)[:60]!r}, neither bytes nor a file; only images inside the data set are read"
    )


def _texts(value: Any) -> list[str]:
    entries = value if isinstance(value, list) else [value]
    texts = []
    for entry in entries:
        text = entry.get("raw", entry.get("text")) if isinstance(entry, Mapping) else entry
        if isinstance(text, bytes):
            text = text.decode("utf-8", errors="replace")
        if not isinstance(text, str):
            raise UserError(f"a sentence is a text or an object with `raw` or `text`, found {str(entry)[:60]!r}")
        texts.append(text)
    return texts
