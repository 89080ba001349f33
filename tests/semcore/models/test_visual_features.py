import copy
import errno
import json
import os
import threading

import pytest
import torch

from semcore.models.batching import make_prompts, model_inputs
from semcore.models.prompts import IMAGE, load_prompts
from semcore.models.tokenization import prepare_images
from semcore.models.visual_features import FeatureStore, encode_pictures
from semcore.runtime import files as semcore_files
from semcore.runtime.errors import UserError
from tests.conftest import COLOURS, draw_picture
from tests.pixel_inputs import batch_inputs, prompt_text


@pytest.fixture
def files(tmp_path):
    """Five images, two of them the same."""
    paths = {colour: tmp_path / f"{colour}.png" for colour in COLOURS[:4]}
    for number, (colour, path) in enumerate(paths.items()):
        draw_picture(colour, number).save(path)
    paths["copy"] = tmp_path / "copy.png"
    paths["copy"].write_bytes(paths["red"].read_bytes())
    return paths


@pytest.fixture
def encoded(monkeypatch):
    """How many images have been through a vision tower."""
    counts: list[int] = []

    def counted(checkpoint, pictures, layer="projector"):
        counts.append(len(pictures))
        return encode_pictures(checkpoint, pictures, layer)

    monkeypatch.setattr("semcore.models.visual_features.encode_pictures", counted)
    return counts


def open_store(checkpoint, files, folder, **options):
    return FeatureStore(checkpoint, files, folder, batch_size=2, images_a_shard=2, **options)


def only_folder(folder):
    [store] = folder.iterdir()
    return store


def test_features_are_what_the_model_computes_itself(tiny_checkpoint):
    picture = draw_picture("red", 2)
    [own] = encode_pictures(tiny_checkpoint, [picture])
    pixels = prepare_images(tiny_checkpoint, [picture])[0]
    with torch.inference_mode():
        expected = tiny_checkpoint.model.get_image_features(pixel_values=pixels).pooler_output
    torch.testing.assert_close(own, expected.flatten(0, 1))
    assert own.shape == (tiny_checkpoint.model.config.image_seq_length, 32)


@torch.inference_mode()
def test_logits_with_the_store_are_those_of_the_pixels(lively_checkpoint, files, tmp_path):
    store = open_store(lively_checkpoint, files, tmp_path / "features")
    store.add(files)
    turn = load_prompts().render("caption", image=IMAGE)
    tiles = [prepare_images(lively_checkpoint, [draw_picture(name, n)]) for n, name in enumerate(COLOURS[:4])]
    pixels = batch_inputs(lively_checkpoint, [prompt_text(lively_checkpoint, turn, own) for own in tiles], tiles)
    prompts = make_prompts(lively_checkpoint, [turn] * 4, [[store[name]] for name in COLOURS[:4]])
    stored = model_inputs(lively_checkpoint, prompts)
    with_store, without = (lively_checkpoint.model(**inputs).logits for inputs in (stored, pixels))
    torch.testing.assert_close(with_store, without, atol=1e-5, rtol=1e-5)


def test_an_image_is_encoded_once_in_the_life_of_a_run(tiny_checkpoint, files, tmp_path, encoded):
    first = open_store(tiny_checkpoint, files, tmp_path / "features")
    first.add(["red", "blue", "red"])
    first.add(files)
    assert sum(encoded) == 4  # equal images count once
    second = open_store(copy.deepcopy(tiny_checkpoint), files, tmp_path / "features")
    second.add(files)
    assert sum(encoded) == 4
    assert list(second) == list(files)
    for name in files:
        assert torch.equal(second[name], first[name])
        assert torch.equal(second[name], second.of([name])[name])


def test_what_was_not_added_is_encoded_but_not_written(tiny_checkpoint, files, tmp_path, encoded):
    store = open_store(tiny_checkpoint, files, tmp_path / "features")
    features = store.of(["red", "copy", "blue"])
    assert sum(encoded) == 2 and not (tmp_path / "features").exists()
    assert torch.equal(features["red"], features["copy"])
    before = sum(encoded)
    for path in files.values():
        path.unlink()
    assert torch.equal(store.of(["blue"])["blue"], features["blue"])
    assert sum(encoded) == before


