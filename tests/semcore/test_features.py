import pytest
import torch

from semcore.errors import UnreadableImage, UserError
from semcore.features import ImageFeatures, encode_images, encode_pictures
from semcore.inputs import prepare_images
from tests.conftest import draw_picture


@pytest.fixture
def files(tmp_path):
    paths = {name: tmp_path / f"{name}.png" for name in ("red", "blue", "green")}
    for number, (colour, path) in enumerate(paths.items()):
        draw_picture(colour, number).save(path)
    return paths


def test_batches_change_nothing(tiny_checkpoint, files):
    one, three = (encode_images(tiny_checkpoint, files, batch_size=size) for size in (1, 3))
    assert list(one) == list(files)
    for name in files:
        torch.testing.assert_close(one[name], three[name], rtol=1e-4, atol=1e-5)


def test_features_are_what_the_model_computes_itself(tiny_checkpoint):
    picture = draw_picture("red", 2)
    [own] = encode_pictures(tiny_checkpoint, [picture])
    pixels = prepare_images(tiny_checkpoint, [picture])[0]
    with torch.inference_mode():
        expected = tiny_checkpoint.model.get_image_features(pixel_values=pixels).pooler_output
    torch.testing.assert_close(own, expected.flatten(0, 1))
    assert own.shape == (tiny_checkpoint.model.config.image_seq_length, 32)


def test_an_image_is_encoded_once(tiny_checkpoint, files, monkeypatch):
    features = ImageFeatures(tiny_checkpoint, files)
    first = features.of(["red", "blue", "red"])
    assert list(first) == ["red", "blue"]
    for path in files.values():
        path.unlink()
    assert torch.equal(features.of(["blue"])["blue"], first["blue"])


def test_an_unreadable_image(tiny_checkpoint, files):
    files["blue"].write_bytes(b"no picture")
    with pytest.raises(UnreadableImage):
        encode_images(tiny_checkpoint, files)
    with pytest.raises(UserError, match="an image that has a caption cannot be read now"):
        ImageFeatures(tiny_checkpoint, files).of(["blue"])
