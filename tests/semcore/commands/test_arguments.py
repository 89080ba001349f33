from __future__ import annotations

import errno
import subprocess
import sys
from argparse import ArgumentError
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from semcore.commands.arguments import parse, resolved, run_command
from semcore.runtime.errors import UserError


@dataclass
class Training:
    """How to train."""

    max_steps: int = 100
    """Steps of the optimiser."""
    learning_rate: float = 1e-3

    def __post_init__(self) -> None:
        if self.max_steps < 1:
            raise UserError(f"--training.max_steps takes a whole number of at least 1, found {self.max_steps}")


@dataclass
class Settings:
    """What to do."""

    data: Path
    """The dataset folder."""
    run: Path | None = None
    config: Path | None = None
    check: bool = False
    direction: Literal["t2i", "i2t"] = "t2i"
    num_beams: int = 20
    """Beams of the search."""
    cut_offs: tuple[int, ...] = (1, 5)
    points: list[tuple[int, int]] = field(default_factory=list)
    training: Training = field(default_factory=Training)


CONFIG = """
identifiers:
  num_clusters: 3
train_identifier:
  num_beams: 7
  training:
    max_steps: 9
    learning_rate: 1e-4
"""


def write_config(folder: Path, text: str) -> Path:
    path = folder / "config.yaml"
    path.write_text(text)
    return path


def test_hyphens_and_underscores_are_the_same() -> None:
    expected = parse(Settings, ["--data", "d", "--num_beams", "4"])
    assert parse(Settings, ["--data=d", "--num-beams=4"]) == expected
    assert expected.num_beams == 4
    assert expected.data == Path("d")


def test_a_bare_switch_means_true_and_takes_no_argument() -> None:
    assert parse(Settings, ["--check", "d"], positional=["data"]) == Settings(Path("d"), check=True)
    assert parse(Settings, ["--check", "false", "d"], positional=["data"]).check is False


def test_flags_override_the_section_and_the_section_the_defaults(tmp_path: Path) -> None:
    config = write_config(tmp_path, CONFIG)
    arguments = ["--data", "d", "--config", str(config), "--training.max-steps", "5"]
    settings = parse(Settings, arguments, "train_identifier")
    assert settings.num_beams == 7
    assert settings.training == Training(max_steps=5, learning_rate=1e-4)
    assert settings.direction == "t2i"


def test_a_section_the_file_lacks_leaves_the_defaults(tmp_path: Path) -> None:
    config = write_config(tmp_path, "identifiers:\n  num_clusters: 3\n")
    assert parse(Settings, ["--data", "d", "--config", str(config)], "evaluate").num_beams == 20


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "--data is missing; see --help"),
        (["--data"], "--data needs a value: a path"),
        (["--data", "--check"], "--data needs a value: a path"),
        (["--data", "d", "--num-beans", "4"], "unknown option --num-beans; did you mean --num-beams?"),
        (["--data", "d", "--training.steps=4"], "unknown option --training.steps; did you mean --training.max-steps?"),
        (["--data", "d", "extra"], "unexpected argument 'extra'; options are written --name value, see --help"),
        (["--data", "d", "--num_beams", "2.5"], "--num-beams takes a whole number, found '2.5'"),
        (["--data", "d", "--num_beams", "many"], "--num-beams takes a whole number, found 'many'"),
        (["--data", "d", "--direction", "t2v"], "--direction takes one of t2i, i2t, found 't2v'"),
        (["--data", "d", "--check=maybe"], "--check takes true or false, found 'maybe'"),
        (["--data", "d", "--check", "maybe"], "--check takes true or false, found 'maybe'"),
        (["--data", "d", "--points", "2x4"], "--points takes a list such as [[1, 2], [3, 4]], found '2x4'"),
        (["--data", "d", "--cut_offs", "7"], "--cut-offs takes a list such as [1, 2], found '7'"),
        (["--data", "d", "--training.learning_rate", "x"], "--training.learning-rate takes a number, found 'x'"),
        (["--data", "d", "--training.max_steps=0"], "--training.max_steps takes a whole number of at least 1, found 0"),
    ],
)  # fmt: skip
def test_a_wrong_flag_is_one_sentence(arguments: list[str], sentence: str) -> None:
    with pytest.raises(UserError) as error:
        parse(Settings, arguments)
    assert str(error.value) == sentence


@dataclass
class Model:
    base: str
    layers: int = 2


@dataclass
class Learning:
    data: Path
    model: Model
    training: Training = field(default_factory=lambda: Training(max_steps=7))


def test_sections_need_what_has_no_default_and_keep_the_defaults_they_stand_with() -> None:
    with pytest.raises(UserError, match=r"^--data and --model\.base are missing; see --help$"):
        parse(Learning, [])
    assert parse(Learning, ["--data", "d", "--model.base", "b"]) == Learning(Path("d"), Model("b"), Training(7))