def test_without_a_folder_every_call_encodes_and_nothing_is_kept(tiny_checkpoint, files, tmp_path, encoded):
    stored = open_store(tiny_checkpoint, files, tmp_path / "features").of(files)
    nothing_kept = open_store(tiny_checkpoint, files, None)
    encoded.clear()
    nothing_kept.add(files)
    assert not encoded
    for name in ("blue", "red", "blue"):
        torch.testing.assert_close(nothing_kept.of([name])[name], stored[name], rtol=1e-4, atol=1e-5)
    assert encoded == [1, 1, 1]


def test_another_precision_is_kept_apart(tiny_checkpoint, files, tmp_path):
    whole = open_store(tiny_checkpoint, files, tmp_path / "features")
    half = open_store(tiny_checkpoint, files, tmp_path / "features", dtype=torch.bfloat16)
    for store in (whole, half):
        store.add(files)
    assert len(list((tmp_path / "features").iterdir())) == 2
    assert half["red"].dtype == torch.bfloat16
    torch.testing.assert_close(half["red"].float(), whole["red"], atol=0.05, rtol=0.05)
    loaded_so = copy.deepcopy(tiny_checkpoint)
    loaded_so.model.bfloat16()
    assert "red" in FeatureStore(loaded_so, files, tmp_path / "features").of(["red"])
    assert tiny_checkpoint.model.dtype == torch.float32


def test_the_vision_towers_states_are_kept_for_a_projector_that_trains(tiny_checkpoint, files, tmp_path):
    store = open_store(tiny_checkpoint, files, tmp_path / "features", layer="vision tower")
    store.add(files)
    assert store["red"].shape == (1, 65, 128)
    tiny_checkpoint.model.model.multi_modal_projector.linear_1.weight.data += 1
    same = open_store(tiny_checkpoint, files, tmp_path / "features", layer="vision tower")
    assert torch.equal(same.of(["red"])["red"], store["red"])
    assert len(list((tmp_path / "features").iterdir())) == 1


def test_a_changed_image_or_checkpoint_is_noticed(tiny_checkpoint, files, tmp_path, encoded):
    store = open_store(tiny_checkpoint, files, tmp_path / "features")
    store.add(files)
    draw_picture("black", 9).save(files["blue"])
    changed = open_store(tiny_checkpoint, files, tmp_path / "features")
    changed.add(files)
    assert sum(encoded) == 5
    assert not torch.equal(changed["blue"], store["blue"])
    assert torch.equal(changed["red"], store["red"])
    tiny_checkpoint.model.model.vision_tower.encoder.layer[0].attention.q_proj.weight.data += 0.1
    other = open_store(tiny_checkpoint, files, tmp_path / "features")
    other.add(files)
    assert sum(encoded) == 9
    tiny_checkpoint.image_processor.image_mean = (0.4, 0.5, 0.5)
    open_store(tiny_checkpoint, files, tmp_path / "features").add(files)
    assert sum(encoded) == 13


