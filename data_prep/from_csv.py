"""Make a dataset folder from a table of image files and sentences: a row a sentence, or a row an image.

    python -m data_prep.from_csv --csv captions.csv --images photos/ --out data/photos
    python -m data_prep.from_csv --csv results.csv --images flickr30k-images/ --out data/flickr30k
    python -m data_prep.from_csv --csv results_20130124.token --images flickr30k-images/ --out data/flickr30k

The first line names the columns; they are found by their usual names (image, file_name, ...; sentence, caption,
comment, raw, ...), with whatever stands between them, or named with --image-column, --sentence-column and
--separator. Flickr's .token files (`1.jpg#0<tab>sentence`) need no names. The image is a path relative to IMAGES.
A cell of sentences may hold one, or several as a list (`["one", "two"]`). An image may have several rows. A column
`split` (train, val, test; also restval, validation, dev) says where an image belongs; without it splits are drawn
by lot, with --val-fraction and --test-fraction.

Rows that cannot be used (another number of cells, no image, an unknown split, an empty or missing sentence) are
counted, listed and left out. A quote that is never closed is read as a letter, and said; --quote none reads all so.
Missing images are counted and named, and nothing is made, unless --skip-missing leaves them out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from data_prep.cells import sentences_in_cell
from data_prep.dataset_writer import Source, already_made
from data_prep.import_images import LinkSettings, import_images, request_of
from data_prep.left_out import BadRow, Findings
from data_prep.names import find_file, is_there
from data_prep.source_images import SourceImage, inside, is_image, survey
from data_prep.splits import SPLIT_NAMES, SplitSettings, draw_splits
from data_prep.tables import SEPARATORS, TOKEN_LINE, Line, first_line, read_lines, read_token_lines
from semcore.commands.arguments import run_command
from semcore.runtime.errors import UserError
from semcore.runtime.files import sha256_of

IMAGES = ("image", "file_name", "filename", "image_name", "image_path", "image_file", "file", "path", "img")
SENTENCES = ("sentence", "caption", "sentences", "captions", "text", "comment", "raw", "description")
_WITH_NUMBER = re.compile(r"(.+)#\d+")  # as .token files name the sentences of an image


@dataclass
class Settings(LinkSettings, SplitSettings):
    """Which table and images to import."""

    csv: Path
    """The table: a .csv, .tsv or .token file in UTF-8, or in UTF-16 with a byte order mark."""
    images: Path
    """The folder of the images."""
    out: Path
    """The dataset folder to make."""
    image_column: str | None = None
    """The column that names the image file; by default the first of image, file_name, filename, image_name, ..."""
    sentence_column: str | None = None
    """The column that holds the sentence; by default the first of sentence, caption, text, comment, raw, ..."""
    split_column: str = "split"
    """The column that names the split, where there is one."""
    separator: str | None = None
    """What stands between two columns; by default what parts the columns' names: a comma, a tab, ; or |."""
    quote: str = '"'
    """What stands around cells that hold separators; none reads quotes as letters."""

    def __post_init__(self) -> None:
        LinkSettings.__post_init__(self)
        SplitSettings.__post_init__(self)
        if self.separator is not None and len(self.separator) != 1:
            raise UserError(f"--separator takes one character, found {self.separator!r}")
        if self.quote == "none":
            self.quote = ""
        if len(self.quote) > 1:
            raise UserError(f"--quote takes one character or none, found {self.quote!r}")


class Row(NamedTuple):
    """One line of the table; `split` is empty where the table has none."""

    image: str
    sentences: list[object]
    split: str


class Layout(NamedTuple):
    """The layout of a table: its columns' numbers; `separator` is empty for .token files."""

    separator: str
    num_columns: int
    image: int
    sentence: int
    split: int | None


def main(settings: Settings) -> None:
    """Read the table, check and link the images, write the folder."""
    if not settings.images.is_dir():
        raise UserError(f"there is no folder of images {settings.images}; check --images")
    if not settings.csv.is_file():
        raise UserError(f"there is no file {settings.csv}; check --csv")
    request = request_of("from_csv", settings, csv=sha256_of(settings.csv))
    if already_made(settings.out, request):
        return
    findings = Findings()
    images = source_images(settings, findings)
    place = f"{settings.csv.name} and the images of {settings.images.absolute()}"
    source = Source(settings.out.name, place, "as at the source; not stated in the table", request)
    import_images(settings.out, images, survey(images), source, settings, findings)


def source_images(settings: Settings, findings: Findings) -> Callable[[], Iterator[SourceImage]]:
    """Scan the table once, and return a function that yields its images with their sentences.

    Rows of one image usually follow each other; only where they do not are all sentences held in memory.

    Args:
        settings: name the table.
        findings: notes the rows that cannot be used.

    Raises:
        UserError: the table lacks the columns, or has no row that can be used.
    """
    layout = find_layout(settings)
    given: dict[str, str] = {}
    previous, together = "", True
    for line, row in read_rows(settings, layout, findings):
        if row.image != previous and row.image in given:
            together = False
        if given.setdefault(row.image, row.split) != row.split:
            reason = f"puts {row.image} into {row.split}, before it was {given[row.image]}"
            findings.skip(f"line {line.number}", "split", reason)
        previous = row.image
    if not given:
        raise UserError(_nothing(settings, findings))
    splits = draw_splits(list(given), settings) if layout.split is None else given

    def images() -> Iterator[SourceImage]:
        for name, sentences in _grouped(settings, layout, given, together):
            said = tuple((None, text) for text in sentences)
            yield SourceImage(settings.images / name, name, splits[name], said)

    return images


