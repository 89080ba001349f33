"""Reference of the commands: all of them, every option, and nothing but what --help says."""

from __future__ import annotations

import re
from argparse import ArgumentError
from pathlib import Path

import pytest

from docs.command_reference import Documented, documented_commands, page_of, prose, write_pages
from semcore.commands.arguments import make_parser
from semcore.commands.settings_schema import leaf_types
from semcore.runtime.settings import option
from tests.command_lines import COMMANDS

DOCUMENTED = list(documented_commands())


def test_every_command_has_a_page() -> None:
    theirs = {command for command in COMMANDS if not command.startswith("python -m benchmarks.")}
    assert {entry.command for entry in DOCUMENTED} == theirs
    assert len({entry.page for entry in DOCUMENTED}) == len(DOCUMENTED)


@pytest.mark.parametrize("entry", DOCUMENTED, ids=lambda entry: entry.page)
def test_a_page_has_every_option_once(entry: Documented) -> None:
    parser = make_parser(entry.settings, tuple(entry.positional), entry.command)
    with pytest.raises(ArgumentError):
        parser.parse_args(["--no-such-option"])  # jsonargparse adds an option, which it hides, to a parser that is used
    page = page_of(entry)
    found = re.findall(r"^```\{option\} (\S+)", page, flags=re.MULTILINE)
    expected = [key.upper() if key in entry.positional else option(key) for key in leaf_types(entry.settings)]
    assert sorted(found) == sorted(expected)
    assert page.startswith(f"# `{entry.command}`\n") and f"usage: {entry.command}" in page
    assert "## examples" in page


def test_pages_are_written_once_and_old_ones_go(tmp_path: Path) -> None:
    (tmp_path / "of-no-command.md").touch()
    some = DOCUMENTED[:2] + DOCUMENTED[-1:]
    write_pages(tmp_path, some)
    assert {path.stem for path in tmp_path.iterdir()} == {"index", *(entry.page for entry in some)}
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    write_pages(tmp_path, some)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


def test_markup_in_a_help_text_is_shown_as_it_stands() -> None:
    assert prose("a_b <|cluster_17|> `x_y` [t2i]") == r"a\_b \<\|cluster\_17\|\> `x_y` \[t2i\]"
