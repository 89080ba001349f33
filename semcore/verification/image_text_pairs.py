"""Pairs of an image and a sentence, scored by a model that knows no prompts: its pictures, and the resumable work."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from PIL import Image

from semcore.data.dataset import Dataset
from semcore.data.images import open_image
from semcore.runtime.errors import UnreadableImage, UserError
from semcore.runtime.resumable import RunStep
from semcore.runtime.typed_commands import data_command
from semcore.verification.likelihood import IMAGES_PER_CHUNK, Pair

ScoreImages = Callable[[list[tuple[str, list[str]]]], list[list[float]]]
"""Scores the sentences of some images: (image id, sentences) -> a score for each sentence of each."""


@dataclass(frozen=True)
class PairSession:
    """A loaded model and the pictures that it is shown.

    Attributes:
        model: what scores.
        paths: image id -> file.
        in_memory: pictures that are no files, by their ids.
        kept: vectors that the model has made already, where it keeps any.
    """

    model: Any
    paths: Mapping[str, Path]
    in_memory: Mapping[str, Image.Image] = field(default_factory=dict)
    kept: dict[Any, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, model: Any, dataset: Dataset) -> PairSession:
        """Return a session that shows a dataset's images."""
        return cls(model, dataset.image_paths)

    def with_pictures(self, pictures: Mapping[str, Image.Image]) -> Self:
        """Return the session with images in memory, by their ids, before those of the dataset."""
        return replace(self, in_memory=pictures, kept={}) if pictures else self

    def with_files(self, paths: Mapping[str, Path], features: Path | None) -> Self:
        """Return the session with other image files, by their ids; it has no feature store."""
        return replace(self, paths=paths, kept={})

    def picture(self, image_id: str) -> Image.Image:
        """Open an image.

        Raises:
            UserError: it cannot be read any more.
        """
        if image_id in self.in_memory:
            return self.in_memory[image_id]
        path = self.paths[image_id]
        try:
            return open_image(path)
        except UnreadableImage as reason:
            check = data_command("check", path.parent.parent)
            raise UserError(f"{path} cannot be read any more ({reason}); check with `{check}`") from None


def score_pairs(name: str, pairs: Iterable[Pair], run: RunStep, score: ScoreImages) -> dict[Pair, float]:
    """Return the score of every pair, each scored once, image by image.

    Args:
        name: of the step.
        pairs: in any order, possibly with repetitions.
        run: runs the step.
        score: scores the sentences of some images.
    """
    sentences_of: dict[str, set[str]] = {}
    for pair in pairs:
        sentences_of.setdefault(pair.image_id, set()).add(pair.sentence)
    tasks = [(image_id, sorted(own)) for image_id, own in sorted(sentences_of.items())]
    rows = run(name, tasks, IMAGES_PER_CHUNK, score, "image")
    return {
        Pair(image_id, sentence): float(value)
        for (image_id, own), values in zip(tasks, rows, strict=True)
        for sentence, value in zip(own, values, strict=True)
    }
