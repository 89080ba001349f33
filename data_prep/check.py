"""Check a dataset folder: every line of its metadata, and every image.

    python -m data_prep.check data/coco

Prints the counts of each split and all that was found. Exit code 0: the folder can be used; what is
listed (unreadable images, images without sentences, ...) will be skipped. Exit code 2: it cannot.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from os import sched_getaffinity
from pathlib import Path
from typing import Any

from tqdm import tqdm

from data_prep.dataset_writer import ABOUT, METADATA, NUM_SHOWN, SKIPPED
from data_prep.left_out import left_out_lines
from data_prep.names import is_there
from data_prep.source_images import UNLISTED_SUFFIXES
from semcore.commands.arguments import require_minimum, run_command
from semcore.data.dataset import SPLITS, Dataset, ImageRecord, is_safe_id, load_dataset, shared_sentences, verify_image
from semcore.data.subsets import spread
from semcore.runtime.errors import UnreadableImage, UserError
from semcore.runtime.files import read_json, read_jsonl
from semcore.runtime.typed_commands import data_command


@dataclass
class Settings:
    """Which folder to check."""

    data: Path
    """The dataset folder; may be given without its name."""
    limit: int | None = None
    """Open at most so many images, evenly spread."""

    def __post_init__(self) -> None:
        require_minimum(1, self, "limit")


def main(settings: Settings) -> None:
    """Read the folder, open its images, print what was found."""
    dataset = load_dataset(settings.data)
    _print_counts(dataset)
    opened = list(spread(dataset.images, settings.limit or len(dataset.images)))
    bad = _unreadable(dataset, opened)
    missing = [name for name in bad if not is_there(dataset.folder / name)]
    _print_found("missing images", missing)
    _print_found("unreadable images", [f"{name}: {bad[name]}" for name in bad if name not in missing])
    for title, lines in _remarks(dataset).items():
        _print_found(title, lines)
    if len(bad) == len(opened):
        name, reason = next(iter(bad.items()))
        raise UserError(f"no image of {dataset.folder} can be read; the first, {name}: {reason}")
    if missing:
        raise UserError(
            f"{len(missing)} images of {dataset.folder} are missing, the first is {missing[0]}; "
            "put them back, or make the dataset again"
        )
    about = _about(dataset)
    for line in left_out_lines(about, str(dataset.folder / SKIPPED)) if "skipped" in about else ():
        print(f"when it was made: {line}")
    print(f"{dataset.folder} can be used")
    print(f"next: {data_command('caption', '--data', dataset.folder, '--run', 'RUN', '--model', 'CHECKPOINT')}")


def _about(dataset: Dataset) -> dict[str, Any]:
    path = dataset.folder / ABOUT
    return read_json(path) if path.is_file() else {}


def _print_counts(dataset: Dataset) -> None:
    print(f"{dataset.name}: {len(dataset.images)} images")
    for split in SPLITS:
        images = dataset.split(split)
        print(f"  {split:5} {len(images):7} images {sum(len(image.sentences) for image in images):8} sentences")


def _unreadable(dataset: Dataset, images: list[ImageRecord]) -> dict[str, str]:
    """Return file name -> reason of each image that cannot be read."""

    def outcome(record: ImageRecord) -> str:
        try:
            verify_image(dataset.image_path(record))
            return ""
        except UnreadableImage as reason:
            return str(reason)

    with ThreadPoolExecutor(len(sched_getaffinity(0))) as pool:
        outcomes = tqdm(pool.map(outcome, images), total=len(images), unit="image")
        return {record.file_name: reason for record, reason in zip(images, outcomes, strict=True) if reason}


def _remarks(dataset: Dataset) -> dict[str, list[str]]:
    """Return findings that do not make the folder unusable, title -> entries."""
    about = _about(dataset)
    named = {record.file_name for record in dataset.images}
    stored = sorted(f"images/{path.name}" for path in (dataset.folder / "images").glob("*"))
    rows = read_jsonl(dataset.folder / METADATA)
    return {
        "empty sentences": [
            f"{row['image_id']}: {sentence['sentence_id']}"
            for row in rows
            for sentence in row.get("sentences", [])
            if not sentence["text"].strip()
        ],
        "images without sentences": [record.image_id for record in dataset.images if not record.sentences],
        "sentences that stand word for word under more than one image, ranked in this order where they tie": [
            f"{', '.join(sentence_ids)}: {text}" for text, sentence_ids in shared_sentences(dataset.images).items()
        ],
        "splits without images": [split for split in SPLITS if not dataset.split(split)],
        "files that no line of metadata.jsonl names": [name for name in stored if name not in named],
        "file names that datasets.load_dataset would take for a split's": [
            name for name in named if not is_safe_id(Path(name).stem)
        ],
        "images that datasets.load_dataset does not know as such (semcore does)": [
            name for name in named if Path(name).suffix.lower() in UNLISTED_SUFFIXES
        ],
        f"changes since {ABOUT} was written": [METADATA]
        if about.get("metadata_sha256", dataset.fingerprint) != dataset.fingerprint
        else [],
    }


def _print_found(title: str, lines: list[str]) -> None:
    if lines:
        print(f"{title}: {len(lines)}")
    for line in lines[:NUM_SHOWN]:
        print(f"  {line}")
    if len(lines) > NUM_SHOWN:
        print(f"  and {len(lines) - NUM_SHOWN} more")


if __name__ == "__main__":
    run_command(main, Settings, positional=["data"])
