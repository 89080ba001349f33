"""Directions of retrieval: images by a sentence (t2i), and sentences by an image (i2t)."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from enum import StrEnum
from typing import Literal

from semcore.runtime.errors import UserError

DirectionName = Literal["t2i", "i2t"]
"""What a setting `directions` is a list of."""


class Direction(StrEnum):
    """A direction of retrieval; as a string it is the name used by files and folders, "t2i" or "i2t".

    >>> Direction("t2i").label, f"run/{Direction.T2I}"
    ('text → image', 'run/t2i')
    """

    T2I = "t2i"
    I2T = "i2t"

    @property
    def items_are_images(self) -> bool:
        """Return whether images are retrieved; the queries are then sentences."""
        return self is Direction.T2I

    @property
    def queries_are_images(self) -> bool:
        """Return whether the queries are images; the items are then sentences."""
        return self is Direction.I2T

    @property
    def item_kind(self) -> str:
        """Return the kind of the items: "images" or "sentences"."""
        return "images" if self.items_are_images else "sentences"

    @property
    def words(self) -> str:
        """Return the name in words: "text to image"."""
        return "text to image" if self.items_are_images else "image to text"

    @property
    def label(self) -> str:
        """Return the name in tables: "text → image"."""
        return self.words.replace("to", "→")

    @property
    def identify_prompt(self) -> str:
        """Return the name of the prompt from which an identifier is generated."""
        return f"identify_{self}"

    @property
    def verify_prompt(self) -> str:
        """Return the name of the prompt that shows all candidates."""
        return f"verify_{self}"

    @property
    def pointwise_prompt(self) -> str:
        """Return the name of the prompt that shows one candidate."""
        return f"verify_pointwise_{self}"

    def images_shown(self, query: str, item_ids: Iterable[str]) -> list[str]:
        """Return the ids of the images in a prompt of a query and candidates: the candidates, or the query itself.

        >>> Direction.T2I.images_shown("a dog", ["one", "other"])
        ['one', 'other']
        >>> Direction.I2T.images_shown("dog.jpg", ["one", "other"])
        ['dog.jpg']
        """
        return [query] if self.queries_are_images else list(item_ids)


def named_directions(names: Collection[str]) -> tuple[Direction, ...]:
    """Return the directions of these names, each once and in the usual order.

    Raises:
        UserError: there is none.
    """
    found = tuple(direction for direction in Direction if direction in names)
    if not found:
        raise UserError(f"--directions takes one or both of {', '.join(Direction)}, [t2i] say, found none")
    return found
