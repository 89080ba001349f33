import json

import pytest

import data_prep.caption
from data_prep.caption import Settings, main
from semcore.errors import UserError
from tests.run_fixtures import save


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


def test_a_second_run_does_nothing(tiny_dataset, tmp_path, model, monkeypatch, capsys):
    main(settings(tiny_dataset, tmp_path / "run", model))
    monkeypatch.setattr(data_prep.caption, "load_for_inference", None)
    main(settings(tiny_dataset, tmp_path / "run", model))
    assert "caption: already done" in capsys.readouterr().out


def test_other_settings_are_noticed(tiny_dataset, tmp_path, model):
    main(settings(tiny_dataset, tmp_path / "run", model))
    with pytest.raises(UserError, match="was begun with limit null, not 1"):
        main(settings(tiny_dataset, tmp_path / "run", model, limit=1))


def test_a_limit_counts_in_every_split(tiny_dataset, tmp_path, model):
    main(settings(tiny_dataset, tmp_path / "run", model, limit=1))
    stats = json.loads((tmp_path / "run" / "captions.stats.json").read_text())
    captioned = [row["image_id"] for row in read_rows(tmp_path / "run")]
    # The random model may find nothing to say of one of them.
    assert sorted(captioned + stats["empty_images"]) == ["tiny-0", "tiny-3", "tiny-4"]


def test_no_readable_image_at_all(tiny_dataset, tmp_path, model):
    for path in (tiny_dataset / "images").iterdir():
        path.write_bytes(b"")
    with pytest.raises(UserError, match="none of the 6 images of .* got a caption: 6 are unreadable .*file is empty"):
        main(settings(tiny_dataset, tmp_path / "run", model))
    assert not (tmp_path / "run" / "captions.stats.json").exists()


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"model": ""}, "--model is missing: give a checkpoint folder or a hub id"),
        ({"model": "x", "batch_size": 0}, "--batch-size must be 1 or more, found 0"),
        ({"model": "x", "limit": -3}, "--limit must be 1 or more, found -3"),
    ],
)
def test_wrong_settings(tmp_path, wrong, sentence):
    with pytest.raises(UserError, match=f"^{sentence}$"):
        Settings(tmp_path, tmp_path, **wrong)
