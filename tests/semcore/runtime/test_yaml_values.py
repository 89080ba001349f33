"""YAML 1.2 values: `no` is a word, 1e-3 a number, text is kept as typed; and no objects."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml

from recipes.train_identifier import Settings as TrainSettings
from semcore.commands.arguments import parse
from semcore.data.run_folder import RunFolder
from semcore.runtime.config_file import read_yaml
from semcore.runtime.errors import UserError
from semcore.runtime.yaml_values import meant, parse_yaml

CASES = Path(__file__).parents[4] / "shared" / "cases" / "11_yaml"


@dataclass
class Inner:
    bf16: Literal["auto", "yes", "no"] = "auto"
    rate: float = 0.5
    steps: int = 1


@dataclass
class Settings:
    config: Path | None = None
    name: str = ""
    place: Path | None = None
    flag: bool = False
    maybe: int | None = 3
    names: list[str] | None = None
    pair: tuple[int, int] = (1, 1)
    training: Inner = field(default_factory=Inner)


def read(folder: Path, text: str) -> Any:
    path = folder / "config.yaml"
    path.write_bytes(text.encode("utf-8"))
    return parse(Settings, ["--config", str(path)], "evaluate")


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("training: {bf16: no}", "no"), ("training: {bf16: yes}", "yes"), ("training: {bf16: 'no'}", "no"),
        ("training: {rate: 1e-3}", 1e-3), ("training: {rate: 2E5}", 2e5), ("training: {rate: 1.e-3}", 1e-3),
        ("training: {rate: .5}", 0.5), ("training: {rate: 3}", 3), ("training: {rate: 1_000.5}", 1000.5),
        ("training: {steps: 010}", 10), ("training: {steps: 1e3}", 1000), ("training: {steps: 1_000}", 1000),
        ("flag: yes", True), ("flag: on", True), ("flag: Off", False), ("flag: no", False), ("flag: TRUE", True),
        ("name: 12:30", "12:30"), ("name: 010", "010"), ("name: 2024-01-01", "2024-01-01"), ("name: no", "no"),
        ("name: 1e3", "1e3"), ("name: 0x10", "0x10"), ("name: true", "true"), ("name: 3", "3"), ("name: =", "="),
        ("name: !!str 07", "07"), ("place: 2024-01-01", Path("2024-01-01")), ("place: ~", None), ("maybe: null", None),
        ("maybe:", None), ("names: [no, 010, on]", ["no", "010", "on"]), ("names: null", None),
        ("pair: [2, 03]", (2, 3)),
        ("\ufeffflag: true", True),
    ],
)  # fmt: skip
def test_words_mean_what_they_look_like(tmp_path: Path, written: str, value: Any) -> None:
    mark = "\ufeff" if written.startswith("\ufeff") else ""
    settings = read(tmp_path, f"{mark}evaluate:\n  {written.removeprefix(mark)}\n")
    section, _, rest = written.removeprefix(mark).partition(":")
    owner, key = (
        (settings.training, rest.strip(" {").partition(":")[0]) if section == "training" else (settings, section)
    )
    assert getattr(owner, key) == value
    assert type(getattr(owner, key)) in (type(value), float)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("evaluate:\n\tflag: true\n", ["line 2", "spaces"]),
        ("evaluate:\n  flag: true\n  name: x\n  flag: false\n", ["line 4", "'flag'", "twice"]),
        ("evaluate: {}\nidentifiers: {}\nevaluate: {}\n", ["line 3", "'evaluate'", "twice"]),
        ("evaluate: {training: {rate: 1, rate: 2}}\n", ["'rate'", "twice"]),
        ("evaluate: &a [*a]\n", ["line 1"]),
        ("evaluate: {? [a] : 1}\n", ["key"]),
        ("evaluate: {name: !!python/name:os.system x}\n", ["line 1", "python/name"]),
        (f"evaluate: {'[' * 3000}", ["deep"]),
        ("a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
            f"{new}: &{new} [{','.join([f'*{old}'] * 10)}]\n" for old, new in zip("abcde", "bcdef", strict=True)
        ), ["aliases"]),
        ("evaluate:\n  flag: maybe\n", ["evaluate.flag", "true or false", "maybe"]),
        ("evaluate:\n  training: {steps: x3}\n", ["training.steps", "whole number", "x3"]),
        ("---\na: 1\n---\nb: 1\n", ["line 3"]),
        ("evaluate:\n  name: \x00\n", ["not valid YAML"]),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_one_sentence(tmp_path: Path, text: str, found: list[str]) -> None:
    with pytest.raises(UserError) as error:
        read(tmp_path, text)
    assert "\n" not in str(error.value)
    assert [word for word in found if word not in str(error.value)] == []


def test_a_mapping_is_merged_and_own_keys_win(tmp_path: Path) -> None:
    settings = read(tmp_path, "evaluate:\n  training:\n    <<: {steps: 7, rate: 1e-2}\n    steps: 8\n")
    assert (settings.training.steps, settings.training.rate) == (8, 1e-2)


def test_a_recorded_config_reads_back_in_either_version_of_yaml(tmp_path: Path) -> None:
    settings = {"a": "1e-3", "b": "no", "c": "12:30", "d": "010", "e": 1e-5, "f": True, "g": None, "h": [1, "2E5"]}
    run = RunFolder(tmp_path)
    run.set_config("caption", settings)
    run.set_config("evaluate", {"x": "on"})
    assert read_yaml(run / "config.yaml")["caption"] == settings
    assert yaml.safe_load((run / "config.yaml").read_text())["caption"] == settings


@pytest.mark.skipif(not CASES.is_dir(), reason=f"the cases are missing: {CASES}")
@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("bf16_no", "bf16", "no"),
        ("bf16_yes", "bf16", "yes"),
        ("exponent", "learning_rate", 1e-4),
        ("bom", "max_steps", 4),
    ],
)
def test_the_cases_are_read(name: str, key: str, value: Any) -> None:
    arguments = ["--config", str(CASES / f"{name}.yaml"), "--model.base", "b", "--run", "r"]
    assert getattr(parse(TrainSettings, arguments, "train_identifier").training, key) == value


@pytest.mark.skipif(not CASES.is_dir(), reason=f"the cases are missing: {CASES}")
def test_the_case_of_tabs_is_one_sentence() -> None:
    with pytest.raises(UserError, match=r"tabs\.yaml, line 2: .* spaces"):
        parse(TrainSettings, ["--config", str(CASES / "tabs.yaml"), "--run", "r"], "train_identifier")


def test_aliases_of_a_long_text_and_long_files_are_refused() -> None:
    text = "a: &a " + "x" * 100_000 + "\nb: &b [" + ", ".join(["*a"] * 60) + "]\nc: [*b, *b]"
    with pytest.raises(yaml.YAMLError, match="aliases stand for too much"):
        parse_yaml(text)
    with pytest.raises(yaml.YAMLError, match="it has 300,000 letters, and settings take no more than 200,000"):
        parse_yaml("x" * 300_000)


def test_a_number_of_too_many_digits_stays_text() -> None:
    assert meant(parse_yaml("a: " + "9" * 5_000)) == {"a": "9" * 5_000}
    assert meant(parse_yaml("a: 0x" + "f" * 5_000)) == {"a": "0x" + "f" * 5_000}
