import json
import shutil

import pytest

import semcore.retrieval.batch
from data_prep.candidates import Settings, main
from semcore.data.dataset import load_dataset
from semcore.data.directions import Direction
from semcore.data.items_and_queries import read_items
from semcore.data.run_folder import RunFolder
from semcore.runtime.errors import UserError
from semcore.training.verifier_questions import read_candidates
from tests.run_fixtures import HELD_OUT


def settings(run, **others):
    return Settings(run.run, dtype="float32", device="cpu", **{"num_beams": 4, "num_candidates": 3, **others})


def read_rows(run, direction):
    return [json.loads(line) for line in (run.run / "candidates" / f"{direction}.jsonl").read_text().splitlines()]


def test_candidates_are_mined_in_blocks_of_the_evaluations_size(searchable_run, capsys):
    main(settings(searchable_run))
    dataset = load_dataset(searchable_run.data)
    train = {record.image_id: record for record in dataset.split("train")}
    held_out = json.loads((searchable_run.run / "candidates" / "held_out.json").read_text())
    owner = {s.sentence_id: image_id for image_id, record in train.items() for s in record.sentences}
    t2i, i2t = (read_rows(searchable_run, direction) for direction in Direction)
    assert {row["query_id"] for row in t2i} == set(held_out["t2i"])
    assert len(t2i) == 12 * HELD_OUT["sentences_per_image"]
    assert {row["query_id"] for row in i2t} == set(held_out["i2t"])
    assert len(i2t) == 12 * HELD_OUT["image_fraction"]
    for row in t2i:
        assert row["right"] == owner[row["query_id"]]
        assert set(row["candidates"]) <= train.keys()
    for row in i2t:
        assert owner[row["right"]] == row["query_id"] == row["query"]
    for row in t2i + i2t:
        assert row["right"] in row["candidates"]
        assert len(set(row["candidates"])) == len(row["candidates"]) == 3
    stats = json.loads((searchable_run.run / "candidates" / "stats.json").read_text())
    assert stats["t2i"]["num_items"] == [6, 6]  # 12 training images, 6 test images
    assert stats["i2t"]["num_items"] == [30, 30]
    assert f"put in its place in {stats['t2i']['percent_replaced']} %" in capsys.readouterr().out


def test_candidates_of_val_are_mined_among_val(searchable_run):
    main(settings(searchable_run, val_limit=3))
    val = {record.image_id for record in load_dataset(searchable_run.data).split("val")}
    for direction in Direction:
        path = searchable_run.run / "candidates" / "val" / f"{direction}.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        assert 0 < len(rows) <= 3
        if direction.items_are_images:
            assert all(set(row["candidates"]) <= val for row in rows)
        else:
            assert all(row["query"] in val for row in rows)


def test_the_verifiers_training_can_read_them(searchable_run):
    main(settings(searchable_run))
    run, dataset = RunFolder(searchable_run.run), load_dataset(searchable_run.data)
    items = {d: {item.item_id: item for item in read_items(run, dataset, d)} for d in Direction}
    assert len(read_candidates(run / "candidates", items)) == 18


def test_a_killed_job_goes_on_and_ends_the_same(searchable_run, tmp_path, monkeypatch):
    monkeypatch.setattr(semcore.retrieval.batch, "QUERIES_PER_CHUNK", 4)
    other = tmp_path / "whole"
    shutil.copytree(searchable_run.run, other)
    main(Settings(other, dtype="float32", device="cpu", num_beams=4, num_candidates=3))
    generate, calls = semcore.retrieval.batch.generate, []

    def dies_at_the_third(*arguments, **keywords):
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return generate(*arguments, **keywords)

    monkeypatch.setattr(semcore.retrieval.batch, "generate", dies_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        main(settings(searchable_run))
    assert not (searchable_run.run / "candidates" / "t2i.jsonl").exists()
    main(settings(searchable_run))
    for name in ("t2i.jsonl", "i2t.jsonl", "stats.json", "held_out.json"):
        whole = (other / "candidates" / name).read_bytes()
        assert (searchable_run.run / "candidates" / name).read_bytes() == whole


def test_a_second_run_only_tidies_up(searchable_run, capsys):
    main(settings(searchable_run, limit=2))
    (searchable_run.run / ".candidates").mkdir()  # as a kill right behind the end leaves it
    main(settings(searchable_run, limit=2))
    assert not (searchable_run.run / ".candidates").exists()
    assert "candidates: already mined" in capsys.readouterr().out
    assert len(read_rows(searchable_run, Direction.T2I)) == 2


def test_a_limit_draws_at_random_by_the_seed(searchable_run, tmp_path):
    chosen = []
    for number, seed in enumerate((0, 0, 1)):
        other = tmp_path / str(number)
        shutil.copytree(searchable_run.run, other)
        main(Settings(other, dtype="float32", device="cpu", num_beams=4, num_candidates=3, limit=4, seed=seed))
        rows = [json.loads(line) for line in (other / "candidates" / "t2i.jsonl").read_text().splitlines()]
        chosen.append({row["query_id"] for row in rows})
    held_out = json.loads((tmp_path / "0" / "candidates" / "held_out.json").read_text())["t2i"]
    assert [len(own) for own in chosen] == [4, 4, 4]
    assert chosen[0] == chosen[1] != chosen[2]
    assert all(own != set(sorted(held_out)[:4]) for own in chosen)


def test_nothing_was_held_out(searchable_run):
    manifest = json.loads((searchable_run.run / "manifest.json").read_text())
    manifest["stages"]["train_identifier"]["settings"]["held_out"] = {
        "sentences_per_image": 0, "image_fraction": 0.0, "seed": 0,
    }  # fmt: skip
    (searchable_run.run / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(
        UserError, match="nothing was held out from the training of .* --held-out.sentences-per-image 1"
    ):
        main(settings(searchable_run))


def test_no_model_yet(searchable_run):
    manifest = json.loads((searchable_run.run / "manifest.json").read_text())
    del manifest["stages"]["train_identifier"]
    (searchable_run.run / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="no identifier model yet.*`accelerate launch .*train_identifier.py --run "):
        main(settings(searchable_run))


@pytest.mark.parametrize(
    ("wrong", "found"),
    [({"num_candidates": 1}, "--num-candidates.* 2 to 10.* 1"), ({"num_images": 0}, "--num-images.* 1.* 0")],
)
def test_wrong_settings(finished_training, wrong, found):
    with pytest.raises(UserError, match=f"^{found}$"):
        settings(finished_training, **wrong)
