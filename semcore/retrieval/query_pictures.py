"""Pictures that are searched with: whatever they come as, made RGB and upright as everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from semcore.data.images import open_image
from semcore.runtime.errors import UnreadableImage, UserError

Picture = str | Path | bytes | BinaryIO | Image.Image | np.ndarray
"""What `semcore.data.images.open_image` takes: a file or what it holds, a picture in memory, or an array."""


def open_picture(picture: Picture) -> Image.Image:
    """Return a picture that a user gave.

    Raises:
        UserError: it cannot be read.
    """
    try:
        return open_image(picture)
    except UnreadableImage as error:
        name = picture if isinstance(picture, str | Path) else getattr(picture, "filename", "") or "the picture given"
        raise UserError(f"{name} cannot be read: {error}; give a picture such as a PNG or a JPEG") from None
