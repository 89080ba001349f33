"""Add images to the corpus that a run searches, remove items from it, or count what is in it; nothing is trained.

    semcore index add --run runs/quickstart --images photos
    semcore index add --run runs/quickstart --images DATA --captions captions.jsonl
    semcore index remove --run runs/quickstart --ids photo-1,photo-2
    semcore index stats --run runs/quickstart

New images get a caption by the model that wrote the run's, and an identifier by its clusters, codebooks or tree; those
of items that are there never change. A sentence of a removed image goes with it. Searches that are under way go on, and
whoever opens the run later finds the new state. The dataset, trainings and evaluations are not touched.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from semcore.commands.arguments import announcer, require_minimum
from semcore.data.directions import Direction
from semcore.runtime.errors import UserError
from semcore.runtime.settings import LineageSettings
from semcore.runtime.text_files import lines_of

if TYPE_CHECKING:
    from semcore.retrieval.item_maker import ItemMaker

ACTIONS = ("add", "remove", "stats")
NUM_SHOWN = 10
say = announcer("index")


@dataclass
class IndexSettings(LineageSettings):
    """What `semcore index` takes."""

    help_sections: ClassVar = {"images": "add", "ids": "remove", "json": "stats"}

    action: str
    """What to do: add, remove or stats."""
    run: Path
    """The run folder, trained."""
    data: Path | None = None
    """Where the dataset is now, should it have moved."""
    device: str | None = None
    """Where the models run ("cpu", "cuda"); by default the fastest device there is."""
    images: Path | None = None
    """The images to add: a dataset folder as data_prep's commands make it, with its sentences, or any folder of
    pictures."""
    captions: Path | None = None
    """A file like captions.jsonl with captions of the new images; the run's captioner writes those that it lacks."""
    copy: bool = False
    """Copy the pictures into the run instead of linking them."""
    images_a_change: int = 256  # ours: a change writes the whole index anew
    """So many images are added at once; a killed command goes on behind the last of these changes."""
    ids: str = ""
    """Ids of the images and sentences to remove, with commas between."""
    ids_file: Path | None = None
    """A file with such ids, one a line."""
    json: bool = False
    """Print one JSON object, for machines."""

    def __post_init__(self) -> None:
        require_minimum(1, self, "images_a_change")
        if self.action not in ACTIONS:
            raise UserError(f"index takes {', '.join(ACTIONS[:-1])} or {ACTIONS[-1]}, found {self.action!r}")
        if self.action == "add" and self.images is None:
            raise UserError("index add needs the images: --images FOLDER")
        if self.action == "remove" and not (self.ids or self.ids_file):
            raise UserError("index remove needs the ids of images or sentences: --ids A,B or --ids-file FILE")


def main(settings: IndexSettings) -> None:
    """Do what was asked for."""
    dict(zip(ACTIONS, (_add, _remove, _stats), strict=True))[settings.action](settings)


def _add(settings: IndexSettings) -> None:
    from tqdm import tqdm

    from semcore.data.new_images import images_of_folder
    from semcore.retrieval.corpus_updates import Addition, add_images

    maker, images = _maker(settings), images_of_folder(Path(settings.images or ""), settings.captions)
    done = Addition()
    with tqdm(total=len(images), desc="adding", unit="image") as bar:
        for first in range(0, len(images), settings.images_a_change):
            batch = images[first : first + settings.images_a_change]
            own = add_images(maker, batch, copy=settings.copy)
            done = Addition(
                [*done.added, *own.added], done.already + own.already, {**done.left_out, **own.left_out}, own.number
            )
            bar.update(len(batch))
    for image_id, reason in list(done.left_out.items())[:NUM_SHOWN]:
        say(f"left out {image_id}: {reason}")
    if len(done.left_out) > NUM_SHOWN:
        say(f"and left out {len(done.left_out) - NUM_SHOWN} more")
    if not (done.added or done.already):
        raise UserError(f"none of the {len(images)} images of {settings.images} was added; see above why")
    num_sentences = sum(len(own.sentences) for own in done.added)
    say(
        f"added {len(done.added)} images and {num_sentences} sentences; {len(done.already)} images were there already, "
        f"{len(done.left_out)} are left out"
    )
    _say_size(settings)


def _remove(settings: IndexSettings) -> None:
    from semcore.data.corpus_changes import read_changes
    from semcore.retrieval.corpus_updates import remove_items

    ids = [name.strip() for name in settings.ids.split(",")]
    if settings.ids_file is not None:
        ids += [line.strip() for _, line in lines_of(settings.ids_file)]
    wanted = list(filter(None, ids))
    if not wanted:
        raise UserError(f"there is no id in {settings.ids_file or '--ids'}; give one a line, or with commas between")
    maker = _maker(settings)
    before = read_changes(maker.run).number
    if remove_items(maker, wanted) > before:
        say(f"removed {len(wanted)} items, and the sentences of the images among them")
    else:
        say(f"nothing to do: these {len(wanted)} items were removed before")
    _say_size(settings)


def _stats(settings: IndexSettings) -> None:
    from semcore.data.run_folder import RunFolder
    from semcore.retrieval.corpus_stats import corpus_stats

    stats = corpus_stats(RunFolder(settings.run), settings.data)
    if settings.json:
        directions = {direction: asdict(own) for direction, own in stats.directions.items()}
        sys.stdout.write(json.dumps({"num_changes": stats.num_changes, **directions}) + "\n")
    else:
        _print_stats(stats)


def _print_stats(stats: Any) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("", *(direction.label for direction in stats.directions), box=None)
    names = {
        "num_items": "items that are searched", "num_added": "of them added", "num_removed": "items removed",
        "num_identifiers": "identifiers", "num_shared": "items that share theirs", "index_bytes": "bytes of the index",
    }  # fmt: skip
    for name, words in names.items():
        values = (getattr(own, name) for own in stats.directions.values())
        table.add_row(words, *("not made yet" if value is None else f"{value:,}" for value in values))
    console = Console(highlight=False)
    console.print(table)
    console.out(f"index: {stats.num_changes} changes since the identifiers were made")


def _maker(settings: IndexSettings) -> ItemMaker:
    from semcore.retrieval.item_maker import ItemMaker

    return ItemMaker.open(
        settings.run,
        data=settings.data,
        device=settings.device,
        base=settings.base,
        allow_mismatch=settings.allowed,
    )


def _say_size(settings: IndexSettings) -> None:
    from semcore.data.run_folder import RunFolder
    from semcore.retrieval.corpus_stats import corpus_stats

    sizes = corpus_stats(RunFolder(settings.run), settings.data).directions
    say("searched now: " + ", ".join(f"{own.num_items} {Direction(name).item_kind}" for name, own in sizes.items()))
