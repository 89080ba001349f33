"""Make a dataset folder from a data set of the Hugging Face hub, or from local Parquet or WebDataset files.

    python -m data_prep.from_hub --dataset nlphuji/flickr30k --out data/flickr30k
    python -m data_prep.from_hub --files 'shards/*.parquet' --out data/mine
    python -m data_prep.from_hub --files 'shards/*.tar' --out data/mine

Rows are read one after another and never all held in memory or on disk twice. Columns are found by their
usual names, or named with --image-column, --sentence-column, --id-column and --split-column; a sentence
column may hold one text, a list of texts, or a list of objects with `raw` or `text`. Rows that follow each
other with the same id are one image with several sentences. Splits: the split column, else the data set's
own splits or the files' names (train-00000.parquet), else by lot with --val-fraction and --test-fraction.
Rows without an image or a sentence, or with an unknown split, are counted, listed and left out.

Needs the extra `hub`: pip install 'semcore[hub]'.
"""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count, groupby, islice
from pathlib import Path
from typing import Any, NamedTuple

from data_prep.dataset_writer import Source, already_made
from data_prep.hub_rows import Columns, HubRow
from data_prep.import_images import INCOMING, make_folder, request_of
from data_prep.left_out import BadRow, Findings
from data_prep.source_images import SourceImage
from data_prep.splits import SPLIT_NAMES, SplitSettings
from semcore.commands.arguments import require_minimum, run_command
from semcore.data.dataset import SPLITS
from semcore.runtime.errors import UserError

FORMATS = {".parquet": "parquet", ".tar": "webdataset"}
UNNAMED = "all"
MAX_APART = 0.1  # rows apart from the others of their image, per image so far; more is no accident


