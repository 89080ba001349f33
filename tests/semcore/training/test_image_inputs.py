from pathlib import Path

import pytest
import torch
from PIL import Image

from semcore.data.dataset import load_dataset
from semcore.runtime.errors import UserError
from semcore.training.collator import Collator
from semcore.training.identifier_pairs import Example
from semcore.training.image_inputs import (
    Pixels,
    StoredFeatures,
    TowerStates,
    load_visuals,
    use_precomputed_vision_states,
)
from semcore.training.packing import merge


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


@pytest.fixture
def load(tiny_checkpoint, paths, tmp_path):
    def call(**options):
        frozen = {"freeze_vision": True, "freeze_projector": True}
        return load_visuals(tiny_checkpoint, paths, tmp_path / "features", **{**frozen, **options})

    return call


def loss(checkpoint, visuals, rows):
    collator = Collator(visuals, checkpoint.tokenizer.pad_token_id, checkpoint.model.config.image_token_id)
    with torch.no_grad():
        return checkpoint.model(**collator(rows)).loss


def test_stored_features_are_exact(tiny_checkpoint, paths, rows, load):
    stored, pixels = load(), Pixels(tiny_checkpoint, paths)
    assert {stored.num_tokens(i) for i in paths} == {pixels.num_tokens(i) for i in paths} == {16}
    torch.testing.assert_close(loss(tiny_checkpoint, stored, rows), loss(tiny_checkpoint, pixels, rows))


def test_a_batch_without_images_gets_one_that_does_not_count(tiny_checkpoint, paths, rows):
    pixels = Pixels(tiny_checkpoint, paths)
    collator = Collator(pixels, tiny_checkpoint.tokenizer.pad_token_id, tiny_checkpoint.model.config.image_token_id)
    batch = collator(rows[2:])
    assert batch["pixel_values"].shape == (1, 3, 64, 64)
    with_image, without = loss(tiny_checkpoint, pixels, rows[2:]), loss(tiny_checkpoint, StoredFeatures({}), rows[2:])
    torch.testing.assert_close(with_image, without)


def test_a_projector_learns_the_same_from_the_towers_states(tiny_checkpoint, paths, rows, load):
    states, pixels = load(freeze_projector=False), Pixels(tiny_checkpoint, paths)
    assert isinstance(states, TowerStates)
    assert {states.num_tokens(i) for i in paths} == {16}
    assert states.filler == "tiny-0"
    tiny_checkpoint.model.model.vision_tower.requires_grad_(False)
    projector = tiny_checkpoint.model.model.multi_modal_projector
    gradients = []
    for visuals in (states, pixels):
        tiny_checkpoint.model.zero_grad()
        collator = Collator(
            visuals, tiny_checkpoint.tokenizer.pad_token_id, tiny_checkpoint.model.config.image_token_id
        )
        with use_precomputed_vision_states(tiny_checkpoint.model, visuals):
            tiny_checkpoint.model(**collator(rows)).loss.backward()
        gradients.append([parameter.grad.clone() for parameter in projector.parameters()])
    assert gradients[0][0].abs().sum() > 0
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_pixels_or_features(tiny_checkpoint, paths, load):
    assert isinstance(load(freeze_vision=False), Pixels)
    assert isinstance(load(freeze_vision=False, freeze_projector=False), Pixels)
    assert isinstance(load_visuals(tiny_checkpoint, paths, None, freeze_vision=True, freeze_projector=True), Pixels)
    assert isinstance(load(), StoredFeatures)
    half = load(dtype=torch.bfloat16)
    assert half.features["tiny-0"].dtype == torch.bfloat16
    assert tiny_checkpoint.model.dtype == torch.float32


def test_tiles_are_counted_from_the_size_of_the_upright_image(tiny_checkpoint, tmp_path):
    tiny_checkpoint.image_processor.crop_to_patches, tiny_checkpoint.image_processor.max_patches = True, 6
    path = tmp_path / "wide.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (200, 64), "red").save(path, exif=exif)
    pixels = Pixels(tiny_checkpoint, {"wide": path})
    tiles = len(pixels.model_inputs(["wide"])["pixel_values"])
    assert tiles > 1
    assert pixels.num_tokens("wide") == 16 * tiles


def test_an_unreadable_image_is_left_out(tiny_checkpoint, paths, load):
    paths["tiny-1"].write_bytes(b"no picture")
    for visuals in (load(), load(freeze_projector=False), Pixels(tiny_checkpoint, paths)):
        assert [image_id for image_id in paths if image_id in visuals] == [i for i in paths if i != "tiny-1"]


def test_an_image_that_vanished_is_said(paths, load):
    paths["tiny-3"].unlink()
    with pytest.raises(UserError) as error:
        load()
    for part in ("1 of the 6", str(paths["tiny-3"]), f"`python -m data_prep.check {paths['tiny-3'].parent.parent}`"):
        assert part in str(error.value)


def test_no_readable_image_at_all_is_said(paths, load):
    for path in paths.values():
        path.write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"none of the 6 .*tiny-0.png"):
        load()
