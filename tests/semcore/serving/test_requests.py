from __future__ import annotations

import base64
import struct
import zlib

import pytest

from semcore.serving.limits import Limits
from semcore.serving.problems import Refusal
from semcore.serving.requests import queries_of
from semcore.serving.schemas import SearchByImage, SearchByText
from tests.semcore.serving.live_servers import HTML, picture_base64

LIMITS = Limits(max_letters=20, max_queries=3, max_top_k=9, max_pixels=2_000)


def png_header(width: int, height: int) -> bytes:
    """Return a PNG whose header claims a size, and whose content is a few bytes."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")
    )


def test_a_sentence_is_cleaned_and_kept_as_it_is_otherwise() -> None:
    (query,) = queries_of(SearchByText(text="  a\x00 red\n circle ", top_k=7), LIMITS)
    assert (query.text, query.picture, query.top_k) == ("a red circle", None, 7)
    (query,) = queries_of(SearchByText(text=HTML, top_k=2), Limits())
    assert query.text == HTML


def test_pictures_come_in_base64_or_as_data_urls() -> None:
    encoded = picture_base64()
    content = base64.b64decode(encoded)
    lines = "\n".join(encoded[start : start + 60] for start in range(0, len(encoded), 60))
    body = SearchByImage(image=[encoded, f"data:image/png;base64,{encoded}", lines], top_k=1)
    assert [query.picture for query in queries_of(body, LIMITS)] == [content] * 3


@pytest.mark.parametrize(
    ("body", "status", "sentence"),
    [
        (SearchByText(text="x" * 100_000, top_k=1), 422, "the text has 100,000 letters, and 20 may; give a sentence"),
        (SearchByText(text=["a", "\u200b "], top_k=1), 422, "query 2 is empty; give a sentence"),
        (SearchByText(text=[], top_k=1), 422, "the list of queries is empty; give at least one"),
        (SearchByText(text=["a"] * 4, top_k=1), 422, "the request has 4 queries, and 3 may come in one; send several"),
        (SearchByText(text="a"), 422, "top_k is 10, and at most 9 hits are returned"),
        (
            SearchByImage(image="no base64!", top_k=1),
            422,
            "the picture cannot be read: it is not in base64; give a picture such as a PNG or a JPEG, in base64",
        ),
        (
            SearchByImage(image="é", top_k=1),
            422,
            "the picture cannot be read: it is not in base64; give a picture such as a PNG or a JPEG, in base64",
        ),
        (
            SearchByImage(image=base64.b64encode(b"text").decode(), top_k=1),
            422,
            "the picture cannot be read: not a picture in a known format; give a picture such as a PNG or a JPEG, in "
            "base64",
        ),
        (
            SearchByImage(image="", top_k=1),
            422,
            "the picture cannot be read: the file is empty; give a picture such as a PNG or a JPEG, in base64",
        ),
        (
            SearchByImage(image=base64.b64encode(png_header(50, 50)).decode(), top_k=1),
            413,
            "the picture has 50 x 50 pixels, more than 2,000; make it smaller",
        ),
        (
            SearchByImage(image=base64.b64encode(png_header(10_000, 10_000)).decode(), top_k=1),
            413,
            "the picture has 10000 x 10000 pixels, more than 2,000; make it smaller",
        ),
        (
            SearchByImage(image=base64.b64encode(png_header(60_000, 60_000)).decode(), top_k=1),
            413,
            "the picture has more than 2,000 pixels; make it smaller",
        ),
    ],
    ids=lambda value: value if isinstance(value, int) else "",
)
def test_what_is_wrong_is_one_sentence(body: SearchByText | SearchByImage, status: int, sentence: str) -> None:
    with pytest.raises(Refusal) as refused:
        queries_of(body, LIMITS)
    assert (refused.value.sentence, refused.value.status) == (sentence, status)
