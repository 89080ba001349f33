"""Pictures in requests: base64 or a data URL, held to a number of pixels before anything is decoded."""

from __future__ import annotations

import base64
import binascii
import io
import re

from PIL import Image

from semcore.data.images import image_size
from semcore.runtime.errors import UnreadableImage
from semcore.serving.problems import invalid, too_large

_DATA_URL = re.compile(r"data:[\w.+/-]*;base64,", re.ASCII)
_NO_PICTURE = "{name} cannot be read: {reason}; give a picture such as a PNG or a JPEG, in base64"


def picture_bytes(encoded: str, max_pixels: int, name: str = "the picture") -> bytes:
    """Return the content of a picture's file.

    Args:
        encoded: its base64, as such or in a data URL.
        max_pixels: what its header may say.
        name: what to call it in an error.

    Raises:
        Refusal: it is no base64, no picture, or has too many pixels.
    """
    start = _DATA_URL.match(encoded[:100])
    try:
        content = base64.b64decode("".join(encoded[start.end() if start else 0 :].split()), validate=True)
    except (binascii.Error, ValueError):  # letters beyond ASCII are the latter
        raise invalid(_NO_PICTURE.format(name=name, reason="it is not in base64")) from None
    _check_pixels(content, max_pixels, name)
    try:
        image_size(content)
    except UnreadableImage as error:
        raise invalid(_NO_PICTURE.format(name=name, reason=error)) from None
    return content


def _check_pixels(content: bytes, max_pixels: int, name: str) -> None:
    """Refuse a picture whose header says too much; one without a header is refused elsewhere."""
    try:
        with Image.open(io.BytesIO(content)) as picture:
            width, height = picture.size
    except Image.DecompressionBombError:
        raise too_large(f"{name} has more than {max_pixels:,} pixels; make it smaller") from None
    except Exception:  # the decoders raise errors of every kind on broken files
        return
    if width * height > max_pixels:
        raise too_large(f"{name} has {width} x {height} pixels, more than {max_pixels:,}; make it smaller")
