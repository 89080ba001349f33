"""Held-out queries: excluded from the identifier model's training, so that candidates can be mined with them.

For queries it was trained on, a model ranks the relevant item first far too often; a verifier
trained on such candidates would learn to choose the first one.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from semcore.data.dataset import Dataset, ImageRecord
from semcore.data.directions import Direction
from semcore.data.run_folder import RunFolder
from semcore.runtime.errors import UserError
from semcore.runtime.files import write_json
from semcore.runtime.long_lists import chosen
from semcore.runtime.typed_commands import launch_command


@dataclass(frozen=True)
class HeldOut:
    """Held-out queries: sentences of t2i, images of i2t."""

    sentence_ids: frozenset[str]
    image_ids: frozenset[str]

    @property
    def query_ids(self) -> dict[Direction, list[str]]:
        """Return direction -> ids of the queries that were held out."""
        return {Direction.T2I: sorted(self.sentence_ids), Direction.I2T: sorted(self.image_ids)}


def choose_held_out(
    images: Sequence[ImageRecord], *, sentences_per_image: int, image_fraction: float, seed: int
) -> HeldOut:
    """Choose the queries that the identifier model is not trained on; equal arguments give equal queries.

    Every image keeps at least one sentence for training, so an image with a single sentence gives
    none, except where the image itself is held out.

    Args:
        images: the training split.
        sentences_per_image: how many sentences of each image are held out from t2i.
        image_fraction: fraction of the images that are held out from i2t, 0 to 1.
        seed: seed of the choice.
    """
    rng = random.Random(seed)
    described = chosen(images, lambda record: bool(record.sentences))
    drawn = rng.sample(range(len(described)), round(image_fraction * len(described)))
    image_ids = frozenset(described[place].image_id for place in drawn)
    sentence_ids: list[str] = []
    for record in described:
        spare = len(record.sentences) - (0 if record.image_id in image_ids else 1)
        kept_back = rng.sample(record.sentences, min(sentences_per_image, spare))
        sentence_ids.extend(sentence.sentence_id for sentence in kept_back)
    return HeldOut(frozenset(sentence_ids), image_ids)


def held_out_of_run(run: RunFolder, dataset: Dataset) -> HeldOut:
    """Return the held-out queries of the run's identifier model, from the settings of its training.

    Raises:
        UserError: the run has no identifier model yet, or another version has trained it.
    """
    stage = run.manifest().get("stages", {}).get("train_identifier")
    if stage is None:
        raise UserError(
            f"{run.path} has no identifier model yet; "
            f"train it with `{launch_command('train_identifier.py', '--run', run.path)}`"
        )
    chosen_by = stage["settings"]["held_out"]
    try:
        return choose_held_out(dataset.split("train"), **chosen_by)
    except TypeError:
        raise UserError(
            f"{run.path} was trained by another version of semcore, which held out queries by "
            f"{', '.join(chosen_by)}; train the identifier model anew, in another --run"
        ) from None


def write_held_out(run: RunFolder, held_out: HeldOut, directions: Iterable[Direction] = tuple(Direction)) -> None:
    """Write RUN/candidates/held_out.json: the query ids of each direction that is trained, for people to look at."""
    write_json(run / "candidates" / "held_out.json", {own: held_out.query_ids[own] for own in directions})
