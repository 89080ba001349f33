"""Draw a dataset of scenes: images of a few shapes, five sentences each, some of them hard negatives.

    python -m data_prep.make_scenes --out data/scenes --train 2000 --val 200 --test 500 --seed 0

The same seed draws the same bytes; no scene is in two splits. Beside the dataset, scenes.jsonl holds
what each image shows and what each sentence states, and ceiling.json the recalls of an ideal reader,
the best that any system can reach.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from data_prep.dataset_writer import Findings, Source, already_made, building, print_made, write_folder
from data_prep.scenes.captions import Reading, write_sentences
from data_prep.scenes.drawing import draw
from data_prep.scenes.ideal_reader import ceiling
from data_prep.scenes.scene_graph import Scene, draw_scenes
from semcore.commands.arguments import require_minimum, run_command
from semcore.data.dataset import SPLITS
from semcore.data.subsets import share_out
from semcore.runtime.errors import UserError
from semcore.runtime.files import write_json, write_jsonl, writing_to

NUM_SENTENCES = 5  # as many as MSCOCO and Flickr30K have


@dataclass
class Settings:
    """How many scenes to draw."""

    out: Path
    """The dataset folder to make."""
    train: int = 2000
    """Number of scenes to train on."""
    val: int = 200
    """Number of scenes to choose settings on."""
    test: int = 500
    """Number of scenes to measure on."""
    seed: int = 0
    """Seed of everything that is drawn."""
    limit: int | None = None
    """Draw at most so many scenes, shared out over the splits."""

    def __post_init__(self) -> None:
        require_minimum(1, self, "limit")
        require_minimum(0, self, *SPLITS)
        if self.train + self.val + self.test == 0:
            raise UserError("--train, --val and --test are all 0; ask for at least one scene")


@dataclass(frozen=True)
class DrawnScene:
    """A scene with its id, split and sentences."""

    image_id: str
    split: str
    scene: Scene
    sentences: list[tuple[str, Reading]]


def main(settings: Settings) -> None:
    """Draw scenes, sentences and images, and compute the ceiling."""
    counts = {"train": settings.train, "val": settings.val, "test": settings.test}
    request = {"command": "make_scenes", "counts": counts, "seed": settings.seed, "limit": settings.limit}
    if already_made(settings.out, request):
        return
    drawn = draw_dataset(counts, settings.seed, settings.limit)
    with building(settings.out) as folder:
        write_jsonl(folder / "scenes.jsonl", map(_scene_row, drawn))
        ceilings = _ceilings(drawn)
        write_json(folder / "ceiling.json", ceilings)
        (folder / "images").mkdir()
        place = f"drawn by semcore, data_prep.make_scenes with seed {settings.seed}"
        source = Source(f"scenes-seed{settings.seed}", place, "CC0", request)
        about = write_folder(folder, _draw_rows(folder, drawn, settings.seed), source, Findings())
    for split, scores in ceilings.items():
        print(
            f"ceiling {split}: R@1 {scores['t2i']['R@1']:.1f} text -> image, {scores['i2t']['R@1']:.1f} image -> text"
        )
    print_made(settings.out, about)


def draw_dataset(counts: dict[str, int], seed: int, limit: int | None = None) -> list[DrawnScene]:
    """Draw the scenes of all splits and their sentences; no scene is drawn twice.

    Args:
        counts: number of scenes of each split.
        seed: the seed of everything drawn.
        limit: draw at most so many, shared out over the splits.

    Returns:
        The scenes in the order of their ids, which is independent of their splits.
    """
    rng = random.Random(f"scenes {seed}")
    seen: set[Scene] = set()
    placed: list[tuple[str, Scene]] = []
    for split, count in share_out(counts, limit).items():
        scenes = draw_scenes(count, rng, avoid=seen)
        seen.update(scenes)
        placed += [(split, scene) for scene in scenes]
    rng.shuffle(placed)
    drawn = []
    for number, (split, scene) in enumerate(placed):
        image_id = f"scene-{number:06d}"
        sentences = write_sentences(scene, NUM_SENTENCES, random.Random(f"sentences {seed} {image_id}"))
        drawn.append(DrawnScene(image_id, split, scene, sentences))
    return drawn


def _draw_rows(folder: Path, drawn: list[DrawnScene], seed: int) -> Iterator[dict[str, Any]]:
    """Draw each image and yield its line of metadata.jsonl."""
    for item in tqdm(drawn, unit="scene"):
        file_name = f"images/{item.image_id}.png"
        with writing_to(folder / file_name):
            draw(item.scene, random.Random(f"picture {seed} {item.image_id}")).save(folder / file_name)
        yield {
            "file_name": file_name,
            "image_id": item.image_id,
            "split": item.split,
            "sentences": [
                {"sentence_id": f"{item.image_id}-{number}", "text": text}
                for number, (text, _) in enumerate(item.sentences)
            ],
            "source_file": f"{item.image_id}.png",
        }


def _scene_row(item: DrawnScene) -> dict[str, Any]:
    return {
        "image_id": item.image_id,
        "scene": item.scene.as_dict(),
        "readings": [reading.as_dict() for _, reading in item.sentences],
    }


def _ceilings(drawn: list[DrawnScene]) -> dict[str, dict[str, dict[str, float]]]:
    """Return split -> direction -> recall of the ideal reader, for the splits used in evaluation."""
    ceilings = {}
    for split in ("val", "test"):
        members = [item for item in drawn if item.split == split]
        if members:
            readings = [[reading for _, reading in item.sentences] for item in members]
            ceilings[split] = ceiling(readings, [item.scene for item in members])
    return ceilings


if __name__ == "__main__":
    run_command(main, Settings)
