"""Decoding of images to 8-bit RGB, upright, on white, from any format.

`open_image` is the one place where an image is opened or converted. It takes any mode Pillow knows:

    16-bit grey           scaled by its white (65535, or 4095 in a 12-bit TIFF)
    transparency          composed on white: alpha channels, palettes, and single transparent colours
    EXIF, XMP             their orientation is applied; damaged EXIF data is ignored
    CMYK, LAB, HSV, ...   converted; palettes looked up
    ICC profiles          converted to sRGB; a damaged profile, or one for another kind of colour, is ignored
    32-bit, float         refused by name: no value is defined as white

Of an animation the first frame is used, of an image in memory the current frame.
"""

from __future__ import annotations

import io
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image, ImageCms

from semcore.runtime.errors import UnreadableImage

# What Pillow reads, in any letter case.
IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".avif", ".bmp", ".dib", ".gif", ".tif", ".tiff",
    ".jp2", ".j2k", ".jpx", ".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".ico",
)  # fmt: skip
MAX_PIXELS = 89_478_485  # Pillow's own bound; above it an image is more likely an attack than a photograph
ORIENTATION = 274  # EXIF tag
BITS_PER_SAMPLE, PHOTOMETRIC = 258, 262  # TIFF tags
WHITE_IS_ZERO = 0  # of PHOTOMETRIC
_NATIVE = "I;16B" if sys.byteorder == "big" else "I;16"
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip
# Premultiplied and palette modes -> the mode in which colours and alpha are separate.
_PLAIN_ALPHA = {"LA": "LA", "La": "LA", "RGBA": "RGBA", "RGBa": "RGBA", "PA": "RGBA", "P": "RGBA",
                "1": "LA", "L": "LA", "RGB": "RGBA"}  # fmt: skip
_COLOURS_OF_PROFILES = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK"}
_NO_WHITE = {"F": "32-bit floating point", "I": "32-bit integers"}

# Our own bound, in `_opened`, is stricter and says so once per image.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


def open_image(source: Any) -> Image.Image:
    """Return an image as 8-bit RGB, upright, transparent areas white.

    Args:
        source: a path, the bytes of a file, a binary file object, a PIL image (which is not changed), or an
            array (height, width) or (height, width, 3 or 4), 8 bits per channel or 16 bits of grey.

    Raises:
        UnreadableImage: missing, empty, truncated, too large, of a depth without a white, or no image at all.
    """
    with _opened(source) as image:
        packing = _packing(image)
        image.load()  # applies a TIFF's orientation, and then removes the tag
        turn = _TURNS.get(_orientation(image))
        rgb = _to_rgb(image, packing)
        return rgb if turn is None else rgb.transpose(turn)


def verify_image(path: Path | str) -> str:
    """Decode an image as cheaply as every truncation can be found, and return its format ("JPEG", ...).

    Raises:
        UnreadableImage: as `open_image`.
    """
    with _opened(path) as image:
        _white(image)
        image.draft("RGB", (1, 1))  # JPEG: all bytes are read, but an eighth of the size is computed
        image.load()
        return str(image.format)


def image_size(source: Path | str | bytes) -> tuple[int, int]:
    """Return the width and height that `open_image` gives, from the header of a file or of its bytes alone.

    Raises:
        UnreadableImage: missing, empty, too large, of a depth without a white, or no image at all.
    """
    with _opened(source) as image:
        _white(image)
        width, height = image.size
        sideways = _orientation(image) >= 5 and image.format != "TIFF"  # Pillow gives a TIFF's size upright
        return (height, width) if sideways else (width, height)


def plain_format(path: Path | str) -> str | None:
    """Return the format of a JPEG or PNG file whose pixels are those that `open_image` gives; None for others.

    Raises:
        UnreadableImage: missing, empty, too large or no image at all.
    """
    with _opened(path) as image:
        plain = (
            image.format in ("JPEG", "PNG")
            and image.mode == _packing(image) == "RGB"
            and not image.has_transparency_data
            and "icc_profile" not in image.info
            and _orientation(image) == 1
            and not getattr(image, "is_animated", False)
        )
        return image.format if plain else None


@contextmanager
def _opened(source: Any) -> Iterator[Image.Image]:
    """Open an image, undecoded; every error while it is open becomes an `UnreadableImage`."""
    try:
        with _handle(source) as image:
            if image.width * image.height > MAX_PIXELS:
                raise UnreadableImage(f"{image.width} x {image.height} is more than {MAX_PIXELS:,} pixels")
            yield image
    except UnreadableImage:
        raise
    except Exception as error:  # the decoders raise errors of every kind on broken files
        raise UnreadableImage(_reason(error)) from None


