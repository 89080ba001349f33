"""The configurations of the paper's rows, read by the commands that run them."""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import yaml

from semcore.commands.arguments import parse, resolved
from semcore.commands.plan import read_training
from semcore.runtime.config_file import FLAGS_ONLY, SECTIONS
from semcore.study.definition import read_study
from semcore.training.memory_plan.sections import ELSEWHERE, IdentifierTraining, RankingTraining, VerifierTraining

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
SYSTEMS = ("avg", "comgtir", "cart")
NEIGHBOURS = [RECIPES / "configs" / f"flickr30k_{name}_internvl2_5-1b_full.yaml" for name in SYSTEMS]
CONFIGS = sorted({*(RECIPES / "configs").glob("*_internvl*.yaml")} - {*NEIGHBOURS})
PAPER = (RECIPES.parent / "docs" / "paper_rows.md").read_text(encoding="utf-8")
MAIN = RECIPES / "configs" / "flickr30k_internvl2_5-1b_full.yaml"
MODULES = {
    "caption": "data_prep.caption", "identifiers": "data_prep.identifiers", "candidates": "data_prep.candidates",
    "evaluate": "semcore.commands.evaluate",
}  # fmt: skip
BEAMS, CLUSTERS, KEYWORDS = "evaluate.num_beams", "identifiers.num_clusters", "identifiers.num_keywords"
PARTS = ("identifiers.deduplicate", "identifiers.scheme", "identifiers.global_id", "evaluate.constraint")
PROJECTORS = ("train_identifier.model.freeze_projector", "train_verifier.model.freeze_projector")


