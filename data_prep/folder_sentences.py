"""Sentences in a tree of images: metadata.jsonl, metadata.csv, and text files beside the images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from data_prep.cells import sentences_in, sentences_in_cell
from data_prep.folders import Beside
from data_prep.left_out import BadRow, Findings
from data_prep.names import find_file
from data_prep.source_images import inside, is_image
from data_prep.tables import read_lines
from semcore.runtime.errors import UserError
from semcore.runtime.json_values import parse_json
from semcore.runtime.text_files import lines_of, read_text

METADATA = ("metadata.jsonl", "metadata.csv")
SENTENCES = ("sentences", "text", "captions", "caption", "sentence")
Sentences = tuple[tuple[str | None, object], ...]


def read_sentences(root: Path, files: list[str], findings: Findings) -> dict[str, Sentences]:
    """Return image name -> sentences, for all images with a sentence.

    Args:
        root: the folder.
        files: all files below it.
        findings: notes the files that are not read and the lines that cannot be used.
    """
    beside, used = Beside(files), set[str]()
    spoken: dict[str, Sentences] = {}
    for name in filter(is_image, files):
        text = beside.of(name)
        lines = None if text is None else _lines(root, text, findings, first=text not in used)
        used.update([text] if text else [])
        if lines is not None:
            spoken[name] = tuple((None, line) for line in lines)
    told: dict[str, Sentences] = {}
    for kind in METADATA:
        for name in files:
            if PurePosixPath(name).name.lower() == kind:
                _read_metadata(root, name, told, findings)
    _note_others(files, used, findings)
    return {**spoken, **told}


def _lines(root: Path, name: str, findings: Findings, *, first: bool) -> list[str] | None:
    """Return the lines of a text file; None, noted once, where it is no text."""
    try:
        text = read_text(root / name)
    except (UserError, OSError) as reason:
        if first:
            findings.skip(name, "unreadable_text", str(reason))
        return None
    return text.removesuffix("\n").split("\n") if text.strip() else []


def _note_others(files: list[str], used: set[str], findings: Findings) -> None:
    for name in files:
        suffix = PurePosixPath(name).suffix.lower()
        if is_image(name) or name in used or PurePosixPath(name).name.lower() in METADATA:
            continue
        if suffix == ".txt":
            findings.skip(name, "stray_text", "there is no image of its name beside it")
        else:
            findings.skip(name, "other_file", f"{suffix or 'a file without a suffix'} is not read")


def _read_metadata(root: Path, name: str, told: dict[str, Sentences], findings: Findings) -> None:
    """Add the sentences of one metadata file; those of an earlier file have precedence."""
    before = set(told)
    rows = _csv_rows(root / name) if name.lower().endswith(".csv") else _json_rows(root / name)
    for number, row in rows:
        findings.seen["rows"] += 1
        try:
            if isinstance(row, BadRow):
                raise row
            image = (PurePosixPath(name).parent / _file_name(row)).as_posix()
            image = find_file(root, image).relative_to(root).as_posix()
            if image in before:
                raise BadRow("repeated", f"is about {row['file_name']}, of which another metadata file speaks")
            told[image] = (*told.get(image, ()), *_row_sentences(row))
        except BadRow as bad:
            findings.skip(f"{name}, line {number}", bad.kind, str(bad))


def _json_rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any] | BadRow]]:
    for number, line in lines_of(path):
        if line.strip():
            try:
                row = parse_json(line)
            except ValueError as error:
                yield number, BadRow("malformed", f"is not valid JSON ({error})")
            else:
                yield number, row if isinstance(row, dict) else BadRow("malformed", "is no JSON object")


def _csv_rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any] | BadRow]]:
    """Yield the rows of a metadata.csv.

    Raises:
        UserError: it has no column file_name.
    """

    def is_row(cells: list[str]) -> bool:
        return len(cells) == len(header) and is_image(cells[header.index("file_name")])

    header = ["file_name"]
    lines = read_lines(path, ",", '"', is_row)
    header = next((line.cells for line in lines), [])
    if "file_name" not in header:
        raise UserError(f"{path} has no column 'file_name'; it has {', '.join(map(repr, header)) or 'none'}")
    for line in lines:
        if len(line.cells) != len(header):
            yield line.number, BadRow("cells", f"has {len(line.cells)} cells, there are {len(header)} columns")
            continue
        cells = dict(zip(header, line.cells, strict=True))
        yield line.number, {key: sentences_in_cell(cell) if key in SENTENCES else cell for key, cell in cells.items()}


def _file_name(row: Mapping[str, Any]) -> str:
    file_name = row.get("file_name")
    if not isinstance(file_name, str) or not file_name:
        raise BadRow("no_image", "has no file_name")
    if not inside(file_name):
        raise BadRow("leads_out", f"has the file_name {file_name!r}, which leads out of the folder")
    return file_name


def _row_sentences(row: Mapping[str, Any]) -> Sentences:
    given: Any = next((row[key] for key in SENTENCES if key in row), [])
    entries = given if isinstance(given, list) else [given]
    return tuple(said for entry in entries for said in _sentences(entry))


def _sentences(entry: Any) -> Iterator[tuple[str | None, object]]:
    sentence_id = entry.get("sentence_id") if isinstance(entry, Mapping) else None
    named = None if sentence_id is None else "-".join(str(sentence_id).split())
    for text in sentences_in(entry):
        yield named, text