@contextmanager
def _handle(source: Any) -> Iterator[Image.Image]:
    if isinstance(source, Image.Image):
        yield source  # the caller closes it
    elif isinstance(source, bytes | bytearray | memoryview):
        with _decoder(io.BytesIO(source), len(source)) as image:
            yield image
    elif isinstance(source, str | os.PathLike):
        with _decoder(source, os.stat(source).st_size) as image:
            yield image
    elif hasattr(source, "__array_interface__"):
        yield Image.fromarray(source)
    elif hasattr(source, "read"):
        with Image.open(source) as image:
            yield image
    else:
        raise UnreadableImage(f"{type(source).__name__} is no picture")


def _decoder(source: Any, num_bytes: int) -> Image.Image:
    if not num_bytes:
        raise UnreadableImage("the file is empty")
    return Image.open(source)


def _packing(image: Image.Image) -> str:
    """Return the file's pixel packing ("RGB;16B", "L;2"), as long as it is not decoded."""
    tiles = getattr(image, "tile", None)
    if not tiles:
        return ""
    args = tiles[0][3]
    return str(args[0] if isinstance(args, tuple) and args else args)


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(ORIENTATION, 1)
    except Exception:  # damaged EXIF data raises errors of every kind, and is no part of the image
        return 1
    return value if value in _TURNS else 1


def _white(image: Image.Image) -> int:
    """Return the value that is white in an image of one deep channel; 255 for all others."""
    if image.mode.startswith("I;16"):
        bits = getattr(image, "tag_v2", {}).get(BITS_PER_SAMPLE, (16,))
        return (1 << (bits[0] if isinstance(bits, tuple) else bits)) - 1
    if image.mode == "I" and image.format == "PPM":
        return 65_535  # Pillow scales all deep PGM files to it
    if image.mode in _NO_WHITE:
        raise UnreadableImage(
            f"its depth, {_NO_WHITE[image.mode]} (mode {image.mode}), has no fixed white; "
            "save it with 8 or 16 bits a channel"
        )
    return 255


def _to_rgb(image: Image.Image, packing: str) -> Image.Image:
    """Return the decoded image as RGB on white, not yet rotated."""
    colours, alpha = _shallow(image) if _white(image) != 255 or image.mode[:1] == "I" else _apart(image, packing)
    if image.mode == "LAB":
        rgb = colours.convert("RGB")  # a profile of a LAB file is about what it was made of
    else:
        rgb = _in_srgb(colours, image.info.get("icc_profile"))
    if alpha is None:
        return rgb
    return Image.composite(rgb, Image.new("RGB", rgb.size, "white"), alpha)


def _shallow(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Return the 8-bit grey of an image of one deep channel, and its alpha where a value is transparent."""
    white = _white(image)
    scaled = [min(255, (value * 255 + white // 2) // white) for value in range(65_536)]
    if getattr(image, "tag_v2", {}).get(PHOTOMETRIC) == WHITE_IS_ZERO:
        scaled = [255 - value for value in scaled]  # Pillow inverts shallow ones itself
    clear = image.info.get("transparency")
    if image.mode == "I;16N":  # Pillow 12 converts it wrongly
        image = Image.frombytes(_NATIVE, image.size, image.tobytes())
    deep = image.convert("I")
    alpha = deep.point([0 if value == clear else 255 for value in range(65_536)], "L") if clear is not None else None
    return deep.point(scaled, "L"), alpha


def _apart(image: Image.Image, packing: str) -> tuple[Image.Image, Image.Image | None]:
    """Return the colours (mode L, RGB, CMYK or LAB) and the alpha channel of an image of shallow channels."""
    if image.has_transparency_data and image.mode in _PLAIN_ALPHA:
        whole = _with_scaled_key(image, packing).convert(_PLAIN_ALPHA[image.mode])
        return whole.convert("L" if whole.mode == "LA" else "RGB"), whole.getchannel("A")
    if image.mode in ("1", "L"):
        return image.convert("L"), None
    return (image if image.mode in ("CMYK", "LAB") else image.convert("RGB")), None


def _with_scaled_key(image: Image.Image, packing: str) -> Image.Image:
    """Scale a transparent colour as the pixels were: PNG gives it in the depth of the file."""
    key = image.info.get("transparency")
    if packing in ("L;2", "L;4") and isinstance(key, int):
        key = key * (85 if packing == "L;2" else 17)
    elif packing == "RGB;16B" and isinstance(key, tuple):
        key = tuple(value >> 8 for value in key)
    if key == image.info.get("transparency"):
        return image
    image = image.copy()
    image.info["transparency"] = key
    return image


def _in_srgb(colours: Image.Image, profile: bytes | None) -> Image.Image:
    """Convert colours as their ICC profile says, where there is one for them that is not sRGB already."""
    if profile:
        try:
            own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            fits = _COLOURS_OF_PROFILES.get(own.profile.xcolor_space) == colours.mode
            if fits and "sRGB" not in ImageCms.getProfileDescription(own):
                converted = ImageCms.profileToProfile(colours, own, ImageCms.createProfile("sRGB"), outputMode="RGB")
                return converted if converted is not None else colours.convert("RGB")
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
            pass  # a damaged profile is no part of the image
    return colours.convert("RGB")


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, Image.UnidentifiedImageError):
        return "not a picture in a known format"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__