@cache
def settings_of(section: str) -> Any:
    """Return the dataclass that a stage's command fills."""
    if section in MODULES:
        module = importlib.import_module(MODULES[section])
        return module.EvaluateSettings if section == "evaluate" else module.Settings
    spec = importlib.util.spec_from_file_location(f"paper_{section}", RECIPES / f"{section}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module.Settings


@cache
def read(path: Path) -> dict[str, Any]:
    """Return every setting of every stage, "stage.setting" -> value, as its command reads the file."""
    arguments = ["--config", str(path), "--data", "DATA", "--run", "RUN"]
    sections = [section for section in SECTIONS if section != "train_verifier_blocks"]  # a run's own record alone
    found = {section: resolved(parse(settings_of(section), arguments, section)) for section in sections}
    return flat(found)


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    leaves: dict[str, Any] = {}
    for name, value in values.items():
        leaves |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return leaves


def defaults(settings: Any, prefix: str = "") -> dict[str, Any]:
    """Return the default of every setting that has one."""
    hints = get_type_hints(settings)
    found: dict[str, Any] = {}
    for field in fields(settings):
        if is_dataclass(hints[field.name]):
            found |= defaults(hints[field.name], f"{prefix}{field.name}.")
        else:
            found[prefix + field.name] = field.default_factory() if callable(field.default_factory) else field.default
    return found


def test_there_is_a_file_for_every_row_that_has_one() -> None:
    names = {path.stem.partition("_internvl2_5-")[2] for path in CONFIGS if path.stem.startswith("flickr30k")}
    backbones = {"1b_full", "2b_full", "4b_lora", "8b_lora"}
    beams = {f"1b_full_beams{width}" for width in (10, 20, 30, 40)}
    points = {f"1b_full_clusters{c}_keywords{k}" for c in (64, 128, 256) for k in (2, 4, 6)}
    parts = {f"1b_full_without_{part}" for part in ("verification", "sid", "global_id", "deduplication", "constraint")}
    assert names == backbones | beams | parts | points - {"1b_full_clusters128_keywords4"}
    assert [path.stem for path in CONFIGS if path.stem.startswith("coco")] == ["coco_internvl2_5-1b_full"]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_commands_read_what_the_name_says(path: Path) -> None:
    settings, name = read(path), path.stem
    size, how = re.findall(r"internvl2_5-(\d)b_(full|lora)", name)[0]
    assert settings["train_identifier.model.base"] == settings["caption.model"] == f"InternVL2_5-{size}B-native"
    assert settings["train_verifier.model.start"] == "base" and settings["train_verifier.model.base"] is None
    for stage in ("train_identifier", "train_verifier") if "train_verifier" in path.read_text() else ():
        assert settings[f"{stage}.lora.rank"] == (16 if how == "lora" else 0)
        assert settings[f"{stage}.model.freeze_projector"] == (how == "lora")
        assert settings[f"{stage}.training.num_epochs"] == 5
        assert settings[f"{stage}.training.batch_size"] == 2 * settings[f"{stage}.training.micro_batch_size"] == 8
        assert settings[f"{stage}.training.weight_decay"] == (0.05 if size == "8" else 0.01)
    assert settings[BEAMS] == int((re.findall(r"_beams(\d+)", name) or ["50"])[0])
    assert settings[CLUSTERS] == int((re.findall(r"_clusters(\d+)", name) or ["128"])[0])
    assert settings[KEYWORDS] == int((re.findall(r"_keywords(\d+)", name) or ["4"])[0])
    assert settings["identifiers.deduplicate"] == ("_without_deduplication" not in name)
    assert settings["identifiers.scheme"] == ("numeric" if "_without_sid" in name else "structured")
    assert settings["identifiers.keyword_choice"] == settings["identifiers.keyword_order"] == "similarity"
    assert settings["identifiers.global_id"] == ("_without_global_id" not in name)
    assert settings["evaluate.constraint"] == ("_without_constraint" not in name)
    assert settings["evaluate.verifier"] == ("none" if "_without_verification" in name else "listwise")
    assert settings["evaluate.ablations"]
    assert settings["evaluate.prior_weight"] == settings["train_identifier.training.null_queries"] == 0


@pytest.mark.parametrize("dataset", ["scenes", "flickr30k"])
@pytest.mark.parametrize("system", SYSTEMS)
def test_the_commands_read_the_neighbours_settings(system: str, dataset: str) -> None:
    name = f"scenes_{system}" if dataset == "scenes" else f"flickr30k_{system}_internvl2_5-1b_full"
    arguments = ["--config", str(RECIPES / "configs" / f"{name}.yaml"), "--data", "DATA", "--run", "RUN"]
    sections = ("identifiers", "train_identifier", "train_ranking", "evaluate")
    settings = flat({own: resolved(parse(settings_of(own), arguments, own)) for own in sections})
    assert settings["identifiers.scheme"] == ("coarse-fine" if system == "cart" else "vokens")
    assert settings["train_identifier.losses.rdrop"] == (0.15 if system == "cart" else 0)
    assert settings["train_identifier.losses.set_weight"] == (0.5 if system == "comgtir" else 0)
    assert settings["evaluate.guide.kind"] == ("set" if system == "comgtir" else "none")
    assert settings["train_ranking.ranking.loss"] == "contrastive"
    if dataset == "flickr30k":
        codes = ("num_codes", "num_levels", "shared", "align")
        book = [128, 2, False, 0.0] if system == "cart" else [1024, 4, True, 1.0]
        assert [settings[f"identifiers.quantizer.{own}"] for own in codes] == book
        assert settings["train_identifier.model.base"] == "InternVL2_5-1B-native"


def test_the_study_of_systems_has_the_settings_of_their_configurations() -> None:
    study = read_study(RECIPES / "studies" / "systems.yaml")
    for path, name in zip(NEIGHBOURS, SYSTEMS, strict=True):
        variant, content = study.variant(name), yaml.safe_load(path.read_text(encoding="utf-8"))
        for stage in study.stages_of(variant):
            known, wanted = defaults(settings_of(stage)), flat(content.get(stage, {}))
            found = study.resolve(variant, stage)
            assert {key: found.get(key, known[key]) for key in wanted} == wanted, f"{name}, {stage}"


def test_settings_of_the_paper_that_are_defaults() -> None:
    settings = read(MAIN)
    assert settings["identifiers.num_cluster_words"] == 5  # paper, A.1
    assert settings["candidates.num_candidates"] == settings["evaluate.num_candidates"] == 10  # paper, A.1


@pytest.mark.parametrize("path", [p for p in CONFIGS if p.stem.startswith(MAIN.stem)], ids=lambda path: path.stem)
def test_a_variant_differs_in_what_it_is_named_for_only(path: Path) -> None:
    one, other = read(path), read(MAIN)
    differing = {key for key in one if one[key] != other[key]}
    if "_without_verification" in path.stem:
        untrained = {key for key in one if key.startswith(("candidates.", "train_verifier."))}
        assert differing - untrained == {"evaluate.verifier"}
    else:
        assert differing <= {BEAMS, CLUSTERS, KEYWORDS, *PARTS}
        assert bool(differing) == (path != MAIN)


@pytest.mark.parametrize("path", [*CONFIGS, *NEIGHBOURS], ids=lambda path: path.stem)
def test_a_file_holds_only_what_differs_from_the_defaults(path: Path) -> None:
    for section, values in yaml.safe_load(path.read_text(encoding="utf-8")).items():
        known = defaults(settings_of(section))
        for key, value in flat(values).items():
            assert known[key] != value, f"{section}.{key} is {value} anyway"


@pytest.mark.parametrize(
    ("section", "ours"),
    [
        ("train_identifier", IdentifierTraining),
        ("train_ranking", RankingTraining),
        ("train_verifier", VerifierTraining),
    ],
)
def test_plan_reads_the_trainings_as_their_recipes_do(section: str, ours: Any) -> None:
    flags_only = {*FLAGS_ONLY} - {"config"}
    recipe = {key: value for key, value in defaults(settings_of(section)).items() if key not in {"run", *flags_only}}
    planned = defaults(ours)
    assert planned.keys() == recipe.keys()
    assert {key for key in planned if planned[key] != recipe[key]} <= {"model.base"}  # the recipe demands one


def test_plan_knows_the_defaults_of_other_stages() -> None:
    for section, values in ELSEWHERE.items():
        known = defaults(settings_of(section))
        assert values == {key: known[key] for key in values}


@pytest.mark.parametrize("path", [*CONFIGS, *NEIGHBOURS], ids=lambda path: path.stem)
def test_a_file_is_planned_with_its_own_command(path: Path) -> None:
    assert f"#   semcore plan --config recipes/configs/{path.name} --gpus 2 --gpu-memory 48\n" in path.read_text()
    assert str(read_training(IdentifierTraining, "train_identifier", path).model.base).endswith("-native")


def test_the_table_has_every_file_once_with_its_scores() -> None:
    lines = [line for line in PAPER.splitlines() if line.startswith("| ") and "](../recipes/configs/" in line]
    linked = [re.findall(r"\]\(../recipes/configs/(.*?)\)", line)[0] for line in lines]
    assert sorted(linked) == sorted(path.name for path in (*CONFIGS, *NEIGHBOURS))
    for line, name in zip(lines, linked, strict=True):
        told = re.findall(r"R@1 (\d+\.\d), R@5 (\d+\.\d)", (RECIPES / "configs" / name).read_text())
        assert [f"| {a}, {b}" in line for a, b in told] == [True] * len(told)
        assert line.count("not run") == 5
