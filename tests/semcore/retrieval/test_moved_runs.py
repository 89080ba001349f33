"""Identity is content: a run, its dataset and its base may lie elsewhere, and every stage goes on."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from data_prep import candidates
from data_prep.make_scenes import Settings as Scenes
from data_prep.make_scenes import main as make_scenes
from semcore import Retriever
from semcore.commands.evaluate import EvaluateSettings
from semcore.commands.evaluate import main as evaluate
from semcore.data.run_folder import RunFolder
from semcore.runtime.errors import UserError
from semcore.runtime.files import read_json
from semcore.runtime.fingerprints import fingerprint
from semcore.runtime.moved_checkpoints import find_checkpoint
from semcore.runtime.packaged_files import asset_folder
from tests.recipes.conftest import new_run
from tests.recipes.test_training_recipes import QUICK, run_recipe

CPU: dict[str, Any] = {"dtype": "float32", "device": "cpu"}


@pytest.fixture(scope="module")
def left_behind(tiny_checkpoint_folder, tmp_path_factory) -> Path:
    """A folder with base, dataset and a run through all stages, renamed afterwards: no recorded path is there."""
    home = tmp_path_factory.mktemp("homes") / "home"
    make_scenes(Scenes(home / "data", train=4, val=1, test=2))
    shutil.copytree(tiny_checkpoint_folder, home / "base")
    run, content = RunFolder(new_run(home / "run", home / "data")), fingerprint(home / "base")
    (run / "captions.jsonl").touch()
    (run / "identifiers" / "report.json").write_text('{"protocol": "inductive"}')
    model, inputs = {"model": str(home / "base")}, {"the model": content}
    run.open_stage("caption", model, inputs, home / "data", {"model": content}).finish()
    go_through(home)
    return home.rename(home.with_name("left-behind"))


@pytest.fixture
def moved(left_behind, tmp_path) -> Path:
    """All of it at another place; a test may change it."""
    return Path(shutil.copytree(left_behind, tmp_path / "moved"))


def go_through(home: Path) -> None:
    """Type every stage, as one would in this folder."""
    where = ["--data", home / "data", "--run", home / "run", *QUICK, "--training.bf16", "no"]
    run_recipe("train_identifier", *where, "--model.base", home / "base", "--held-out.sentences-per-image", 1)
    options: dict[str, Any] = {"run": home / "run", "data": home / "data", "num_beams": 4, **CPU}
    candidates.main(candidates.Settings(**options, num_candidates=2))
    run_recipe("train_verifier", *where)
    evaluate(EvaluateSettings(**options, verifier="both", ablations=False, num_order_queries=0))


def test_all_that_was_moved_is_searchable(moved):
    for verifier in ("auto", "listwise", "likelihood"):
        retriever = Retriever.from_run(moved / "run", split="test", verifier=verifier, **CPU)
        hits = retriever.search(text="a red circle", top_k=2)
        assert len(hits) == 2
        assert all(hit.image_path.is_relative_to(moved) for hit in hits)
        assert retriever.mismatches == []


def test_all_that_was_moved_goes_on(moved, capsys):
    before = read_json(moved / "run" / "metrics.json")
    go_through(moved)
    output = capsys.readouterr().out
    for done in ("train_identifier: already trained", "already mined", "train_verifier: already trained", "measured"):
        assert done in output
    assert read_json(moved / "run" / "metrics.json") == before
    stages = read_json(moved / "run" / "manifest.json")["stages"]
    assert stages["train_identifier"]["settings"]["model"]["base"] == str(moved / "base")


def test_the_work_of_an_interrupted_evaluation_is_found_again(moved, monkeypatch):
    """Its key does not hang on places."""
    for name in ("t2i", "i2t", "metrics.json"):
        path = moved / "run" / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    keys = []

    def interrupt(_run, _stage, key):
        keys.append(key)
        raise KeyboardInterrupt

    monkeypatch.setattr("semcore.commands.measure_run.work_folder", interrupt)
    for place in (moved, moved.with_name("again")):
        if place != moved:
            moved.rename(place)
        options = {"run": place / "run", "data": place / "data", "verifier": "likelihood", "ablations": False}
        with pytest.raises(KeyboardInterrupt):
            evaluate(EvaluateSettings(**options, likelihood_model=str(place / "base"), num_beams=4, **CPU))
    assert keys[0] == keys[1]


def test_a_dataset_that_moved_alone_is_asked_for_by_its_flag(moved, tmp_path):
    data = shutil.move(moved / "data", tmp_path / "pictures")
    with pytest.raises(UserError, match="--data DATA$"):
        Retriever.from_run(moved / "run", **CPU)
    assert Retriever.from_run(moved / "run", data=data, **CPU).mismatches == []


def test_a_base_that_moved_alone_is_asked_for_by_its_flag(moved, tmp_path):
    base = shutil.move(moved / "base", tmp_path / "elsewhere")
    with pytest.raises(UserError, match="--base FOLDER$"):
        Retriever.from_run(moved / "run", verifier="likelihood", **CPU)
    assert Retriever.from_run(moved / "run", verifier="likelihood", base=base, **CPU).mismatches == []
    training = ["--run", moved / "run", *QUICK, "--training.bf16", "no"]
    with pytest.raises(UserError, match="--base FOLDER$"):
        run_recipe("train_verifier", *training)
    run_recipe("train_verifier", *training, "--base", base)


def test_another_checkpoint_in_its_place_is_not_taken_for_it(moved, tmp_path):
    content = fingerprint(moved / "base")
    shutil.copytree(moved / "base", tmp_path / "elsewhere")
    (moved / "base" / "generation_config.json").write_text('{"changed": true}')
    with pytest.raises(UserError, match=rf"{content[:12]}.*--base FOLDER.*--allow-mismatch captioner"):
        Retriever.from_run(moved / "run", verifier="likelihood", **CPU)
    found = Retriever.from_run(moved / "run", verifier="likelihood", base=tmp_path / "elsewhere", **CPU)
    assert found.mismatches == []


def test_the_checkpoint_that_comes_with_the_package_is_known_by_its_content():
    """A quickstart's base lies in the checkout: moved with it, it is found in the one that runs."""
    ours, gone = asset_folder("scenes_base"), "/gone/semcore/assets/scenes_base"
    assert find_checkpoint(gone, fingerprint(ours), missing="no") == str(ours)
    for content in ("0" * 64, None):
        with pytest.raises(UserError, match="^nowhere$"):
            find_checkpoint(gone, content, missing="nowhere")
