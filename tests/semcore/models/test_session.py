import pytest
import torch

from semcore.data.dataset import load_dataset, open_image
from semcore.models.batching import make_prompts
from semcore.models.prompts import IMAGE
from semcore.models.session import load_session


@pytest.fixture
def dataset(tiny_dataset):
    return load_dataset(tiny_dataset)


def test_prompts_come_with_the_images_that_they_name(tiny_checkpoint, dataset):
    session = load_session(tiny_checkpoint, dataset, None)
    turns = [session.prompts.render("sentence_of_image", image=IMAGE), session.prompts.render("sentence_alone")]
    shown, plain = session.make_prompts(turns, [["tiny-1"], []])
    [features] = session.features.of(["tiny-1"]).values()
    [expected] = make_prompts(tiny_checkpoint, turns[:1], [[features]])
    assert shown.tokens == expected.tokens
    assert torch.equal(shown.images[0], features)
    assert plain.images == ()


def test_pictures_in_memory_take_the_place_of_the_datasets(tiny_checkpoint, dataset):
    session = load_session(tiny_checkpoint, dataset, None)
    picture = open_image(dataset.image_path(dataset.images[1]))
    query = session.with_pictures({"query 0": picture})
    [seen], [stored] = (own.values() for own in (query.features.of(["query 0"]), session.features.of(["tiny-1"])))
    assert torch.allclose(seen, stored, atol=1e-5)
    with pytest.raises(KeyError):
        query.features.of(["tiny-1"])
    assert session.with_pictures({}) is session


def test_a_session_keeps_features_where_it_is_told_to(tiny_checkpoint, dataset, tmp_path):
    load_session(tiny_checkpoint, dataset, tmp_path / "features").features.add(["tiny-1"])
    assert list((tmp_path / "features").rglob("*.safetensors"))
