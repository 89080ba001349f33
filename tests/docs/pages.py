"""Pages of the documentation, taken apart: blocks of code, commands, links, headings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(path for path in DOCS.rglob("*.md") if path.parent.name not in ("commands", "_build"))
"""Pages that are written by hand; those of the commands are made from the code."""
INCLUDED = [page for page in PAGES if page.read_text(encoding="utf-8").startswith("```{include}")]
"""Pages that are other files of the repository."""

FENCE = re.compile(r"^( *)```([\w{}-]*)[^\n]*\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
MARK = re.compile(r"# (needs a GPU|needs the network|takes [\w ]*(?:minutes?|hours?|days?))\b")
PROGRAMS = ("semcore", "python", "accelerate", "pip", "hf", "make", "curl", "rm")
COMMAND = re.compile(rf"(?:{'|'.join(PROGRAMS)}) \S")
SYNTAX = ("{toctree}", "{include}", "{eval-rst}")


@dataclass(frozen=True)
class Block:
    """A block of code: its language, its text without indentation, and the mark of one that no test runs."""

    page: Path
    line: int
    language: str
    text: str

    @property
    def mark(self) -> str:
        """Return what the first line says is needed, "" where a test runs the block."""
        found = MARK.match(self.text)
        return found[1] if found else ""

    @property
    def commands(self) -> list[str]:
        """Return the commands of a shell block; a line that ends in a backslash goes on."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [part for line in lines if line.strip() and not line.startswith("#") for part in line.split(" && ")]

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}, line {self.line}"


def blocks_of(page: Path) -> Iterator[Block]:
    """Yield the fenced blocks of a page, those of the site's own syntax left out."""
    text = page.read_text(encoding="utf-8")
    for found in FENCE.finditer(text):
        indent, language, body = found.groups()
        if language not in SYNTAX:
            body = re.sub(rf"^{indent}", "", body, flags=re.MULTILINE)
            yield Block(page, text[: found.start()].count("\n") + 1, language, body)


def prose_of(page: Path) -> str:
    """Return a page without its blocks of code."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def inline_commands(page: Path) -> list[str]:
    """Return the commands between backquotes in a page's prose."""
    return [code for code in re.findall(r"`([^`\n]+)`", prose_of(page)) if COMMAND.match(code)]


def links_of(page: Path) -> list[str]:
    """Return the targets of a page's links and pictures that lead to files of the repository."""
    found = re.findall(r"\]\(([^)\s]+)\)", prose_of(page)) + re.findall(r'(?:src|href)="([^"]+)"', prose_of(page))
    return [target for target in found if not re.match(r"\w+:", target)]


def anchors_of(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and MyST make them."""
    heads = re.findall(r"^#+ (.+)$", prose_of(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}