@dataclass
class Settings(SplitSettings):
    """Which rows to import."""

    out: Path
    """The dataset folder to make."""
    dataset: str | None = None
    """A data set's name on the hub, or a folder that `datasets.load_dataset` opens; it is downloaded."""
    files: str | None = None
    """Instead of --dataset: local .parquet or .tar files, as a file, a folder or a pattern."""
    config: str | None = None
    """The data set's configuration, where it has several."""
    revision: str | None = None
    """A commit, tag or branch of the data set."""
    image_column: str | None = None
    """The column of the images; by default the first of image, img, jpg, jpeg, png and webp."""
    sentence_column: str | None = None
    """The column of the sentences; by default the first of sentences, captions, sentence, caption, text, txt, raw."""
    id_column: str | None = None
    """The column that tells images apart; by default a file name or number where there is one, else each row is one."""
    split_column: str | None = None
    """The column that names the split; by default `split`, where there is one."""
    limit: int | None = None
    """Import the first so many images only, shared out over the data set's parts; the rest is not read."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_minimum(1, self, "limit")
        if (self.dataset is None) == (self.files is None):
            raise UserError("give either --dataset NAME or --files PATTERN")


class Stream(NamedTuple):
    """Rows of one split, or of files that name none (`UNNAMED`); those of an `archive` have columns of their own."""

    split: str
    rows: Iterator[Mapping[str, Any]]
    archive: bool = False


def main(settings: Settings) -> None:
    """Read the rows, write and check their images, write the folder."""
    files = local_files(settings.files) if settings.files else []
    request = request_of("from_hub", settings, files_sha256=_fingerprint(files))
    if already_made(settings.out, request):
        return
    place = settings.files or f"{settings.dataset} of the Hugging Face hub"
    source = Source(settings.dataset or settings.out.name, place, "as at the source; see the data set's card", request)
    findings = Findings()
    make_folder(
        settings.out,
        lambda folder: source_images(settings, open_streams(settings, files), folder / INCOMING, findings),
        source,
        findings,
    )


def local_files(pattern: str) -> list[Path]:
    """Return the files a pattern means, in order.

    Raises:
        UserError: there is none, or they are of other or of several formats.
    """
    path = Path(pattern)
    found = [path] if path.is_file() else sorted(path.iterdir() if path.is_dir() else map(Path, glob.glob(pattern)))
    files = [file for file in found if file.suffix.lower() in FORMATS]
    formats = {file.suffix.lower() for file in files}
    if len(formats) != 1:
        what = f"both {' and '.join(sorted(formats))} files" if formats else "no .parquet or .tar file"
        raise UserError(f"--files {pattern} finds {what}; give files of one of the two formats")
    return files


def open_streams(settings: Settings, files: list[Path]) -> list[Stream]:
    """Open the data set without reading it, its splits one after another.

    Raises:
        UserError: `datasets` is not installed, or there is no such data set.
    """
    try:
        import datasets
    except ImportError:
        raise UserError("from_hub needs the library `datasets`: pip install 'semcore[hub]'") from None
    if files:
        kind, by_split = FORMATS[files[0].suffix.lower()], files_by_split(files)
        options: dict[str, Any] = {"path": kind, "data_files": by_split}
    else:
        options = {"path": settings.dataset, "name": settings.config, "revision": settings.revision}
        if not Path(str(settings.dataset)).is_dir():
            print(f"from_hub: downloading {settings.dataset} from the Hugging Face hub, its images one by one")
    try:
        opened = datasets.load_dataset(**options, streaming=True)
        archive = options["path"] == "webdataset"
        return [Stream(str(name), iter(rows.decode(False)), archive) for name, rows in opened.items()]
    except Exception as error:  # each kind of source fails in its own way
        raise UserError(f"{settings.dataset or settings.files} cannot be opened: {_reason(error)}") from None


def files_by_split(files: list[Path]) -> dict[str, list[str]]:
    """Return split -> files, by the word a file's name begins with.

    >>> files_by_split([Path("train-00000.parquet"), Path("validation_1.parquet"), Path("mine.parquet")])
    {'train': ['train-00000.parquet'], 'val': ['validation_1.parquet'], 'all': ['mine.parquet']}
    """
    by_split: dict[str, list[str]] = {}
    for file in files:
        word = file.stem.replace("_", "-").split("-")[0].lower()
        by_split.setdefault(SPLIT_NAMES.get(word, UNNAMED), []).append(str(file))
    return {split: by_split[split] for split in (*SPLITS, UNNAMED) if split in by_split}


def source_images(
    settings: Settings, streams: list[Stream], incoming: Path, findings: Findings
) -> Iterator[SourceImage]:
    """Yield the images of all rows, each written into the folder `incoming`.

    Args:
        settings: name the columns.
        streams: the data set's splits or files.
        incoming: a folder to make.
        findings: counts the rows, and notes those that cannot be used.

    Raises:
        UserError: the data set cannot be read to its end, a column is missing, or most images' rows do not
            follow each other.
    """
    incoming.mkdir()
    columns = Columns((settings.image_column, settings.sentence_column, settings.id_column, settings.split_column))
    met: set[int] = set()  # hashes of the ids
    numbers = count(1)
    for part, stream in enumerate(streams):
        rows = _usable_rows(stream, settings, columns, findings)
        groups = _new_images(rows, met, settings, findings)
        for first, sentences in islice(groups, _share(settings.limit, part, len(streams))):
            split = _split(first.split, stream.split, first.image_id, settings)
            path = incoming / f"{next(numbers):08d}{Path(first.file_name).suffix.lower()}"
            path.write_bytes(first.image)
            yield SourceImage(path, first.image_id, split, tuple((None, text) for text in sentences), owned=True)
    if not met:
        raise UserError(columns.missing() or _nothing(settings, findings))


def _usable_rows(stream: Stream, settings: Settings, columns: Columns, findings: Findings) -> Iterator[HubRow]:
    """Yield the rows that can be used; the others are noted."""
    for raw in _reading(stream, settings):
        number = findings.seen["rows"]
        findings.seen["rows"] += 1
        try:
            row = columns.read(raw, f"row-{number:08d}")
            if row.split and row.split.lower() not in SPLIT_NAMES:
                raise BadRow("split", f"has the split {row.split!r}; there are {', '.join(SPLIT_NAMES)}")
        except BadRow as bad:
            # All rows of a table have its columns; those of an archive have their own.
            if not stream.archive and (missing := columns.missing()):
                raise UserError(missing) from None
            findings.skip(f"row {number}", bad.kind, str(bad))
        else:
            yield row


def _new_images(
    rows: Iterator[HubRow], met: set[int], settings: Settings, findings: Findings
) -> Iterator[tuple[HubRow, list[Any]]]:
    """Yield the first row of each image and the sentences of all rows that follow it with the same id."""
    num_apart = 0
    for image_id, group in groupby(rows, key=lambda row: row.image_id):
        if hash(image_id) not in met:
            met.add(hash(image_id))
            first = next(group)
            yield first, [*first.sentences, *(text for row in group for text in row.sentences)]
            continue
        for row in group:
            num_apart += 1
            findings.skip(row.image_id, "apart", "does not follow the other rows of its image")
        if num_apart > MAX_APART * len(met):
            raise UserError(
                f"the rows of image {image_id!r} do not follow each other in {settings.dataset or settings.files}, "
                f"nor do {num_apart} in all; choose another --id-column, or sort them"
            )


def _nothing(settings: Settings, findings: Findings) -> str:
    place = settings.dataset or settings.files
    if not findings.skipped:
        return f"{place} holds no rows"
    first = findings.skipped[0]
    num_rows = findings.seen["rows"]
    return f"none of the {num_rows} rows of {place} can be used; the first, {first['file']}, {first['reason']}"


def _share(limit: int | None, part: int, num_parts: int) -> int | None:
    """Return how many images a stream contributes to the limit: equal numbers, the first streams one more."""
    return None if limit is None else limit // num_parts + (part < limit % num_parts)


def _split(given: str, of_stream: str, image_id: str, settings: Settings) -> str:
    name = (given or of_stream).lower()
    if name in SPLIT_NAMES:
        return SPLIT_NAMES[name]
    draw = int.from_bytes(hashlib.sha256(f"{settings.split_seed} {image_id!r}".encode()).digest()[:8]) / 2**64
    if draw < settings.val_fraction:
        return "val"
    return "test" if draw < settings.val_fraction + settings.test_fraction else "train"


def _reading(stream: Stream, settings: Settings) -> Iterator[Mapping[str, Any]]:
    """Yield the rows; any error in reading them becomes a `UserError` of one sentence."""
    while True:
        try:
            row = next(stream.rows, None)
        except Exception as error:  # each kind of source fails in its own way
            raise UserError(
                f"{settings.dataset or settings.files} cannot be read to its end: {_reason(error)}"
            ) from None
        if row is None:
            return
        yield row


def _reason(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _fingerprint(files: list[Path]) -> str:
    """Hash names, sizes and times: shards are too large to be read twice."""
    digest = hashlib.sha256()
    for file in files:
        status = file.stat()
        digest.update(f"{file.absolute()}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


if __name__ == "__main__":
    run_command(main, Settings)