def find_layout(settings: Settings) -> Layout:
    """Find the columns, and their separator where none is given.

    Raises:
        UserError: there is no column of images, or none of sentences.
    """
    if settings.separator is None and TOKEN_LINE.fullmatch(first_line(settings.csv)):
        return Layout("", 2, 0, 1, None)
    usual = "\t" if settings.csv.suffix.lower() in (".tsv", ".tab") else ","
    tried = [settings.separator] if settings.separator else list(dict.fromkeys((usual, *SEPARATORS)))
    headers = [next(read_lines(settings.csv, separator, settings.quote), Line(1, [])).cells for separator in tried]
    for separator, header in zip(tried, headers, strict=True):
        image, sentence = (_column(header, *names) for names in _wanted(settings))
        if image is not None and sentence is not None:
            return Layout(separator, len(header), image, sentence, _column(header, settings.split_column, ()))
    for (name, usual_names), flag in zip(_wanted(settings), ("--image-column", "--sentence-column"), strict=True):
        if _column(headers[0], name, usual_names) is None:
            raise UserError(
                f"{settings.csv} has no column {name or usual_names[0]!r}; it has "
                f"{', '.join(map(repr, headers[0])) or 'none'}: choose one with {flag}, or another --separator"
            )
    raise AssertionError("a table without a layout lacks a column")


def read_rows(settings: Settings, layout: Layout, findings: Findings | None = None) -> Iterator[tuple[Line, Row]]:
    """Yield the rows of the table that can be used.

    Args:
        settings: name the table.
        layout: its columns.
        findings: counts the rows, and notes those that cannot be used.
    """
    find = lru_cache(maxsize=1024)(lambda name: _name_there(settings.images, name))
    findings = findings or Findings()
    open_quotes: list[int] = []
    for line in _lines(settings, layout):
        findings.seen["rows"] += 1
        if line.as_it_stands:
            open_quotes.append(line.number)
        try:
            row = _row(line.cells, layout, settings)
        except BadRow as bad:
            findings.skip(f"line {line.number}", bad.kind, str(bad))
        else:
            yield line, row._replace(image=find(row.image))
    if open_quotes:
        findings.note(
            f"{len(open_quotes)} rows of {settings.csv.name} have a quote that is not closed and were read as they "
            f"stand, the first is line {open_quotes[0]}; --quote none reads all quotes as letters"
        )


def _lines(settings: Settings, layout: Layout) -> Iterator[Line]:
    if not layout.separator:
        yield from read_token_lines(settings.csv)
        return

    def is_row(cells: list[str]) -> bool:
        name = cells[layout.image] if len(cells) == layout.num_columns else ""
        return bool(name) and (is_image(name) or is_there(find_file(settings.images, name)))

    lines = read_lines(settings.csv, layout.separator, settings.quote, is_row)
    next(lines)
    yield from lines


def _wanted(settings: Settings) -> tuple[tuple[str | None, tuple[str, ...]], ...]:
    return (settings.image_column, IMAGES), (settings.sentence_column, SENTENCES)


def _column(header: list[str], name: str | None, usual: tuple[str, ...]) -> int | None:
    lower = [own.lower() for own in header]
    if name is not None:
        return header.index(name) if name in header else None
    return next((lower.index(own) for own in usual if own in lower), None)


def _row(cells: list[str], layout: Layout, settings: Settings) -> Row:
    while len(cells) > layout.num_columns and not cells[-1]:
        cells = cells[:-1]
    if len(cells) != layout.num_columns:
        raise BadRow("cells", f"has {len(cells)} cells, there are {layout.num_columns} columns")
    image, split = cells[layout.image], ""
    if not image:
        raise BadRow("no_image", "names no image")
    if not inside(image):
        raise BadRow("leads_out", f"has the image {image!r}, which is no file in {settings.images}")
    if layout.split is not None:
        given = cells[layout.split].lower()
        if given not in SPLIT_NAMES:
            raise BadRow("split", f"has the split {given!r}; there are {', '.join(SPLIT_NAMES)}")
        split = SPLIT_NAMES[given]
    return Row(image, sentences_in_cell(cells[layout.sentence]), split)


def _name_there(folder: Path, name: str) -> str:
    """Return the file's name as spelt on disk, without a sentence's number; the given name where there is no file."""
    for spelt in (name, *_WITH_NUMBER.findall(name)):
        path = find_file(folder, spelt)
        if is_there(path):
            return path.relative_to(folder).as_posix()
    return name


def _grouped(
    settings: Settings, layout: Layout, given: dict[str, str], together: bool
) -> Iterator[tuple[str, list[object]]]:
    rows = (row for _, row in read_rows(settings, layout) if given[row.image] == row.split)
    if together:
        for name, own in groupby(rows, key=lambda row: row.image):
            yield name, [text for row in own for text in row.sentences]
        return
    sentences: dict[str, list[object]] = {}
    for row in rows:
        sentences.setdefault(row.image, []).extend(row.sentences)
    yield from sentences.items()


def _nothing(settings: Settings, findings: Findings) -> str:
    if not findings.skipped:
        return f"{settings.csv} holds no rows"
    first = findings.skipped[0]
    return (
        f"none of the {findings.seen['rows']} rows of {settings.csv} can be used; the first, {first['file']}, "
        f"{first['reason']}"
    )


if __name__ == "__main__":
    run_command(main, Settings)
