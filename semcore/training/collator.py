"""Collator of packed rows into a model's batch, images included."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from semcore.training.image_inputs import Visuals
from semcore.training.objective import objective_keys
from semcore.training.packing import Row, collate


@dataclass(frozen=True)
class Collator:
    """Make a batch of rows.

    Attributes:
        visuals: the source of the images.
        pad_token_id: pads the rows.
        image_token_id: id of a visual token.
        num_copies: how often each row stands in a batch: all of them, then all of them again.
        reads_units: a set head is trained, in every batch, since all processes run the same modules together.
    """

    visuals: Visuals
    pad_token_id: int
    image_token_id: int
    num_copies: int = 1
    reads_units: bool = False

    def __call__(self, rows: Sequence[Row]) -> dict[str, Any]:
        """Return the arguments of `model(**batch)`."""
        rows = list(rows) * self.num_copies
        filler = self.visuals.filler
        if filler is not None and not any(row.images for row in rows):
            rows.append(self._ignored_row(filler))
        batch = collate(rows, self.pad_token_id)
        batch |= objective_keys(rows, batch, reads_units=self.reads_units)
        return {**batch, **self.visuals.model_inputs([image_id for row in rows for image_id in row.images])}

    def _ignored_row(self, image_id: str) -> Row:
        """Return a row with an image and no labels: ZeRO-3 needs all processes to run the vision tower."""
        count = self.visuals.num_tokens(image_id)
        return Row([self.image_token_id] * count, list(range(count)), [0] * count, [], [image_id])
