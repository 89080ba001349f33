"""Make a dataset folder from a table of image files and sentences: a row a sentence.

    python -m data_prep.from_csv --csv captions.csv --images photos/ --out data/photos
    python -m data_prep.from_csv --csv results.csv --separator '|' --image-column image_name \
        --sentence-column comment --images flickr30k-images/ --out data/flickr30k

The first line names the columns. `image` is a path relative to IMAGES, `sentence` a text; an image with
several sentences has several rows. A column `split` (train, val, test; also restval, validation, dev) says
where an image belongs; without it splits are drawn by lot, with --val-share and --test-share.
Missing images are counted and named, and nothing is made, unless --skip-missing leaves them out.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from data_prep.importing import LinkSettings, import_images, request_of
from data_prep.pictures import SourceImage, inside, survey
from data_prep.splits import SPLIT_NAMES, SplitSettings, draw_splits
from data_prep.writing import Findings, Source, already_made
from semcore.commandline import run_command
from semcore.errors import UserError
from semcore.files import sha256_of

MAX_FIELD = 1 << 20  # characters; more is a quote that was never closed


@dataclass
class Settings(LinkSettings, SplitSettings):
    """Which table and images to import."""

    csv: Path
    """The table: a .csv file in UTF-8, or a .tsv file."""
    images: Path
    """The folder of the images."""
    out: Path
    """The dataset folder to make."""
    image_column: str = "image"
    """The column that names the image file."""
    sentence_column: str = "sentence"
    """The column that holds the sentence."""
    split_column: str = "split"
    """The column that names the split, where there is one."""
    separator: str | None = None
    """What stands between two columns; by default a tab in .tsv files, else a comma."""

    def __post_init__(self) -> None:
        LinkSettings.__post_init__(self)
        SplitSettings.__post_init__(self)
        if self.separator is None:
            self.separator = "\t" if self.csv.suffix == ".tsv" else ","
        if len(self.separator) != 1:
            raise UserError(f"--separator takes one character, found {self.separator!r}")


class Row(NamedTuple):
    """One line of the table; `split` is empty where the table has none."""

    image: str
    sentence: str
    split: str


def main(settings: Settings) -> None:
    """Read the table, check and link the images, write the folder."""
    if not settings.images.is_dir():
        raise UserError(f"there is no folder of images {settings.images}; check --images")
    if not settings.csv.is_file():
        raise UserError(f"there is no file {settings.csv}; check --csv")
    request = request_of("from_csv", settings, csv=sha256_of(settings.csv))
    if already_made(settings.out, request):
        return
    images = source_images(settings)
    place = f"{settings.csv.name} and the images of {settings.images.absolute()}"
    source = Source(settings.out.name, place, "as at the source; not stated in the table", request)
    import_images(settings.out, images, survey(images), source, settings, Findings())


def source_images(settings: Settings) -> Callable[[], Iterator[SourceImage]]:
    """Look through the table once, and return what reads its images with their sentences.

    Rows of one image usually follow each other; only where they do not, all sentences are held in memory.

    Raises:
        UserError: the table has not the columns, a row is malformed, or names two splits for an image.
    """
    split_of: dict[str, str] = {}
    previous, together = "", True
    for number, row in read_rows(settings):
        if row.image != previous and row.image in split_of:
            together = False
        if split_of.setdefault(row.image, row.split) != row.split:
            raise _wrong(
                settings.csv, number, f"puts {row.image} into {row.split}, before it was {split_of[row.image]}"
            )
        previous = row.image
    if not split_of:
        raise UserError(f"{settings.csv} holds no rows")
    if "" in split_of.values():
        split_of = draw_splits(list(split_of), settings)

    def images() -> Iterator[SourceImage]:
        for name, sentences in _grouped(settings, together):
            said = tuple((None, text) for text in sentences)
            yield SourceImage(settings.images / name, name, split_of[name], said)

    return images


def read_rows(settings: Settings) -> Iterator[tuple[int, Row]]:
    """Yield (line number, row) of the table.

    Raises:
        UserError: a column is missing, a row is malformed, or a name leads out of the folder.
    """
    csv.field_size_limit(MAX_FIELD)
    with settings.csv.open(encoding="utf-8-sig", newline="") as handle:
        lines = csv.reader(handle, delimiter=settings.separator or ",", skipinitialspace=True)
        try:
            places = _places([name.strip() for name in next(lines, [])], settings)
            for fields in lines:
                if any(field.strip() for field in fields):
                    yield lines.line_num, _row(fields, places, settings, lines.line_num)
        except UnicodeDecodeError:
            raise UserError(f"{settings.csv} is not UTF-8 text; save it as UTF-8") from None
        except csv.Error as error:
            raise _wrong(settings.csv, lines.line_num, str(error)) from None


def _places(header: list[str], settings: Settings) -> dict[str, int]:
    """Return the columns' numbers."""
    wanted = {"--image-column": settings.image_column, "--sentence-column": settings.sentence_column}
    for flag, name in wanted.items():
        if name not in header:
            raise UserError(
                f"{settings.csv} has no column {name!r}; it has {', '.join(map(repr, header)) or 'none'}: "
                f"choose one with {flag}, or another --separator"
            )
    return {name: place for place, name in enumerate(header)}


def _row(fields: list[str], places: dict[str, int], settings: Settings, number: int) -> Row:
    if len(fields) != len(places):
        raise _wrong(settings.csv, number, f"has {len(fields)} columns, the first line has {len(places)}")
    image, split = fields[places[settings.image_column]].strip(), ""
    if not image or not inside(image):
        raise _wrong(settings.csv, number, f"has the image {image!r}, which is no file in {settings.images}")
    if settings.split_column in places:
        given = fields[places[settings.split_column]].strip().lower()
        if given not in SPLIT_NAMES:
            raise _wrong(settings.csv, number, f"has the split {given!r}; there are {', '.join(SPLIT_NAMES)}")
        split = SPLIT_NAMES[given]
    return Row(image, fields[places[settings.sentence_column]], split)


def _grouped(settings: Settings, together: bool) -> Iterator[tuple[str, list[str]]]:
    if together:
        for name, rows in groupby(read_rows(settings), key=lambda numbered: numbered[1].image):
            yield name, [row.sentence for _, row in rows]
        return
    sentences: dict[str, list[str]] = {}
    for _, row in read_rows(settings):
        sentences.setdefault(row.image, []).append(row.sentence)
    yield from sentences.items()


def _wrong(path: Path, number: int, what: str) -> UserError:
    return UserError(f"{path}, line {number}: {what}")


if __name__ == "__main__":
    run_command(main, Settings)
