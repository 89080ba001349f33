from __future__ import annotations

from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from semcore.demo.page_queries import PageQuery
from semcore.demo.results_html import explanation_html, message_html, results_html, title_html
from semcore.demo.run_search import Outcome
from semcore.retrieval.hits import Hit, NoMatchBasis
from tests.conftest import draw_picture
from tests.semcore.demo.conftest import HOSTILE

RED = PageQuery(text="a red circle")
BASIS = NoMatchBasis("log_sum_exp", 1.75, 2.5)
WHY: dict[str, Any] = {
    "query": {"direction": "t2i", "text": "a red circle"},
    "item": {"item_id": "one", "identifier": "<|cluster_1|>red circle", "text": None, "image_path": None},
    "rank": 1,
    "cluster": {"token": "<|cluster_1|>", "global_id": 1, "words": ["round", "red"], "words_in_query": ["red"]},
    "keywords": [{"keyword": "red", "in_query": True}, {"keyword": "big", "in_query": False}],
    "steps": [
        {
            "depth": 1, "token": "<|cluster_1|>", "part": "cluster", "keyword": None, "log_probability": -0.105,
            "sum": -0.105, "log_prior": None, "num_branches": 3,
            "best_other": {"token": " blue", "log_probability": -3.0},
        },
        {
            "depth": 2, "token": " red", "part": "keyword", "keyword": "red", "log_probability": -0.7, "sum": -0.805,
            "log_prior": None, "num_branches": 1, "best_other": None,
        },
    ],
    "generator": {
        "log_probability": -0.805, "prior_weight": 0.5, "log_prior": -2.0, "score": 0.195, "rank": 2, "num_beams": 20,
    },
    "verifier": {
        "name": "listwise", "score": -0.3, "rank": 1, "num_candidates": 2,
        "orders": [{"letter": "A", "probability": 0.74, "counts": True}],
    },
    "fusion": {
        "generator_weight": 0.25, "temperature": 1.0, "score": 1.5, "confidence": 0.83, "no_match": asdict(BASIS),
    },
    "search": {"outcome": "found"},
}  # fmt: skip


class Reader(HTMLParser):
    """Collects the tags, the attributes that run scripts, and the text of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.scripts: list[str] = []
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.scripts += [name for name, value in attrs if name.startswith("on") or "javascript:" in (value or "")]
        if tag not in ("img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == [] and reader.scripts == [] and "script" not in reader.tags
    return reader


def outcome(*hits: Hit, query: PageQuery = RED) -> Outcome:
    return Outcome(query, list(hits), 0.25, "listwise", 0.5, 12_000, ("a note",))


def test_hits_are_shown_with_all_that_is_known_of_them(tmp_path: Path) -> None:
    draw_picture("red", 1, (640, 480)).save(tmp_path / "one.png")
    html = results_html(
        outcome(
            Hit("one", 2.0, "<|cluster_17|>red circle", 0.834, None, tmp_path / "one.png"),
            Hit("two", 1.0, "<|cluster_2|>blue", None, None, tmp_path / "gone.png"),
        )
    )
    page = read(html)
    for text in (
        "Images for “a red circle”", "12,000 images searched in 0.25 s", "verifier listwise", "prior × 0.50 off",
        "83 %", "<|cluster_17|>", "circle", "two", "a note", "the picture cannot be shown: there is no such file",
    ):  # fmt: skip
        assert text in page.text
    assert html.count("<img") == 1 and 'src="data:image/jpeg;base64,' in html and 'width="320" height="240"' in html
    assert 'href="?image=one&amp;beams=20&amp;verifier=auto&amp;prior=fit"' in html
    assert "No match" not in page.text


def test_sentences_are_shown_and_lead_back_to_images() -> None:
    query = PageQuery(image="upload:0123", num_beams=5, verifier="none", prior="0")
    hit = Hit("s-1", 2.0, "red", 0.5, "a red circle")
    html = results_html(outcome(hit, query=query))
    assert "Sentences for the picture" in read(html).text
    assert 'href="?text=a+red+circle&amp;beams=5&amp;verifier=none&amp;prior=0"' in html
    assert 'data-link="?image=upload:0123&amp;beams=5' in html


def test_no_match_is_said_and_the_nearest_are_still_shown(tmp_path: Path) -> None:
    page = read(results_html(outcome(Hit("one", 2.0, "red", 0.1, "text", None, True, BASIS))))
    assert (
        "No match. The model holds that none of the images answers this: all that were found score 1.75 together, and "
        "where there is an answer it is nearly always 2.50 or more. Below are the nearest."
    ) in page.text
    assert "10 %" in page.text
    answered = Hit("one", 2.0, "red", 0.1, "text", None, False, NoMatchBasis("log_sum_exp", 2.5, 2.5))
    assert "No match" not in read(results_html(outcome(answered))).text


def test_nothing_found_is_said() -> None:
    assert "Nothing was found. Try a wider beam, or other words." in read(results_html(outcome())).text


@pytest.mark.parametrize("text", HOSTILE)
def test_markup_in_texts_is_shown_as_it_is(text: str) -> None:
    hit = Hit(text, 1.0, f"<|cluster_1|>{text}", 0.5, text)
    query = PageQuery(text=text)
    page = read(results_html(outcome(hit, query=query)))
    assert page.text.count(text) >= 3
    why = {**WHY, "keywords": [{"keyword": text, "in_query": True}], "steps": [{**WHY["steps"][0], "token": text}]}
    assert text in read(explanation_html(why)).text
    assert text in read(message_html(text, is_problem=True)).text
    title = read(title_html(text, text))
    assert title.text.count(text) == 2 and title.tags == {"header", "h1", "p"}


def test_an_explanation_has_every_part() -> None:
    page = read(explanation_html(WHY))
    for text in (
        "The best hit.", "<|cluster_1|> about round, red", "red ✓", "log p −0.81, less 0.50 × −2.00 of the prior: 0.20",
        "rank 2", "listwise, score −0.30, rank 1 of 2", "A 74 %", "25 % generator and 75 % verifier: 1.50",
        "confidence 83 %", "all candidates together 1.75, no match below 2.50", "0.90", "·blue 0.05", "·red",
    ):  # fmt: skip
        assert text in page.text


def test_an_explanation_does_without_what_a_run_lacks() -> None:
    generator = {**WHY["generator"], "prior_weight": 0.0, "log_prior": None, "rank": None, "score": -0.805}
    bare = {**WHY, "cluster": None, "keywords": [], "verifier": None, "fusion": None, "generator": generator}
    bare["search"] = {"outcome": "not verified"}
    page = read(explanation_html(bare))
    assert "Found, but behind the shortlist" in page.text
    for text in ("Cluster", "Keywords", "Verifier", "Together", "prior", "guide"):
        assert text not in page.text
    guided = {**generator, "guide": 0.4, "score": -0.405}
    assert "log p −0.81, plus 0.40 of the guide: −0.41" in read(explanation_html({**bare, "generator": guided})).text
