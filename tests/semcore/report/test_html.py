"""report.html: one well-formed, self-contained file, without markup injected by a sentence."""

import base64
import io
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from semcore.report import write_report
from tests.semcore.report.small_run import ATTACKS, visible, write_run_folder

VOID = {"meta", "img", "br", "link", "hr", "input"}


class Page(HTMLParser):
    """A strict reader: every element is closed in order; text and attributes are collected."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self._open: list[str] = []
        self.feed(source)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_report(write_run_folder(tmp_path_factory.mktemp("html")))[1].read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(source: str) -> Page:
    return Page(source)


def test_nothing_runs_and_nothing_is_loaded(page: Page) -> None:
    assert {"script", "iframe", "object", "link", "a", "form", "base"}.isdisjoint(name for name, _ in page.elements)
    for _, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on") or name == "href"]
    policy = [meta["content"] for meta in page.all("meta") if "http-equiv" in meta]
    assert policy == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]


def test_sentences_are_shown_as_they_are(page: Page) -> None:
    shown = " ".join("".join(page.text).split())
    for attack in ATTACKS.values():
        assert visible(attack) in shown
    assert "tiny <b>scenes</b>" in shown


def test_images_are_inside_and_small(page: Page) -> None:
    images = page.all("img")
    assert len(images) >= 10
    for image in images:
        kind, data = str(image["src"]).split(";base64,")
        assert kind in {"data:image/png", "data:image/jpeg"}
        assert len(data) < 40_000
        with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
            assert picture.size == (int(str(image["width"])), int(str(image["height"])))


def test_scores_and_intervals_are_in_the_table(page: Page) -> None:
    words = " ".join(" ".join(page.text).split())
    assert "generated 40.0 0.0–80.0 80.0" in words
    assert "ceiling 80.0 – – – – –" in words
    assert "train_identifier 2 min 5 s 1.5 GiB 2 deepspeed, ZeRO-2 3.500 → 0.250 in 1,200 steps" in words


def test_the_chart_is_drawn_for_each_direction(source: str) -> None:
    start = 0
    for ceilings in (2, 0):
        start, end = source.index("<svg", start), source.index("</svg>", start) + len("</svg>")
        chart = ElementTree.fromstring(source[start:end])
        kinds = [element.get("class", "") for element in chart.iter()]
        assert sum(kind.startswith("bar ") for kind in kinds) == 6
        assert kinds.count("ceiling") == ceilings
        start = end


def test_without_the_dataset_the_page_says_why(run_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "data").rename(tmp_path / "elsewhere")
    page = Page(write_report(run_folder)[1].read_text(encoding="utf-8"))
    assert page.all("img") == []
    assert "Without pictures and sentences: the dataset of" in " ".join(page.text)
