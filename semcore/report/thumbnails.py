"""Thumbnails, as files beside report.md and as data URIs inside report.html."""

import base64
import io
from pathlib import Path
from typing import NamedTuple

from semcore.data.dataset import open_image

MAX_SIDE = 160
"""Pixels of the longer side; a smaller image is kept as it is, without loss."""


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


def thumbnail(path: Path) -> Picture:
    """Shrink an image so that its longer side has at most `MAX_SIDE` pixels.

    Raises:
        UnreadableImage: The file is missing or is no image.
    """
    image = open_image(path)
    kind = "png" if max(image.size) <= MAX_SIDE else "jpeg"
    image.thumbnail((MAX_SIDE, MAX_SIDE))
    buffer = io.BytesIO()
    image.save(buffer, format=kind, quality=85, optimize=True)
    return Picture(buffer.getvalue(), kind, *image.size)
