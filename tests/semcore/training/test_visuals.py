from pathlib import Path

import pytest
import torch
from PIL import Image

from semcore.dataset import load_dataset
from semcore.errors import UserError
from semcore.training.collator import Collator
from semcore.training.examples import Example
from semcore.training.rows import merge
from semcore.training.visuals import Pixels, StoredFeatures, encode_once, load_visuals


@pytest.fixture
def paths(tiny_dataset) -> dict[str, Path]:
    dataset = load_dataset(tiny_dataset)
    return {record.image_id: dataset.image_path(record) for record in dataset.images}


@pytest.fixture
def rows(tiny_checkpoint):
    convert = tiny_checkpoint.tokenizer.convert_tokens_to_ids
    image = [convert("<img>"), *[convert("<IMG_CONTEXT>")] * 16, convert("</img>")]
    examples = [
        [Example([*image, 105, 106], [124, 125], ("tiny-0",)), Example([*image, 105, 107], [126], ("tiny-0",))],
        [Example([*image, 101, *image, 107], [126], ("tiny-1", "tiny-2"))],
        [Example([105, 106, 107], [120, 121])],
    ]
    return [merge(own, convert("<img>")) for own in examples]


def loss(checkpoint, visuals, rows):
    collator = Collator(visuals, checkpoint.tokenizer.pad_token_id, checkpoint.model.config.image_token_id)
    with torch.no_grad():
        return checkpoint.model(**collator(rows)).loss


def test_stored_features_are_exact(tiny_checkpoint, paths, rows):
    stored, pixels = encode_once(tiny_checkpoint, paths, batch_size=4), Pixels(tiny_checkpoint, paths)
    assert {stored.num_tokens(i) for i in paths} == {pixels.num_tokens(i) for i in paths} == {16}
    torch.testing.assert_close(loss(tiny_checkpoint, stored, rows), loss(tiny_checkpoint, pixels, rows))


def test_a_batch_without_images_gets_one_that_does_not_count(tiny_checkpoint, paths, rows):
    pixels = Pixels(tiny_checkpoint, paths)
    collator = Collator(pixels, tiny_checkpoint.tokenizer.pad_token_id, tiny_checkpoint.model.config.image_token_id)
    batch = collator(rows[2:])
    assert batch["pixel_values"].shape == (1, 3, 64, 64)
    with_image, without = loss(tiny_checkpoint, pixels, rows[2:]), loss(tiny_checkpoint, StoredFeatures({}), rows[2:])
    torch.testing.assert_close(with_image, without)


def test_pixels_or_features(tiny_checkpoint, paths):
    assert isinstance(load_visuals(tiny_checkpoint, paths, frozen=False, device="cpu", progress=False), Pixels)
    assert isinstance(load_visuals(tiny_checkpoint, paths, frozen=True, device="cpu", progress=False), StoredFeatures)


def test_tiles_are_counted_from_the_size_of_the_turned_image(tiny_checkpoint, tmp_path):
    tiny_checkpoint.image_processor.crop_to_patches, tiny_checkpoint.image_processor.max_patches = True, 6
    path = tmp_path / "wide.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (200, 64), "red").save(path, exif=exif)
    pixels = Pixels(tiny_checkpoint, {"wide": path})
    tiles = len(pixels.model_inputs(["wide"])["pixel_values"])
    assert tiles > 1
    assert pixels.num_tokens("wide") == 16 * tiles


def test_an_unreadable_image_is_left_out(tiny_checkpoint, paths):
    paths["tiny-1"].write_bytes(b"no picture")
    for visuals in (encode_once(tiny_checkpoint, paths), Pixels(tiny_checkpoint, paths)):
        assert [image_id for image_id in paths if image_id in visuals] == [i for i in paths if i != "tiny-1"]


def test_no_readable_image_at_all_is_said(tiny_checkpoint, paths):
    for path in paths.values():
        path.write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"none of the 6 training images can be read, .*tiny-0.png the first"):
        encode_once(tiny_checkpoint, paths)
