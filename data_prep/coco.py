"""COCO's own captions_*.json: a list of images, and elsewhere in the file a list of sentences about them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from data_prep.json_stream import stream_lists
from data_prep.left_out import BadRow, Findings
from data_prep.names import find_file, is_there
from data_prep.source_images import SourceImage, inside
from data_prep.splits import SplitSettings, draw_splits
from semcore.runtime.errors import UserError
from semcore.runtime.text import whole_characters

LISTS = ("images", "annotations")


def is_coco(path: Path) -> bool:
    """Tell COCO's layout from Karpathy's by the first entry of either list."""
    for name, entry in stream_lists(path, LISTS, {}):
        return name == "annotations" or (isinstance(entry, dict) and "filename" not in entry and "file_name" in entry)
    return False


class CocoCaptions:
    """The images of a captions_*.json with their sentences, joined on disk and not in memory."""

    def __init__(self, path: Path, folder: Path, settings: SplitSettings, findings: Findings):
        """Read the file.

        Args:
            path: the file.
            folder: holds the images, or a folder called like the end of the file's name (val2017) that does.
            settings: how splits are drawn.
            findings: the entries are counted here, and those that cannot be used are noted.

        Raises:
            UserError: it is no JSON, or its annotations are no captions.
        """
        self._folder, self._part = folder, path.name.split(".")[0].rpartition("_")[2]
        self._entries = sqlite3.connect("")  # a file that vanishes with the connection
        self._entries.execute("CREATE TABLE images (number INTEGER PRIMARY KEY, id TEXT UNIQUE, name BLOB)")
        self._entries.execute("CREATE TABLE captions (number INTEGER PRIMARY KEY, image TEXT, id TEXT, text BLOB)")
        self._read(path, findings)
        self._entries.execute("CREATE INDEX by_image ON captions (image, number)")
        self._note_strangers(findings)
        names = [str(number) for (number,) in self._entries.execute("SELECT number FROM images ORDER BY number")]
        self._splits = draw_splits(names, settings)

    def images(self) -> Iterator[SourceImage]:
        """Yield the images in the order of the file."""
        rows = self._entries.execute(
            "SELECT images.number, images.name, captions.id, captions.text, captions.number FROM images "
            "LEFT JOIN captions ON captions.image = images.id ORDER BY images.number, captions.number"
        )
        for (number, name), group in groupby(rows, key=lambda row: row[:2]):
            sentences = tuple((own, _text(text)) for _, _, own, text, place in group if place is not None)
            yield SourceImage(self._path(str(_text(name))), str(_text(name)), self._splits[str(number)], sentences)

    def _read(self, path: Path, findings: Findings) -> None:
        place, num_captions, num_others = dict.fromkeys(LISTS, 0), 0, 0
        for name, entry in stream_lists(path, LISTS, {}):
            findings.seen["rows"] += 1
            try:
                if name == "images":
                    self._add_image(entry)
                else:
                    num_captions += isinstance(entry, dict) and "caption" in entry
                    num_others += 1
                    self._add_caption(entry)
            except BadRow as bad:
                findings.skip(f"{name}[{place[name]}]", bad.kind, str(bad))
            place[name] += 1
        if num_others and not num_captions:
            raise UserError(
                f"the annotations of {path} are no captions; give COCO's captions_*.json of the same images with --json"
            )

    def _add_image(self, entry: Any) -> None:
        name = entry.get("file_name") if isinstance(entry, dict) else None
        if not isinstance(name, str) or not name or entry.get("id") is None:
            raise BadRow("no_image", "has no file_name, or no id")
        if not inside(name):
            raise BadRow("leads_out", f"has the file_name {name!r}, which leads out of {self._folder}")
        added = self._entries.execute(
            "INSERT OR IGNORE INTO images (id, name) VALUES (?, ?)", (_key(entry["id"]), _blob(name))
        )
        if not added.rowcount:
            raise BadRow("repeated", f"repeats the id {entry['id']}")

    def _add_caption(self, entry: Any) -> None:
        if not isinstance(entry, dict) or entry.get("image_id") is None:
            raise BadRow("no_image", "names no image")
        caption = entry.get("caption")
        if caption is not None and not isinstance(caption, str):
            raise BadRow("malformed", f"has a caption that is no text: {str(caption)[:60]!r}")
        own = None if entry.get("id") is None else "-".join(_key(entry["id"]).split())
        row = (_key(entry["image_id"]), own, None if caption is None else _blob(caption))
        self._entries.execute("INSERT INTO captions (image, id, text) VALUES (?, ?, ?)", row)

    def _note_strangers(self, findings: Findings) -> None:
        """Note the captions of images that the file does not list."""
        rows = self._entries.execute("SELECT image FROM captions WHERE image NOT IN (SELECT id FROM images)")
        for (image,) in rows:
            findings.skip(f"a caption of image {image}", "no_image", "is about an image that the file does not list")

    def _path(self, name: str) -> Path:
        path, deeper = find_file(self._folder, name), find_file(self._folder, f"{self._part}/{name}")
        return deeper if not is_there(path) and is_there(deeper) else path


def _key(given: Any) -> str:
    """Return an id as text that a database takes."""
    return whole_characters(str(given))


def _blob(text: str) -> bytes:
    """Return a text as bytes; lone surrogates, which no database accepts as text, are kept."""
    return text.encode("utf-8", "surrogatepass")


def _text(blob: bytes | None) -> str | None:
    return None if blob is None else blob.decode("utf-8", "surrogatepass")
