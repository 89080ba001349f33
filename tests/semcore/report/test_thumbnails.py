"""Thumbnails."""

import io
from pathlib import Path

import pytest
from PIL import Image

from semcore.report.thumbnails import thumbnail
from semcore.runtime.errors import UnreadableImage


def test_a_small_image_is_kept_without_loss(tmp_path: Path) -> None:
    image = Image.effect_noise((64, 48), 90).convert("RGB")
    image.save(tmp_path / "small.png")
    picture = thumbnail(tmp_path / "small.png")
    assert (picture.kind, picture.width, picture.height) == ("png", 64, 48)
    assert Image.open(io.BytesIO(picture.data)).tobytes() == image.tobytes()
    assert picture.data_uri.startswith("data:image/png;base64,iVBOR")


def test_a_photograph_is_shrunk_in_its_proportions(tmp_path: Path) -> None:
    Image.effect_noise((1200, 600), 90).convert("RGB").save(tmp_path / "large.png")
    picture = thumbnail(tmp_path / "large.png")
    assert (picture.kind, picture.width, picture.height) == ("jpeg", 160, 80)
    assert len(picture.data) < 30_000


def test_what_is_no_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(UnreadableImage):
        thumbnail(tmp_path / "broken.png")
