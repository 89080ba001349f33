import io
import json
import threading
from functools import partial

import pytest
from PIL import Image

import data_prep.caption
from data_prep.caption import Settings, main
from semcore.data.run_folder import RunFolder
from semcore.models.captioning.local import write_captions
from semcore.models.captioning.openai_server import Server
from semcore.models.inference import load_for_inference
from semcore.models.prompts import load_prompts
from semcore.models.run_checkpoints import captioner_of
from semcore.runtime.errors import UserError
from semcore.runtime.packaged_files import asset_folder
from tests.run_fixtures import save
from tests.semcore.models.captioning.chat_server import chat_server


@pytest.fixture
def model(lively_checkpoint, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    save(lively_checkpoint, folder)
    return str(folder)


def settings(tiny_dataset, run, model, **others):
    return Settings(tiny_dataset, run, model, batch_size=2, max_new_tokens=5, dtype="float32", device="cpu", **others)


def read_rows(run):
    return [json.loads(line) for line in (run / "captions.jsonl").read_text().splitlines()]


def test_every_readable_image_is_captioned_once(tiny_dataset, tmp_path, model, capsys):
    (tiny_dataset / "images" / "tiny-1.png").write_bytes(b"broken")
    run = tmp_path / "run"
    main(settings(tiny_dataset, run, model))
    stats = json.loads((run / "captions.stats.json").read_text())
    captioned = [f"tiny-{n}" for n in (0, 2, 3, 4, 5) if f"tiny-{n}" not in stats["empty_images"]]
    assert [row["image_id"] for row in read_rows(run)] == captioned
    assert all(row["caption"] for row in read_rows(run))
    assert stats["unreadable_images"] == [{"image_id": "tiny-1", "reason": "not a picture in a known format"}]
    assert stats["ok"] + stats["truncated"] == len(captioned)
    assert len(captioned) > 2
    out = capsys.readouterr().out
    assert "left out tiny-1: not a picture in a known format" in out
    stage = json.loads((run / "manifest.json").read_text())["stages"]["caption"]
    assert stage["finished"] and stage["settings"]["model"] == model
    assert [path.name for path in run.iterdir() if path.is_dir()] == ["features"]  # no chunk is left


def test_a_killed_job_goes_on_and_ends_the_same(tiny_dataset, tmp_path, model, monkeypatch):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    main(settings(tiny_dataset, whole, model))
    caption_images, calls = data_prep.caption.caption_images, []

    def dies_at_the_second(*arguments, **keywords):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return caption_images(*arguments, **keywords)

    monkeypatch.setattr(data_prep.caption, "caption_images", dies_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        main(settings(tiny_dataset, killed, model))
    assert not (killed / "captions.jsonl").exists()
    main(settings(tiny_dataset, killed, model))
    assert len(calls) == 4  # the first batch once, the second twice, the third once
    for name in ("captions.jsonl", "captions.stats.json"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes()


def test_a_second_run_only_tidies_up(tiny_dataset, tmp_path, model, monkeypatch, capsys):
    main(settings(tiny_dataset, tmp_path / "run", model))
    (tmp_path / "run" / ".caption").mkdir()  # as a kill right behind the end leaves it
    monkeypatch.setattr(data_prep.caption, "load_for_inference", None)
    main(settings(tiny_dataset, tmp_path / "run", model))
    assert "caption: already done" in capsys.readouterr().out
    assert not (tmp_path / "run" / ".caption").exists()


def test_other_settings_are_noticed(tiny_dataset, tmp_path, model):
    main(settings(tiny_dataset, tmp_path / "run", model))
    with pytest.raises(UserError, match="was begun with limit null, not 1"):
        main(settings(tiny_dataset, tmp_path / "run", model, limit=1))


def test_a_limit_is_shared_out_over_the_splits(tiny_dataset, tmp_path, model):
    main(settings(tiny_dataset, tmp_path / "run", model, limit=4))
    stats = json.loads((tmp_path / "run" / "captions.stats.json").read_text())
    captioned = [row["image_id"] for row in read_rows(tmp_path / "run")]
    # The random model may find nothing to say of one of them.
    assert sorted(captioned + stats["empty_images"]) == ["tiny-0", "tiny-1", "tiny-3", "tiny-4"]


def test_no_readable_image_at_all(tiny_dataset, tmp_path, model):
    for path in (tiny_dataset / "images").iterdir():
        path.write_bytes(b"")
    with pytest.raises(UserError, match="none of the 6 images of .* got a caption: 6 unreadable .*file is empty"):
        main(settings(tiny_dataset, tmp_path / "run", model))
    assert not (tmp_path / "run" / "captions.stats.json").exists()


def served(tiny_dataset, run, url, **others):
    return Settings(tiny_dataset, run, "tiny", server=url, batch_size=2, concurrency=2, **others)


def test_a_server_that_runs_the_base_checkpoint_gives_the_same_captions(tiny_dataset, tmp_path, monkeypatch):
    """And no fault on the way changes them: each image meets another one first."""
    monkeypatch.setattr(data_prep.caption, "Server", partial(Server, first_pause_s=0.01))
    base = str(asset_folder("scenes_base"))
    checkpoint = load_for_inference(base, dtype="float32", device="cpu")
    prompts, one = load_prompts(special_tokens=checkpoint.special_tokens), threading.Lock()
    faults = [500, "hang up", "half", "hang", ("raw", b"<html>"), 429]

    def script(attempt, image):
        with one:
            if attempt == 1:
                return faults.pop()
            picture = Image.open(io.BytesIO(image)).convert("RGB")
            ((text, ended),) = write_captions(checkpoint, prompts, [picture], max_new_tokens=24)
        return text if ended else ("cut", text)

    main(Settings(tiny_dataset, tmp_path / "here", base, max_new_tokens=24, dtype="float32", device="cpu"))
    with chat_server(script) as chat:
        main(served(tiny_dataset, tmp_path / "there", chat.url, max_new_tokens=24))
    assert not faults
    assert len(read_rows(tmp_path / "there")) == 6
    for name in ("captions.jsonl", "captions.stats.json"):
        assert (tmp_path / "there" / name).read_bytes() == (tmp_path / "here" / name).read_bytes()
    with pytest.raises(UserError, match="were written by a server, and the likelihood verifier asks"):
        captioner_of(RunFolder(tmp_path / "there"), "likelihood")


def test_a_server_that_dies_is_asked_on_elsewhere(tiny_dataset, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(data_prep.caption, "Server", partial(Server, first_pause_s=0.01))
    asked = []

    def dies_after_two(attempt, image):
        asked.append(image)
        return "a dog" if len(set(asked)) <= 2 else 500

    run = tmp_path / "run"
    with chat_server(dies_after_two) as chat, pytest.raises(UserError, match="gave none of 2 images a caption"):
        main(served(tiny_dataset, run, chat.url, max_attempts=2))
    assert not (run / "captions.jsonl").exists()
    with chat_server(lambda attempt, image: 400 if image == asked[-1] else "a cat") as chat:
        main(served(tiny_dataset, run, chat.url, max_attempts=3))
    assert sum(chat.attempts.values()) == 4  # the first two are not asked again
    stats = json.loads((run / "captions.stats.json").read_text())
    assert (stats["ok"], stats["failed"], stats["num_images"]) == (5, 1, 6)
    (failed,) = stats["failed_images"]
    assert failed["reason"] == "status 400 (out of order)"
    assert sorted(row["caption"] for row in read_rows(run)) == ["a cat"] * 3 + ["a dog"] * 2
    assert f"left out {failed['image_id']}: status 400" in capsys.readouterr().out


def test_what_a_server_did_not_caption_is_counted_by_its_kind(tiny_dataset, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(data_prep.caption, "Server", partial(Server, first_pause_s=0.01))
    answers = ["<think>a</think>a cat", "<think>a", "I'm sorry, I can't help with that.", "", ("cut", "a long"), 400]
    with chat_server(lambda attempt, image: answers.pop()) as chat:
        main(served(tiny_dataset, tmp_path / "run", chat.url))
    stats = json.loads((tmp_path / "run" / "captions.stats.json").read_text())
    kinds = ("ok", "truncated", "thoughts", "refused", "empty", "failed", "filtered", "unreadable")
    assert [stats[kind] for kind in kinds] == [1, 1, 1, 1, 1, 1, 0, 0]
    assert stats["refused_images"][0]["reason"].startswith("I'm sorry")
    assert sorted(row["caption"] for row in read_rows(tmp_path / "run")) == ["a cat", "a long"]
    last = capsys.readouterr().out.splitlines()[-2]
    for words in ("left out 4 of 6 images", "1 empty", "1 thoughts", "1 refused", "1 failed"):
        assert words in last


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"model": ""}, "--model is missing: give a checkpoint folder or a hub id"),
        ({"model": "x", "batch_size": 0}, "--batch-size must be 1 or more, found 0"),
        ({"model": "x", "server": "localhost:8000"}, "--server takes an address such as http://localhost:8000, .*"),
        ({"model": "x", "server": "http://a", "num_beams": 2}, "--num-beams is for models that run here; .*"),
        ({"model": "x", "server": "http://a", "api_key_variable": "NO_SUCH"}, "--api-key-variable NO_SUCH names .*"),
        ({"model": "x", "limit": -3}, "--limit must be 1 or more, found -3"),
    ],
)
def test_wrong_settings(tmp_path, wrong, sentence):
    with pytest.raises(UserError, match=f"^{sentence}$"):
        Settings(tmp_path, tmp_path, **wrong)