def test_what_is_wrong_is_found_without_the_words_of_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(parser: Any, *_: Any, **__: Any) -> None:
        raise ArgumentError(None, "in other words")

    monkeypatch.setattr("semcore.commands.arguments.ArgumentParser.error", refuse)
    for arguments, place in (
        (["--num_beams", "2.5"], "--num-beams"),
        (["--direction=t2v"], "--direction"),
        ([], "--data"),
    ):
        with pytest.raises(UserError, match=f"^{place} (takes|is missing)"):
            parse(Settings, arguments)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("evaluate:\n  num_beams: [2\nx: 3\n", "{path}, line 3: not valid YAML (expected ',' or ']', but got ':')"),
        ("- 1\n- 2\n", "{path} has no sections; it needs lines such as 'evaluate:' with settings below them"),
        ("evalute:\n  num_beams: 2\n", "unknown section 'evalute' in {path}; did you mean evaluate?"),
        ("evaluate: 3\n", "evaluate in {path} is 3; it needs lines such as 'key: value' below it"),
        ("evaluate:\n  num_beans: 2\n", "unknown key 'num_beans' in evaluate of {path}; did you mean num_beams?"),
        (
            "evaluate:\n  training:\n    max_step: 2\n",
            "unknown key 'training.max_step' in evaluate.training of {path}; did you mean training.max_steps?",
        ),
        (
            "evaluate:\n  training:\n    rows_a_device: 2\n",
            "unknown key 'training.rows_a_device' in evaluate.training of {path}; "
            "there are training.max_steps, training.learning_rate",
        ),
        (
            "evaluate:\n  max_steps: 2\n",
            "unknown key 'max_steps' in evaluate of {path}; did you mean training.max_steps?",
        ),
        ("evaluate:\n  num_beams: 2.5\n", "evaluate.num_beams in {path} takes a whole number, found 2.5"),
        ("evaluate:\n  direction: t2v\n", "evaluate.direction in {path} takes one of t2i, i2t, found 't2v'"),
        (
            "evaluate:\n  direction: null\n",
            "evaluate.direction in {path} takes one of t2i, i2t, found null; leave the line out for the default",
        ),
        ("evaluate:\n  data: d\n", "'data' in evaluate of {path} belongs on the command line, as --data"),
    ],
)  # fmt: skip
def test_a_wrong_config_is_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    config = write_config(tmp_path, text)
    with pytest.raises(UserError) as error:
        parse(Settings, ["--data", "d", "--config", str(config)], "evaluate")
    assert str(error.value) == sentence.format(path=config)


def test_a_missing_config_is_named() -> None:
    with pytest.raises(UserError, match=r"^there is no config file nowhere\.yaml$"):
        parse(Settings, ["--data", "d", "--config", "nowhere.yaml"], "evaluate")


def test_yaml_constructs_no_objects(tmp_path: Path) -> None:
    config = write_config(tmp_path, "evaluate: !!python/object/apply:os.system ['true']\n")
    with pytest.raises(UserError, match=r"config\.yaml, line 1: not valid YAML"):
        parse(Settings, ["--data", "d", "--config", str(config)], "evaluate")


def test_resolved_is_plain_and_says_nothing_of_places() -> None:
    settings = Settings(Path("d"), run=Path("r"), check=True)
    assert resolved(settings) == {
        "direction": "t2i",
        "num_beams": 20,
        "cut_offs": [1, 5],
        "points": [],
        "training": {"max_steps": 100, "learning_rate": 1e-3},
    }


def test_user_errors_end_with_status_2_on_rank_0_only(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Any) -> None:
        raise UserError("there is no such thing; look elsewhere")

    for rank, printed in (("0", "error: there is no such thing; look elsewhere\n"), ("1", "")):
        monkeypatch.setenv("RANK", rank)
        with pytest.raises(SystemExit) as leaving:
            run_command(refuse, Settings, arguments=["--data", "d"])
        assert leaving.value.code == 2
        assert capsys.readouterr().err == printed


def test_a_command_that_was_started_and_failed_is_named_in_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    def start(_: Any) -> None:
        subprocess.run([sys.executable, "-c", "raise SystemExit(3)"], check=True)

    with pytest.raises(SystemExit) as leaving:
        run_command(start, Settings, arguments=["--data", "d"])
    assert leaving.value.code == 2
    assert capsys.readouterr().err.endswith("-c 'raise SystemExit(3)'` has failed; what it said stands above\n")


def test_a_name_that_no_file_can_have_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        run_command(lambda settings: settings.data.touch(), Settings, arguments=["--data", "d" * 5_000])
    assert left.value.code == 2
    told = capsys.readouterr().err
    assert told.startswith("error: no file can have a name as long as ddd") and told.endswith("ddd; give another\n")
    assert len(told) < 2_100


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("I/O error: No space left on device (os error 28)"),
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 9595264 vs 9595152"),
        RuntimeError("PytorchStreamWriter failed writing file data/7: file write failed"),
    ],
)
@pytest.mark.parametrize("rank", ["0", "1"])
def test_a_full_disk_is_a_sentence_whoever_met_it(
    error: Exception, rank: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", rank)

    def fill(_: Any) -> None:
        raise error

    with pytest.raises(SystemExit) as leaving:
        run_command(fill, Settings, arguments=["--data", "d"])
    assert leaving.value.code == 2
    assert capsys.readouterr().err == "error: no space left on the disk: free some and run the same command again\n"


def test_a_bug_keeps_its_traceback() -> None:
    def fail(_: Any) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_command(fail, Settings, arguments=["--data", "d"])


def test_help_shows_the_docstrings_and_only_options_that_exist(tmp_path: Path) -> None:
    script = tmp_path / "tool.py"
    script.write_text(
        '"""Do one thing."""\n'
        "from dataclasses import dataclass, field\n"
        "from semcore.commands.arguments import run_command\n"
        "@dataclass\nclass Training:\n    steps: int = 3\n    'How long.'\n"
        "@dataclass\nclass Settings:\n    beams: int = 2\n    'How wide.'\n"
        "    training: Training = field(default_factory=Training)\n"
        "run_command(print, Settings)\n"
    )
    environment = {"PYTHONPATH": str(Path(__file__).resolve().parents[3]), "PATH": ""}
    done = subprocess.run(
        [sys.executable, script, "--help"], capture_output=True, text=True, check=True, env=environment
    )
    assert "Do one thing." in done.stdout
    assert "How wide. (default: 2)" in done.stdout
    assert "--training.steps" in done.stdout
    assert "--training CONFIG" not in done.stdout
