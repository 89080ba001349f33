"""Hits: items as the generator ranks them, and as a search returns them. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from semcore.data.items_and_queries import Item


class GeneratedHit(NamedTuple):
    """A hit of the generator: the item's id, its identifier, and the identifier's log-probability."""

    item_id: str
    identifier: str
    score: float


@dataclass(frozen=True)
class Hit:
    """A ranked item, as a search returns it.

    Attributes:
        item_id: an image's or a sentence's id.
        score: higher is better; comparable within one query only.
        identifier: what the model generated to find it.
        confidence: the probability, 0 to 1, that this item answers the query, as val's judgements say it: of hits
            with 0.8, four in five are right there. Several hits may be right, and none: they need not sum to 1.
            It never falls behind a lower hit's. Fitted on the corpus of val: where more items are searched it says
            too much (`Retriever.confidence_note`). None where nothing was fitted, and behind the shortlist.
        text: the sentence; None for an image.
        image_path: the image; None for a sentence.
    """

    item_id: str
    score: float
    identifier: str
    confidence: float | None = None
    text: str | None = None
    image_path: Path | None = None

    @classmethod
    def of(cls, item: Item, score: float, confidence: float | None) -> Hit:
        """Return an item with its score and confidence."""
        return cls(item.item_id, score, item.identifier, confidence, item.text or None, item.image_path)
