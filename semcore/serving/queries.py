"""Queries to a served run, and their answers: plain data that travels between threads and machines."""

from __future__ import annotations

from dataclasses import dataclass

from semcore.data.directions import Direction
from semcore.retrieval.hits import Hit


@dataclass(frozen=True)
class ServedQuery:
    """One query: a sentence, or the content of a picture's file.

    Attributes:
        text: the sentence; None for a picture.
        picture: the file's bytes; None for a sentence.
        top_k: hits, at most.
    """

    text: str | None = None
    picture: bytes | None = None
    top_k: int = 10

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
    """The hits of a query, best first, and what is to be known about them."""

    hits: list[Hit]
    notes: tuple[str, ...] = ()


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
