"""Untrusted text is escaped in every template."""

import jinja2
import pytest
from markdown_it import MarkdownIt

from semcore.report.rendering import (
    Markdown,
    duration,
    escape_markdown,
    html_template,
    markdown_template,
    memory,
    one_line,
)
from tests.semcore.report.small_run import ATTACKS, visible

HOSTILE = [
    *ATTACKS.values(),
    "1. one",
    "- item",
    "+ item",
    "===",
    "---",
    "    indented",
    "> quote",
    "a\\",
    "a \\| b",
    "**bold** __bold__ ~~gone~~",
    "<!-- comment",
    "<https://evil.example>",
    "[link]: http://evil.example",
    "&amp; &#60;",
    "![](x)",
]


def rendered_text(markdown: str) -> str:
    """Return what a reader sees, provided it is paragraphs of plain text and nothing else."""
    tokens = MarkdownIt("commonmark").enable("table").parse(markdown)
    assert [token.type for token in tokens] == ["paragraph_open", "inline", "paragraph_close"]
    children = tokens[1].children or []
    assert {child.type for child in children} <= {"text", "text_special"}, markdown
    return "".join(child.content for child in children)


@pytest.mark.parametrize("text", HOSTILE)
def test_a_markdown_reader_sees_the_text_as_it_is(text: str) -> None:
    assert rendered_text(escape_markdown(text)) == visible(text)


@pytest.mark.parametrize("text", HOSTILE)
def test_a_table_keeps_its_columns(text: str) -> None:
    table = f"| a | b |\n|---|---|\n| {escape_markdown(text)} | end |\n"
    tokens = MarkdownIt("commonmark").enable("table").parse(table)
    cells = [tokens[i + 1].content for i, token in enumerate(tokens) if token.type == "td_open"]
    assert len(cells) == 2
    assert cells[1] == "end"


def test_links_are_not_made_by_themselves() -> None:
    """GitHub turns these into links without any bracket; a backslash inside stops it."""
    assert escape_markdown("see https://x.example") == r"see https\://x.example"
    assert escape_markdown("see www.x.example") == r"see www\.x.example"


def test_ordinary_text_is_left_alone() -> None:
    text = "A small red circle, left of it: two blue squares (28.7 %)."
    assert escape_markdown(text) == text
    assert escape_markdown("28.7") == "28.7"


def test_only_what_cannot_be_seen_is_left_out() -> None:
    """Half a surrogate pair cannot be written to a file; joiners and accents belong to the word."""
    assert one_line("a\ud83db\u202ec\x07d") == "a b c d"
    assert one_line("می\u200cخواهم Ünï 👩\u200d🚒") == "می\u200cخواهم Ünï 👩\u200d🚒"


def test_a_name_that_a_template_does_not_get_is_an_error() -> None:
    with pytest.raises(jinja2.UndefinedError):
        markdown_template("report.md.jinja").render(columns=(), links={})
    with pytest.raises(jinja2.UndefinedError):
        html_template("report.html.jinja").render(columns=())


def test_templates_run_in_a_sandbox() -> None:
    environment = html_template("report.html.jinja").environment
    with pytest.raises(jinja2.exceptions.SecurityError):
        environment.from_string("{{ x.__class__.__mro__ }}").render(x=Markdown())


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (59.94, "59.9 s"),
        (59.97, "1 min 0 s"),
        (60, "1 min 0 s"),
        (3599.7, "1 h 0 min"),
        (7325, "2 h 2 min"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_memory() -> None:
    assert (memory(2**29), memory(3 * 2**29)) == ("512 MiB", "1.5 GiB")
