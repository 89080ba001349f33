"""Queries to a served run, and their answers: plain data that travels between threads and machines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from semcore.data.directions import Direction
from semcore.retrieval.hits import Hit, NoMatchBasis


@dataclass(frozen=True)
class ServedQuery:
    """One query: a sentence, or the content of a picture's file.

    Attributes:
        text: the sentence; None for a picture.
        picture: the file's bytes; None for a sentence.
        top_k: hits, at most.
        explain: say of each hit why it was found.
    """

    text: str | None = None
    picture: bytes | None = None
    top_k: int = 10
    explain: bool = False

    @property
    def direction(self) -> Direction:
        """Return the direction of the search."""
        return Direction.T2I if self.picture is None else Direction.I2T

    @property
    def num_bytes(self) -> int:
        """Return how much memory it takes while it waits."""
        return len(self.picture or b"") + len(self.text or "")


@dataclass(frozen=True)
class Answer:
    """The hits of a query, best first.

    Attributes:
        hits: what was found.
        notes: what is to be known about scores and confidence.
        explanations: one a hit, as `semcore.retrieval.explanation` has them; empty unless asked for.
    """

    hits: list[Hit]
    notes: tuple[str, ...] = ()
    explanations: tuple[dict[str, Any], ...] = ()

    @property
    def no_match(self) -> bool | None:
        """Return whether the search holds that no item answers the query; None where no threshold was fitted."""
        return self.hits[0].no_match if self.hits else None

    @property
    def no_match_by(self) -> NoMatchBasis | None:
        """Return what that was decided on; None where it was not."""
        return self.hits[0].no_match_by if self.hits else None


@dataclass(frozen=True)
class ItemRecord:
    """An item that a run holds.

    Attributes:
        item_id: an image's or a sentence's id.
        direction: in which it is found: images by sentences (t2i), sentences by images.
        image_id: the image itself, or the one that a sentence was written about.
        identifier: what the model generates to find it.
        keywords: its lexical id.
        text: the sentence; None for an image.
    """

    item_id: str
    direction: Direction
    image_id: str
    identifier: str
    keywords: str
    text: str | None = None
