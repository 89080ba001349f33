"""The built site: no warning, and nothing that a page loads from another host."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, ROOT

LOADED = re.compile(
    r"""<(?:script|img|iframe|source|audio|video)\b[^>]*\bsrc=["'](?P<source>[^"']+)"""
    r"""|<link\b[^>]*\brel=["'](?:stylesheet|preload|icon)["'][^>]*\bhref=["'](?P<style>[^"']+)"""
    r"""|@import\s+(?:url\()?["']?(?P<import>[^"')]+)|url\(["']?(?P<url>[^"')]+)"""
)
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` builds it, of a copy of the tree's documents and code."""
    pytest.importorskip("sphinx", reason="the extra docs is not installed")
    place = tmp_path_factory.mktemp("site")
    for name in ("docs", "semcore", "data_prep", "recipes", "ds_configs", "benchmarks"):
        ignored = shutil.ignore_patterns("__pycache__", "_build", "*.safetensors")
        shutil.copytree(ROOT / name, place / name, ignore=ignored)
    for path in ROOT.glob("*.md"):
        shutil.copy(path, place)
    command = [sys.executable, "-m", "sphinx", "--fail-on-warning", "--keep-going", "--quiet", "docs", "html"]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    return place / "html"


def test_every_page_is_built(site: Path) -> None:
    for page in PAGES:
        assert (site / page.relative_to(ROOT / "docs")).with_suffix(".html").is_file()
    assert (site / "reference" / "commands" / "semcore-search.html").is_file()


def test_nothing_is_loaded_from_another_host(site: Path) -> None:
    files = [path for ending in ("html", "css") for path in site.rglob(f"*.{ending}")]
    assert len(files) > len(PAGES)
    loaded = {
        (path.name, next(filter(None, found.groups())))
        for path in files
        for found in LOADED.finditer(path.read_text(encoding="utf-8"))
    }
    assert loaded
    assert not [(page, target) for page, target in loaded if re.match(r"(?:https?:)?//", target)]
