"""One drawing decodes to the same image from every mode, depth, colour space and container."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageDraw, PngImagePlugin

from semcore.data.images import ORIENTATION, image_size, open_image, plain_format, verify_image
from semcore.runtime.errors import UnreadableImage

SIZE = (24, 16)


def drawing() -> Image.Image:
    """A grey ramp with a dark and a light block on white, not symmetric in any direction."""
    image = Image.new("L", SIZE, 255)
    ImageDraw.Draw(image).rectangle((2, 2, 8, 5), fill=40)
    ImageDraw.Draw(image).rectangle((12, 8, 20, 14), fill=200)
    for column in range(SIZE[0]):
        image.putpixel((column, 0), column * 10)
    return image


def values(image: Image.Image) -> np.ndarray:
    return np.asarray(image, dtype=np.int32)


def same(source: Any, tolerance: int = 1) -> bool:
    image = open_image(source)
    assert image.mode == "RGB"
    return image.size == SIZE and np.abs(values(image) - values(drawing().convert("RGB"))).max() <= tolerance


def deep(mode: str = "I;16") -> Image.Image:
    kind = ">u2" if mode == "I;16B" else "<u2"
    content = (values(drawing()) * 257).astype(kind).tobytes()
    return Image.frombytes(mode, SIZE, content)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png(bits: int, colour: int, rows: np.ndarray, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of any depth; `rows` are the packed bytes of each row, `chunks` stand before the pixels."""
    header = struct.pack(">IIBBBBB", *SIZE, bits, colour, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    parts = [(b"IHDR", header), *chunks, (b"IDAT", pixels), (b"IEND", b"")]
    whole = b"".join(struct.pack(">I", len(c)) + n + c + struct.pack(">I", zlib.crc32(n + c)) for n, c in parts)
    return b"\x89PNG\r\n\x1a\n" + whole


def tiff(bits: int, content: bytes, photometric: int = 1) -> bytes:
    """An uncompressed grey TIFF, little-endian."""
    tags = [(256, 4, SIZE[0]), (257, 4, SIZE[1]), (258, 3, bits), (259, 3, 1), (262, 3, photometric), (273, 4, 8),
            (277, 3, 1), (278, 4, SIZE[1]), (279, 4, len(content))]  # fmt: skip
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    head = b"II*\0" + struct.pack("<I", 8 + len(content))
    return head + content + struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "La", "RGBa"])
def test_a_image_in_memory_is_the_same_in_every_mode(mode: str) -> None:
    through = {"La": "LA", "RGBa": "RGBA", "PA": "RGBA", "P": "L"}.get(mode, "RGB")
    assert same(drawing().convert(through).convert(mode), tolerance=2)


@pytest.mark.parametrize("mode", ["I;16", "I;16L", "I;16B", "I;16N"])
def test_sixteen_bits_are_scaled(mode: str) -> None:
    assert same(deep(mode))


def test_lab_is_converted() -> None:
    assert same(drawing().convert("RGB").convert("LAB"), tolerance=4)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG2000"])
def test_deep_files_are_scaled(kind: str, tmp_path: Path) -> None:
    (tmp_path / "deep").write_bytes(saved(deep(), kind))
    assert same(tmp_path / "deep")
    assert verify_image(tmp_path / "deep") == kind


