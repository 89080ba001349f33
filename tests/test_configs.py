"""Every configuration of the tree is read, one test a file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from semcore.data.stages import STAGE_OUTPUTS
from semcore.runtime.config_file import SECTIONS

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = sorted((ROOT / "recipes" / "configs").glob("**/*.yaml"))
LAUNCHERS = sorted((ROOT / "ds_configs").glob("*.yaml"))
DEEPSPEED = sorted((ROOT / "ds_configs").glob("*.json"))


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_there_are_configurations() -> None:
    assert "recipes/configs/scenes.yaml" in map(name_of, CONFIGS)
    assert {f"ds_configs/cpu_{stage}.yaml" for stage in ("zero1", "zero2", "zero3", "zero3_offload")} <= set(
        map(name_of, LAUNCHERS)
    )
    assert DEEPSPEED


def test_every_stage_has_its_section() -> None:
    """A run's own config.yaml holds one for each, and is read like any other file."""
    assert set(SECTIONS) == set(STAGE_OUTPUTS)


@pytest.mark.parametrize("path", CONFIGS, ids=name_of)
def test_a_config_has_known_sections(path: Path) -> None:
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert document
    assert set(document) <= set(SECTIONS)


@pytest.mark.parametrize("path", LAUNCHERS, ids=name_of)
def test_a_launcher_names_a_deepspeed_file_that_exists(path: Path) -> None:
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert document["distributed_type"] == "DEEPSPEED"
    assert (ROOT / document["deepspeed_config"]["deepspeed_config_file"]).is_file()


@pytest.mark.parametrize("path", DEEPSPEED, ids=name_of)
def test_a_deepspeed_file_leaves_the_batch_size_to_the_trainer(path: Path) -> None:
    """A fixed batch size would hide that each process believes it is alone."""
    document = json.loads(path.read_text(encoding="utf-8"))
    assert document["train_batch_size"] == "auto"
    assert document["zero_optimization"]["stage"] in (1, 2, 3)
