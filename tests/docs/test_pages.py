"""Pages of the documentation: commands exist with their options, blocks of code parse, links lead somewhere."""

from __future__ import annotations

import ast
import json
import re
import shlex
from pathlib import Path

import pytest
import yaml

from tests.command_lines import settings_of
from tests.docs.pages import (
    COMMAND,
    DOCS,
    INCLUDED,
    PAGES,
    ROOT,
    Block,
    anchors_of,
    blocks_of,
    inline_commands,
    links_of,
    prose_of,
)
from tests.test_readme import names_of
from tests.test_readme import settings_of as settings_named

README = ROOT / "README.md"
DOCUMENTS = [*PAGES, README, ROOT / "recipes" / "README.md", ROOT / "ds_configs" / "README.md"]
BLOCKS = [block for page in DOCUMENTS for block in blocks_of(page)]
COMMANDS = [(block, command) for block in BLOCKS if block.language == "sh" for command in block.commands]
OURS = ("semcore", "python", "accelerate")
LANGUAGES = {"sh", "python", "text", "json", "yaml", "bibtex"}
LONGEST_README = 120


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def test_there_are_pages_and_commands_to_look_at() -> None:
    assert {"docs/index.md", "docs/paper.md", "docs/log.md", "docs/guides/flickr30k.md"} <= set(map(name_of, PAGES))
    assert len(COMMANDS) > 40
    assert {block.mark for block in BLOCKS} > {"", "needs a GPU", "needs the network"}


@pytest.mark.parametrize("said", ["some 50 minutes on two cores", "about an hour", "a minute", "two days"])
def test_what_takes_long_is_marked(said: str) -> None:
    assert Block(PAGES[0], 1, "sh", f"# takes {said}\nsemcore study STUDY --out OUT").mark


def test_every_block_that_says_what_it_takes_or_needs_is_marked() -> None:
    said = [block for page in PAGES for block in blocks_of(page) if block.text.startswith(("# takes", "# needs"))]
    assert said and [str(block) for block in said if not block.mark] == []


def test_the_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= LONGEST_README


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_a_block_of_code_is_valid(block: Block) -> None:
    assert block.language in LANGUAGES
    if block.language == "python":
        assert ast.parse(block.text).body
    elif block.language == "json":
        assert json.loads(block.text)
    elif block.language == "yaml":
        assert yaml.safe_load(block.text)


@pytest.mark.parametrize(("block", "command"), COMMANDS, ids=str)
def test_a_command_parses(block: Block, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its values; what the shell does with a comment behind it, it does here too."""
    words = shlex.split(command, comments=True)
    if words[0] not in OURS or words[-1] == "--help":
        return
    options = {word for word in words if word.startswith("--config")}
    assert all((ROOT / words[words.index(o) + 1]).is_file() or words[words.index(o) + 1].isupper() for o in options)
    if words[:2] != ["semcore", "--help"]:
        assert settings_of(words, monkeypatch), f"{block}: {command}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_within_lines_exist_with_their_options(page: Path) -> None:
    for command in inline_commands(page):
        words = shlex.split(command)
        if words[0] in OURS and words != ["accelerate", "launch"]:
            settings, arguments = settings_named(words)
            options = {word[2:].partition("=")[0].replace("-", "_") for word in arguments if word.startswith("--")}
            assert options <= {*names_of(settings), "help"}, f"{name_of(page)}: {command}"


@pytest.mark.parametrize("page", [page for page in PAGES if page not in INCLUDED], ids=name_of)
def test_no_command_stands_outside_of_a_block(page: Path) -> None:
    """An indented line would be run by nothing."""
    assert not [line for line in prose_of(page).splitlines() if COMMAND.match(line.strip()) and line.startswith("   ")]


@pytest.mark.parametrize("page", DOCUMENTS, ids=name_of)
def test_a_link_leads_somewhere(page: Path) -> None:
    for target in links_of(page):
        name, _, anchor = target.partition("#")
        place = (page.parent / name).resolve() if name else page
        if "reference/commands" in str(place):  # made by the build, which looks itself
            continue
        assert place.exists(), f"{name_of(page)} links to {target}"
        assert not anchor or anchor in anchors_of(place), f"{name_of(page)} links to {target}"


def test_every_page_can_be_reached_from_the_first() -> None:
    named = set()
    for page in PAGES:
        for tree in re.findall(r"```\{toctree\}\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL):
            entries = [line.strip() for line in tree.splitlines() if line.strip() and not line.startswith(":")]
            targets = [re.sub(r".*<(.*)>$", r"\1", entry) for entry in entries]
            named |= {(page.parent / target).with_suffix(".md").resolve() for target in targets}
    assert {name_of(page) for page in PAGES if page.resolve() not in named} == {"docs/index.md"}
    assert all(path.exists() or path.is_relative_to(DOCS / "reference" / "commands") for path in named)