def test_deep_tiffs_of_other_makers() -> None:
    big = deep("I;16B")
    assert same(saved(big, "TIFF"))
    twelve = (values(drawing()) * 4095 // 255).reshape(SIZE[1], -1, 2)
    packed = np.stack([twelve[..., 0] >> 4, (twelve[..., 0] & 15) << 4 | twelve[..., 1] >> 8, twelve[..., 1] & 255], -1)
    assert same(tiff(12, packed.astype(np.uint8).tobytes()))
    white_is_zero = (65_535 - values(drawing()) * 257).astype("<u2").tobytes()
    assert same(tiff(16, white_is_zero, photometric=0))


def test_deep_portable_greymaps() -> None:
    for white in (4095, 65_535):
        content = (values(drawing()) * white // 255).astype(">u2").tobytes()
        assert same(f"P5 {SIZE[0]} {SIZE[1]} {white}\n".encode() + content)


def test_sixteen_bits_a_colour() -> None:
    grey = (values(drawing()) * 257).astype(">u2")
    colours = np.repeat(grey[..., None], 3, axis=2)
    assert same(png(16, 2, colours.reshape(SIZE[1], -1)))
    with_alpha = np.concatenate([colours, np.full((*grey.shape, 1), 65_535, ">u2")], axis=2)
    assert same(png(16, 6, with_alpha.reshape(SIZE[1], -1).astype(">u2")))
    assert same(png(16, 4, with_alpha[..., 2:].reshape(SIZE[1], -1).astype(">u2")))


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_one_grey_may_be_transparent(bits: int) -> None:
    """Black is transparent, white opaque: all is white. Then white is transparent and black is not."""
    top = (1 << bits) - 1
    levels = np.where(values(drawing()) > 100, top, 0)
    packed = np.packbits(((levels[..., None] >> np.arange(bits - 1, -1, -1)) & 1).reshape(SIZE[1], -1), axis=1)
    clear_black = open_image(png(bits, 0, packed, (b"tRNS", struct.pack(">H", 0))))
    assert values(clear_black).min() == 255
    clear_white = open_image(png(bits, 0, packed, (b"tRNS", struct.pack(">H", top))))
    assert (values(clear_white)[..., 0] == np.where(levels, 255, 0)).all()


@pytest.mark.parametrize("bits", [8, 16])
def test_one_colour_may_be_transparent(bits: int) -> None:
    top = (1 << bits) - 1
    colours = np.zeros((SIZE[1], SIZE[0], 3), ">u2" if bits == 16 else np.uint8)
    colours[:, :10, 0] = top  # red, then black
    content = png(bits, 2, colours.reshape(SIZE[1], -1), (b"tRNS", struct.pack(">HHH", top, 0, 0)))
    image = open_image(content)
    assert (image.getpixel((0, 0)), image.getpixel((12, 0))) == ((255, 255, 255), (0, 0, 0))


def test_transparent_parts_are_white_however_they_are_said() -> None:
    clear = Image.new("RGBA", SIZE, (10, 20, 30, 0))
    clear.paste((10, 20, 30, 255), (12, 0, 24, 16))
    palette = clear.convert("P")
    palette.info["transparency"] = bytes([255] * 256)
    forms: list[Any] = [clear, clear.convert("RGBa"), saved(clear, "PNG"), saved(clear, "WEBP", lossless=True),
                        saved(clear, "TIFF"), saved(clear, "GIF"), clear.convert("PA")]  # fmt: skip
    for form in forms:
        image = open_image(form)
        assert image.getpixel((0, 0)) == (255, 255, 255)
        assert np.abs(values(image)[0, 20] - (10, 20, 30)).max() <= 12
    half = open_image(Image.new("LA", SIZE, (0, 128)))
    assert half.getpixel((0, 0)) == (127, 127, 127)


def test_black_and_white() -> None:
    image = drawing().point(lambda value: 255 if value > 100 else 0).convert("1")
    expected = values(image.convert("L").convert("RGB"))
    for form in (image, saved(image, "PNG"), saved(image, "TIFF"), saved(image, "TIFF", compression="group4")):
        assert (values(open_image(form)) == expected).all()


@pytest.mark.parametrize("turn", range(1, 9))
def test_a_image_is_upright_whatever_it_came_as(turn: int, tmp_path: Path) -> None:
    stored = drawing().convert("RGB")
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # the transposition that the orientation takes back
    if turn != 1:
        stored = stored.transpose(Image.Transpose(undo[turn]))
    exif = Image.Exif()
    exif[ORIENTATION] = turn
    for kind in ("PNG", "WEBP", "TIFF", "JPEG"):
        options = {"quality": 100, "subsampling": 0} if kind == "JPEG" else {}
        options |= {"lossless": True} if kind == "WEBP" else {}
        path = tmp_path / f"turned.{kind.lower()}"
        path.write_bytes(saved(stored, kind, exif=exif, **options))
        tolerance = 12 if kind == "JPEG" else 0
        assert same(path, tolerance) and same(path.read_bytes(), tolerance)
        assert image_size(path) == SIZE
        with path.open("rb") as handle:
            assert same(handle, tolerance)
        with Image.open(path) as image:
            assert same(image, tolerance)
            assert same(image, tolerance)  # the image given is not turned itself
        with Image.open(path) as image:
            image.load()
            assert same(image, tolerance)


def test_orientation_of_xmp_and_of_damaged_exif_data() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", '<rdf tiff:Orientation="6"/>')
    stored = drawing().convert("RGB").transpose(Image.Transpose.ROTATE_90)
    assert same(saved(stored, "PNG", pnginfo=info))
    assert same(saved(drawing(), "PNG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f"))


def test_adobe_cmyk_is_not_inverted(tmp_path: Path) -> None:
    cmyk = Image.new("CMYK", SIZE, (0, 255, 255, 0))
    for form in (cmyk, saved(cmyk, "JPEG", quality=100), saved(cmyk, "TIFF")):
        red, green, blue = open_image(form).getpixel((3, 3))  # type: ignore[misc]
        assert red > 240 and max(green, blue) < 15


def test_the_first_frame_of_an_animation() -> None:
    for kind in ("GIF", "WEBP", "PNG", "MPO", "TIFF"):
        frames = [Image.new("RGB", SIZE, colour) for colour in ("red", "blue")]
        content = saved(frames[0], kind, save_all=True, append_images=frames[1:])
        assert np.abs(values(open_image(content))[2, 2] - (255, 0, 0)).max() <= 3


def test_colours_are_converted_as_their_profile_says() -> None:
    """Red and green change places in a profile made for this; damaged and unfitting profiles change nothing."""
    image = Image.new("RGB", SIZE, (200, 30, 60))
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    other = bytearray(srgb)
    for first, second in ((b"rXYZ", b"gXYZ"),):
        a, b = (other.index(name, 128) for name in (first, second))
        other[a + 4 : a + 12], other[b + 4 : b + 12] = other[b + 4 : b + 12], other[a + 4 : a + 12]
    swapped = bytes(other).replace("sRGB".encode("utf-16-be"), "mine".encode("utf-16-be"))
    for kind in ("PNG", "TIFF"):
        assert open_image(saved(image, kind, icc_profile=srgb)).getpixel((0, 0)) == (200, 30, 60)
        assert open_image(saved(image, kind, icc_profile=b"damaged")).getpixel((0, 0)) == (200, 30, 60)
        turned = open_image(saved(image, kind, icc_profile=swapped))
        assert np.abs(values(turned)[0, 0] - (30, 200, 60)).max() <= 2
    assert same(saved(drawing(), "PNG", icc_profile=swapped))  # a colour profile of a grey image


def test_arrays() -> None:
    grey = np.asarray(drawing())
    assert same(grey) and same(np.asarray(drawing().convert("RGB"))) and same(grey.astype(np.uint16) * 257)
    with pytest.raises(UnreadableImage, match="floating point"):
        open_image(grey.astype(np.float32))


@pytest.mark.parametrize("reader", [open_image, verify_image, image_size])
@pytest.mark.parametrize(("mode", "word"), [("F", "floating point"), ("I", "32-bit integers")])
def test_depths_without_a_white_are_refused_by_name(
    tmp_path: Path, reader: Callable[[Path], Any], mode: str, word: str
) -> None:
    drawing().convert(mode).save(tmp_path / "deep.tif")
    with pytest.raises(UnreadableImage, match=word):
        reader(tmp_path / "deep.tif")


def test_objects_that_are_no_image() -> None:
    for source in (3, b"", b"not a picture", io.BytesIO(b"text"), drawing().resize((9500, 9500))):
        with pytest.raises(UnreadableImage):
            open_image(source)


def test_files_are_plain_where_their_pixels_are_those_of_the_image(tmp_path: Path) -> None:
    colour = drawing().convert("RGB")
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    forms = {
        "plain.png": saved(colour, "PNG"),
        "plain.jpg": saved(colour, "JPEG"),
        "grey.png": saved(drawing(), "PNG"),
        "turned.jpg": saved(colour, "JPEG", exif=exif),
        "clear.png": saved(colour, "PNG", transparency=(255, 255, 255)),
        "other.webp": saved(colour, "WEBP"),
        "deep.png": png(16, 2, np.zeros((SIZE[1], SIZE[0] * 3), ">u2")),
    }
    for name, content in forms.items():
        (tmp_path / name).write_bytes(content)
    found = {name: plain_format(tmp_path / name) for name in forms}
    assert {name: kind for name, kind in found.items() if kind} == {"plain.png": "PNG", "plain.jpg": "JPEG"}


def test_the_shared_cases_decode_to_one_image(shared_cases: Path) -> None:
    expected = values(open_image(shared_cases / "01_depths" / "grey8.png"))
    assert np.abs(values(open_image(shared_cases / "01_depths" / "grey16.png")) - expected).max() <= 1
    for name in ("cmyk.jpg", "palette.png"):  # the same drawing in colour
        grey = values(open_image(shared_cases / "01_depths" / name).convert("L").convert("RGB"))
        assert np.abs(grey - expected).mean() < 12, name
    upright = values(open_image(shared_cases / "02_exif" / "upright.png"))
    phone = shared_cases / "02_exif" / "phone.jpg"
    for source in (phone, phone.read_bytes(), Image.open(phone)):
        image = values(open_image(source))
        assert image.shape == upright.shape and np.abs(image - upright).mean() < 12
