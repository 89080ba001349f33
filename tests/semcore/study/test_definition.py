"""STUDY.yaml: what it may say, what it may not, and every study of the repository."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from semcore.commands.study_options import check_options
from semcore.runtime.errors import UserError
from semcore.study.commands import WorkDir
from semcore.study.definition import flatten, read_study

STUDIES = sorted((Path(__file__).resolve().parents[3] / "recipes" / "studies").glob("*.yaml"))
SMALL: dict[str, Any] = {
    "title": "t",
    "base": "base.yaml",
    "settings": {"evaluate": {"num_beams": 20}},
    "variants": [
        {"name": "a"},
        {"name": "b", "label": "B", "train_identifier": {"training": {"num_epochs": 2}}, "paper": {"R@1": 3}},
    ],
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "base.yaml").write_text("identifiers: {num_clusters: 4}\nevaluate: {num_beams: 50, limit: 7}\n")
    return tmp_path / "study.yaml"


def write(path: Path, **changes: Any) -> Path:
    path.write_text(yaml.safe_dump({**SMALL, **changes}))
    return path


def test_the_repository_has_studies() -> None:
    assert {path.stem for path in STUDIES} >= {"ablations_scenes", "beams_scenes", "clusters_keywords_scenes"}


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_a_study_of_the_repository_is_read_and_its_header_names_its_command(path: Path) -> None:
    study = read_study(path)
    assert len(study.variants) > 1 and study.base.is_file()
    assert f"semcore study recipes/studies/{path.name} " in path.read_text(encoding="utf-8")


def test_the_commands_of_a_study_take_its_options(tmp_path: Path) -> None:
    for path in STUDIES:
        check_options(read_study(path), WorkDir(tmp_path))


def test_settings_of_a_variant_win_over_the_studys_and_those_over_the_base(path: Path) -> None:
    study = read_study(write(path, variants=[{"name": "a"}, {"name": "b", "evaluate": {"limit": 9}}]))
    assert study.resolve(study.variant("a"), "evaluate") == {"num_beams": 20, "limit": 7}
    assert study.resolve(study.variant("b"), "evaluate") == {"num_beams": 20, "limit": 9}
    assert study.reference == "a" and list(study.tables[0].variants) == ["a", "b"]


def test_nested_settings_become_dotted(path: Path) -> None:
    study = read_study(write(path))
    assert study.variant("b").overrides == {"train_identifier": {"training.num_epochs": 2}}
    assert flatten({"a": {"b": {"c": 1}, "d": [1, 2]}}) == {"a.b.c": 1, "a.d": [1, 2]}


def test_an_axis_reads_the_number_wherever_it_stands(path: Path) -> None:
    study = read_study(write(path, tables=[{"title": "t", "axis": "identifiers.num_clusters"}]))
    assert study.value_on_axis(study.variant("b"), "identifiers.num_clusters") == 4
    with pytest.raises(UserError, match="evaluate.shifts needs a number for variant a, found None"):
        read_study(write(path, tables=[{"title": "t", "axis": "evaluate.shifts"}]))


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"titel": "x"}, "titel"),
        ({"title": None}, "title"),
        ({"variants": []}, "variants"),
        ({"variants": [{"name": "a"}, {"name": "a"}]}, "a, a"),
        ({"variants": [{"name": "../a"}]}, r"\.\./a"),
        ({"variants": [{"name": "a", "evaluat": {}}]}, "did you mean evaluate"),
        ({"variants": [{"name": "a", "ranking": "best"}]}, "best"),
        ({"variants": [{"name": "a", "paper": {"R@2": 1}}]}, "R@2"),
        ({"variants": ["a"]}, "'a'"),
        ({"variants": {"name": "a"}}, "variants of .* needs a list"),
        ({"variants": [{"name": "a", "paper": {"R@1": "high"}}]}, "R@1 of variant 1 .* takes a number, found 'high'"),
        ({"scenes": {"train": "many"}}, "train of the scenes of .* takes a whole number from 0 on, found 'many'"),
        ({"scenes": {"train": -1}}, "whole number from 0 on, found -1"),
        ({"tables": 5}, "tables of .* needs a list .* found 5"),
        ({"reference": "c"}, "'c'"),
        ({"seeds": [0, -1]}, "-1"),
        ({"seeds": "0,1"}, "0,1"),
        ({"scenes": {"dev": 3}}, "dev"),
        ({"stages": ["caption"]}, "evaluate"),
        ({"stages": ["caption", "evaluate"]}, "train_identifier"),
        ({"tables": [{"variants": ["a"]}]}, "title"),
        ({"tables": [{"title": "t", "variants": ["z"]}]}, "'z'"),
        ({"base": "nowhere.yaml"}, "nowhere.yaml"),
    ],
)
def test_what_makes_no_sense_is_named(path: Path, changes: dict[str, Any], found: str) -> None:
    with pytest.raises(UserError, match=found):
        read_study(write(path, **changes))


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        ({"evaluate": {"num_beam": 3}}, "variant b, evaluate: .*num-beam"),
        ({"evaluate": {"num_beams": 0}}, "variant b, evaluate: .*num.beams.* found 0"),
        ({"identifiers": {"num_clusters": "many"}}, "variant b, identifiers: .*num-clusters.*many"),
        ({"train_identifier": {"training": {"batch_sise": 3}}}, "variant b, train_identifier: .*batch-sise"),
    ],
)
def test_an_option_that_no_command_takes_is_found_before_anything_runs(
    path: Path, tmp_path: Path, changed: dict[str, Any], found: str
) -> None:
    study = read_study(write(path, variants=[{"name": "a"}, {"name": "b", **changed}]))
    with pytest.raises(UserError, match=found):
        check_options(study, WorkDir(tmp_path))
