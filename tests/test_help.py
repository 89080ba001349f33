"""The help text of every command: complete, in the user's words, with examples that parse."""

from __future__ import annotations

import re
import shlex

import pytest

from semcore.commands import cli
from semcore.commands.help_text import metavar_of
from tests.command_lines import COMMANDS, help_of, settings_of

LONGEST_SECTION = 12
JARGON = ["<class", "| null", "null", "type:", "Literal", "Settings(", "PATH", "None", "True", "False", "+ ["]


@pytest.fixture(params=COMMANDS)
def command(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def text(command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    monkeypatch.setenv("COLUMNS", "200")
    return help_of(command, monkeypatch, capsys)


def sections_in(text: str) -> dict[str, str]:
    """Return title -> lines below it, of a help text."""
    parts = re.split(r"^([a-z-]+(?: [a-z]+)?):\n", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def options_in(text: str) -> list[str]:
    """Return the lines that begin an option."""
    return [line.strip() for line in text.splitlines() if re.match(r"  (--|-h|[A-Z]+ )", line)]


def examples_in(text: str) -> list[str]:
    """Return the command lines below the title of the examples."""
    lines = text.partition("\nexamples:\n")[2].replace("\\\n", " ").splitlines()
    return [line.strip() for line in lines if line.startswith("    ")]


def test_every_command_is_looked_at() -> None:
    assert {"semcore search", "python -m data_prep.caption", "python recipes/train_verifier.py"} <= set(COMMANDS)
    assert len(COMMANDS) > 30


def test_the_top_says_what_has_to_be_given_and_what_is_done(command: str, text: str) -> None:
    usage, empty, what = text.splitlines()[:3]
    assert usage.startswith(f"usage: {command}")
    assert not empty
    assert what.endswith((".", ":")) and len(what) <= 120 and not what.startswith(("`", "What "))
    for line in options_in(text):
        if "(required)" in line:
            assert line.split("  ")[0] in usage


def test_options_are_in_the_words_of_a_user(text: str) -> None:
    below = "\n".join(lines for title, lines in sections_in(text).items() if title != "examples")
    below = below.replace("null queries", "").replace("null-queries", "")  # prompts without a query: the field's word
    assert not [word for word in JARGON if word in below]
    assert not re.findall(r"--[a-z.-]*_\w*", below)


def test_every_option_has_a_text_and_no_section_is_long(text: str) -> None:
    sections = sections_in(text)
    assert len(options_in(sections["help"])) == 1
    for title, lines in sections.items():
        assert len(options_in(lines)) <= LONGEST_SECTION, title
    assert all(re.match(r"\S+( [^ ]+)?  +\S|\S+( [^ ]+)?$", line) for line in options_in(text))
    invoked = re.findall(r"^  (--\S+)(?: \S+)?(?:  +|\n {10,})(\S)", text, flags=re.MULTILINE)
    assert len(invoked) == len([line for line in options_in(text) if line.startswith("--")])


def test_examples_stand_at_the_end_and_parse(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    examples = examples_in(text)
    assert examples
    for example in examples:
        assert settings_of(shlex.split(example), monkeypatch)
        assert not re.search(r"--[a-z.-]*_", example.replace("--config_file", "").replace("--num_processes", ""))


def test_the_command_itself_has_examples_that_parse(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["semcore", "--help"])
    cli.main()
    examples = examples_in(capsys.readouterr().out)
    assert examples
    for example in examples:
        settings_of(shlex.split(example), monkeypatch)


@pytest.mark.parametrize(
    ("key", "hint", "metavar"),
    [
        ("run", "Path", "FOLDER"), ("config", "Path | None", "FILE"), ("config", "str | None", "TEXT"),
        ("top_k", "int", "N"), ("runs", "list[Path]", "[FOLDER,...]"), ("model.base", "str | None", "CHECKPOINT"),
        ("ngram_range", "tuple[int, int]", "[N,...]"), ("split", "Literal['train', 'val']", "{train,val}"),
        ("device", "str | None", "DEVICE"), ("gpu_memory", "float", "NUMBER"), ("keep", "bool", "{true,false}"),
    ],
)  # fmt: skip
def test_what_an_option_takes_is_named(key: str, hint: str, metavar: str) -> None:
    names: dict[str, object] = {}
    exec(f"from pathlib import Path\nfrom typing import Literal\nhint = {hint}", names)
    assert metavar_of(key, names["hint"]) == metavar


@pytest.mark.parametrize("words", ["--num_beams 50", "--num-beams 50", "--num-beams=50"])
def test_underscores_and_dashes_ask_for_the_same(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings_of(["semcore", "evaluate", "--run", "RUN", *words.split()], monkeypatch).num_beams == 50