def test_a_killed_job_goes_on(tiny_checkpoint, files, tmp_path, monkeypatch, encoded):
    store = open_store(tiny_checkpoint, files, tmp_path / "features")
    with monkeypatch.context() as patch:
        patch.setattr("semcore.models.visual_features.write_shard", fail_at(2, KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            store.add(files)
    again = open_store(tiny_checkpoint, files, tmp_path / "features")
    again.add(files)
    assert encoded == [2, 2, 2]


def fail_at(call, error):
    from semcore.models.tensor_shards import write_shard

    calls = []

    def write(*arguments):
        calls.append(arguments)
        if len(calls) == call:
            raise error
        write_shard(*arguments)

    return write


def test_two_processes_share_the_work(tiny_checkpoint, files, tmp_path, monkeypatch, encoded):
    rank = threading.local()
    monkeypatch.setattr("semcore.models.visual_features.num_processes", lambda: 2)
    monkeypatch.setattr("semcore.models.visual_features.process_rank", lambda: rank.number)
    stores = [open_store(tiny_checkpoint, files, tmp_path / "features") for _ in range(2)]

    def work(number):
        rank.number = number
        stores[number].add(["red", "green"])
        stores[number].add(files)

    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(2)]
    for thread in reversed(threads):
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert sum(encoded) == 4
    assert list(stores[0]) == list(stores[1]) == list(files)
    assert all(torch.equal(stores[0][name], stores[1][name]) for name in files)


def test_an_unreadable_image_is_noted_and_not_tried_again(tiny_checkpoint, files, tmp_path, encoded):
    files["blue"].write_bytes(b"no picture")
    for _ in range(2):
        store = open_store(tiny_checkpoint, files, tmp_path / "features")
        store.add(files)
        assert store.failed == {"blue": "not a picture in a known format"}
        assert list(store) == [name for name in files if name != "blue"]
    assert sum(encoded) == 3


def test_an_image_that_vanished(tiny_checkpoint, files, tmp_path):
    open_store(tiny_checkpoint, files, tmp_path / "features").add(files)
    files["blue"].unlink()
    store = open_store(tiny_checkpoint, files, tmp_path / "features")
    assert list(store.of(["red"])) == ["red"]
    with pytest.raises(UserError) as error:
        store.of(["red", "blue"])
    for part in ("image blue", f"{files['blue']}", f"`python -m data_prep.check {files['blue'].parent.parent}`"):
        assert part in str(error.value)


def test_a_store_from_another_checkpoint(tiny_checkpoint, files, tmp_path):
    open_store(tiny_checkpoint, files, tmp_path / "features").add(files)
    folder = only_folder(tmp_path / "features")
    owner = json.loads((folder / "store.json").read_text())
    mine = owner["weights hash"]
    (folder / "store.json").write_text(json.dumps({**owner, "weights hash": "abc"}))
    with pytest.raises(UserError) as error:
        open_store(tiny_checkpoint, files, tmp_path / "features")
    assert str(error.value) == (
        f"{folder} belongs to another checkpoint: its weights hash is abc, not {mine}; "
        "delete it to encode the images again"
    )
    (folder / "store.json").unlink()
    with pytest.raises(UserError) as error:
        open_store(tiny_checkpoint, files, tmp_path / "features")
    assert str(error.value) == (
        f"{folder} does not say which checkpoint it belongs to; delete it to encode the images again"
    )


@pytest.mark.parametrize("damage", ["missing", "cut off", "overwritten"])
def test_a_damaged_shard(tiny_checkpoint, files, tmp_path, damage):
    open_store(tiny_checkpoint, files, tmp_path / "features").add(files)
    folder = only_folder(tmp_path / "features")
    shard = sorted(folder.glob("*.safetensors"))[0]
    size = shard.stat().st_size
    state = {"missing": "is missing", "cut off": f"has 9 bytes instead of {size}"}
    if damage == "missing":
        shard.unlink()
    else:
        shard.write_bytes(b"nonsense." if damage == "cut off" else b"\xff" * size)
    with pytest.raises(UserError) as error:
        dict(open_store(tiny_checkpoint, files, tmp_path / "features").of(files))
    if damage == "overwritten":
        assert str(error.value).startswith(f"{shard} is damaged (")
        assert str(error.value).endswith(f"; delete {folder} to have it written again")
    else:
        assert str(error.value) == (
            f"{shard} {state[damage]}, with the features of 2 images; delete {folder} to encode the images again"
        )


@pytest.mark.parametrize("write", [1, 2, 3])
def test_what_a_full_disk_left_half_written_is_not_believed(tiny_checkpoint, files, tmp_path, monkeypatch, write):
    calls, own_thread = [], threading.get_ident()

    def full_disk(handle):
        if threading.get_ident() != own_thread:
            return  # a stopwatch of another test, which notes its seconds now and then
        calls.append(handle)
        if len(calls) == write:
            os.ftruncate(handle, 3)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(semcore_files.os, "fsync", full_disk)
        with pytest.raises(UserError) as error:
            open_store(tiny_checkpoint, files, tmp_path / "features").add(files)
    folder = only_folder(tmp_path / "features")
    where = (
        str(error.value)
        .removeprefix("no space left on the disk of ")
        .removesuffix(": free some and run the same command again")
    )
    assert where.startswith(f"{folder}/")
    assert not list(folder.glob(".*"))
    again = open_store(tiny_checkpoint, files, tmp_path / "features")
    again.add(files)
    fresh = open_store(tiny_checkpoint, files, tmp_path / "fresh")
    fresh.add(files)
    assert all(torch.equal(again[name], fresh[name]) for name in files)
