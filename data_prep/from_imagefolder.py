"""Make a dataset folder from a tree of image files, with or without sentences about them.

    python -m data_prep.from_imagefolder --images photos/ --out data/photos

Every image below IMAGES is taken (.jpg, .jpeg, .jfif, .png, .webp, .avif, .bmp, .gif, .tif, .tiff and others that
Pillow reads, in any letter case), in linked folders too, hidden files apart. All other files are counted and listed.
Splits: the folders IMAGES/train, IMAGES/val (also valid, validation, dev) and IMAGES/test where they
exist; else a drawing by lot with --val-fraction and --test-fraction.
Sentences, where there are any:
  - metadata.jsonl in any folder of the tree, a line an image: {"file_name": "relative/to/it.jpg",
    "text": "one sentence"}, or "sentences": a list of texts or of {"sentence_id", "text"};
    or metadata.csv with the columns file_name and text;
  - otherwise photo.txt beside photo.jpg, one sentence a line.
If any image has a sentence, images without one are left out; if none has, all are kept, and the folder
serves as something to search but not to train on. Lines and text files that cannot be read are counted, listed
and left out. Images that metadata names and that are not there are counted and named, and nothing is made, unless
--skip-missing leaves them out.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from data_prep.dataset_writer import Source, already_made
from data_prep.folder_sentences import read_sentences
from data_prep.folders import files_below
from data_prep.import_images import LinkSettings, import_images, request_of
from data_prep.left_out import Findings
from data_prep.source_images import IMAGE_SUFFIXES, SourceImage, is_image, survey
from data_prep.splits import SPLIT_NAMES, SplitSettings, draw_splits
from semcore.commands.arguments import run_command
from semcore.runtime.errors import UserError


@dataclass
class Settings(LinkSettings, SplitSettings):
    """Which images to import, and how to split them."""

    images: Path
    """The folder of images."""
    out: Path
    """The dataset folder to make."""

    def __post_init__(self) -> None:
        LinkSettings.__post_init__(self)
        SplitSettings.__post_init__(self)


def main(settings: Settings) -> None:
    """Find images, splits and sentences, check and link the images, write the folder."""
    root = settings.images
    if not root.is_dir():
        raise UserError(f"there is no folder of images {root}; check --images")
    if settings.out.resolve().is_relative_to(root.resolve()):
        raise UserError(f"--out {settings.out} lies in --images {root}; choose a place outside of it")
    findings = Findings()
    files = files_below(root, findings)
    names = [name for name in files if is_image(name)]
    if not names:
        raise UserError(f"there is no image in {root}; looked for {', '.join(IMAGE_SUFFIXES)}")
    spoken = read_sentences(root, files, findings)
    keep_bare = not (spoken or findings.seen["rows"] or findings.num_of("unreadable_text"))
    names = sorted({*names, *spoken})  # an image that is only mentioned is reported as missing
    splits = _splits(names, settings)
    images = [SourceImage(root / name, name, splits[name], spoken.get(name, ())) for name in names if name in splits]
    request = request_of("from_imagefolder", settings, files=_fingerprint(root, files))
    if already_made(settings.out, request):
        return
    for name in names:
        if name not in splits:
            findings.seen["images"] += 1
            findings.skip(name, "outside", "outside of the folders of the splits")
    found = survey(lambda: iter(images))
    source = Source(settings.out.name, str(root.absolute()), "as at the source; not stated", request)
    import_images(settings.out, lambda: iter(images), found, source, settings, findings, keep_bare=keep_bare)


def _splits(names: list[str], settings: Settings) -> dict[str, str]:
    """Return name -> split; with split folders, files outside of them have none."""
    tops = {name: name.split("/")[0] for name in names if "/" in name}
    by_folder = {name: SPLIT_NAMES[top] for name, top in tops.items() if top in SPLIT_NAMES}
    if by_folder:
        return by_folder
    return draw_splits(names, settings)


def _fingerprint(root: Path, files: list[str]) -> str:
    """Hash the names, sizes and times of the files: a changed tree is another request."""
    digest = hashlib.sha256()
    for name in files:
        status = (root / name).lstat()
        digest.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


if __name__ == "__main__":
    run_command(main, Settings)
