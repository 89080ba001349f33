"""Thumbnails, as files beside report.md and as data URIs inside report.html."""

import base64
import io
from pathlib import Path
from typing import NamedTuple

from semcore.data.dataset import open_image

MAX_SIDE = 160
"""Pixels of the longer side, in a report."""


class Picture(NamedTuple):
    """An encoded thumbnail; `kind` is "png" or "jpeg"."""

    data: bytes
    kind: str
    width: int
    height: int

    @property
    def data_uri(self) -> str:
        """The image as a data URI for an `src` attribute."""
        return f"data:image/{self.kind};base64,{base64.b64encode(self.data).decode('ascii')}"


def thumbnail(path: Path, max_side: int = MAX_SIDE) -> Picture:
    """Shrink an image so that its longer side has at most `max_side` pixels.

    Args:
        path: The image.
        max_side: Pixels of the longer side; a smaller image is kept as it is, without loss.

    Raises:
        UnreadableImage: The file is missing or is no image.
    """
    image = open_image(path)
    kind = "png" if max(image.size) <= max_side else "jpeg"
    image.thumbnail((max_side, max_side))
    buffer = io.BytesIO()
    image.save(buffer, format=kind, quality=85, optimize=True)
    return Picture(buffer.getvalue(), kind, *image.size)
