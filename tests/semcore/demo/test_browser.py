"""The page in a real Chromium, as users see it: slow, and skipped where there is none."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from PIL import Image

from semcore.data.dataset import load_dataset
from semcore.demo.run_search import RunSearch
from tests.conftest import draw_picture
from tests.run_fixtures import SearchableRun
from tests.semcore.demo.conftest import HOSTILE, Visit

pytestmark = pytest.mark.slow
RED = "a red circle"
Open = Callable[..., Visit]


@pytest.fixture(scope="module")
def address(chromium: Any, finished_training: SearchableRun, serve: Callable[..., str], tmp_path_factory: Any) -> str:
    run = shutil.copytree(finished_training.run, tmp_path_factory.mktemp("browser") / "run")
    return serve(SearchableRun(finished_training.data, run, finished_training.base), split="test")


@pytest.fixture(scope="module")
def hostile(chromium: Any, hostile_run: SearchableRun, serve: Callable[..., str]) -> str:
    return serve(hostile_run)


@pytest.fixture
def an_image(finished_training: SearchableRun) -> Path:
    dataset = load_dataset(finished_training.data)
    return dataset.image_path(dataset.split("test")[0])


def test_a_sentence_finds_images_and_a_dropped_picture_sentences(visit: Open, address: str, an_image: Path) -> None:
    user = visit(address)
    user.search(RED)
    assert len(user.hits()) == 6
    assert user.page.locator(".sc-hit img").count() == 6
    assert user.page.evaluate("[...document.querySelectorAll('.sc-hit img')].every(i => i.naturalWidth > 0)")
    assert user.page.locator(".sc-identifier span").count() > 6
    assert parse_qs(user.link())["text"] == [RED]
    user.drop(an_image)
    assert len(user.hits()) == 10
    assert user.page.locator(".sc-sentence").count() == 10
    assert user.problems == []


def test_nothing_is_asked_of_any_other_machine(visit: Open, address: str, an_image: Path) -> None:
    """Scripts, fonts, pictures and telemetry: all from the page's own address, in all that it can do."""
    user = visit(address)
    user.search(RED)
    user.page.locator(".sc-hit summary").first.click()
    user.page.wait_for_selector(".sc-why table")
    user.drop(an_image)
    own = (address, "data:", "blob:")
    assert len(user.requests) > 10
    assert [url for url in user.requests if not url.startswith(own)] == []
    fonts = user.page.evaluate("[...document.fonts].filter(font => font.status === 'loaded').map(font => font.family)")
    assert fonts == []
    assert user.problems == []


def test_the_browser_would_not_let_it(visit: Open, address: str) -> None:
    user = visit(address)
    refused = user.page.evaluate(
        """() => new Promise(done => {
            document.addEventListener('securitypolicyviolation', event => done(event.effectiveDirective));
            document.body.append(Object.assign(new Image(), {src: 'http://192.0.2.1/pixel.png'}));
        })"""
    )
    assert refused == "img-src"


def test_a_link_repeats_its_search(visit: Open, address: str, an_image: Path, tmp_path: Path) -> None:
    user = visit(address)
    user.search(RED)
    again = visit(f"{address}?{user.link()}")
    assert again.hits() == user.hits() and again.link() == user.link()
    assert again.page.input_value("#sc-text textarea") == RED
    draw_picture("green", 5).save(tmp_path / "mine.png")
    user.drop(tmp_path / "mine.png")
    other = visit(f"{address}?{user.link()}")
    assert other.hits() == user.hits() != again.hits()
    assert other.page.locator("#sc-picture img").count() == 1


def test_a_hit_leads_to_the_other_direction(visit: Open, address: str) -> None:
    user = visit(address)
    user.search(RED)
    found = user.hits()[0]
    user.page.locator(".sc-next a").first.click()
    user.page.wait_for_selector(".sc-hits.i2t")
    assert parse_qs(user.link())["image"] == [found]
    user.asked(lambda: user.page.click("#sc-find-sentences"))
    assert parse_qs(user.link())["image"] == [found], "what the page shows of it is still that image"


def test_the_same_question_again_is_answered_again(visit: Open, address: str) -> None:
    user = visit(address)
    user.page.get_by_role("tab", name="By picture").click()
    for _ in range(2):
        user.asked(lambda: user.page.click("#sc-find-sentences"))
        assert "There is no picture yet" in user.message()


def test_settings_are_searched_with(visit: Open, address: str) -> None:
    user = visit(f"{address}?text=a+red+circle&beams=3&verifier=none&prior=0")
    assert len(user.hits()) == 3
    assert "beam 3 · verifier none · prior left in" in user.page.inner_text(".sc-facts")
    user.page.get_by_text("Settings").click()
    user.page.locator("#sc-beams input[type=number]").fill("2")
    user.page.locator("#sc-beams input[type=number]").press("Tab")
    user.page.get_by_label("Verifier").click()
    user.page.get_by_role("option", name="likelihood").click()
    user.asked(lambda: user.page.click("#sc-find-images"))
    assert len(user.hits()) == 2
    assert "beam 2 · verifier likelihood" in user.page.inner_text(".sc-facts")


def test_examples_are_searched_for(visit: Open, address: str) -> None:
    user = visit(address)
    user.asked(lambda: user.page.locator("#sc-query .gallery-item").first.click())
    (text,) = parse_qs(user.link())["text"]
    assert user.page.input_value("#sc-text textarea") == text and user.hits()
    user.page.get_by_role("tab", name="By picture").click()
    user.asked(lambda: user.page.locator("#sc-query .gallery-item:visible").first.click())
    assert "image" in parse_qs(user.link()) and ":" not in user.link()


def test_what_is_chosen_before_the_page_is_whole_stays(
    visit: Open, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RunSearch, "refresh", lambda search: time.sleep(1))
    user = visit(address)
    user.asked(lambda: user.page.locator("#sc-query .gallery-item").first.click())
    assert [user.page.input_value("#sc-text textarea")] == parse_qs(user.link())["text"]


def test_a_hit_is_explained_once_it_is_asked_for(visit: Open, address: str) -> None:
    user = visit(address)
    user.search(RED)
    assert user.page.locator(".sc-why table").count() == 0
    user.page.locator(".sc-hit summary").nth(1).click()
    user.page.wait_for_selector(".sc-why table")
    why = user.page.locator(".sc-why").nth(1)
    for text in ("Cluster", "Keywords", "Generator", "Verifier", "Together", "rank"):
        assert text in why.inner_text()
    assert user.page.locator(".sc-why table").count() == 1


def test_mistakes_are_said_and_the_page_goes_on(visit: Open, address: str, tmp_path: Path) -> None:
    user = visit(address)
    user.search("  ")
    assert user.message().startswith("There is nothing to search for yet; type a sentence")
    user.search("a" * 100_000)
    assert user.message() == "A sentence may have 2,000 letters here, found 100,000; shorten it"
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n but no more")
    user.drop(tmp_path / "broken.png")
    assert user.message().lower().startswith("broken.png cannot be read: ")
    user.page.reload()
    user.page.wait_for_selector("#sc-text textarea")
    user.search(RED)
    assert len(user.hits()) == 6


def test_a_hundred_megapixels_are_refused(visit: Open, address: str, tmp_path: Path) -> None:
    Image.new("1", (10_000, 10_000)).save(tmp_path / "huge.png")
    user = visit(address)
    user.drop(tmp_path / "huge.png")
    assert "10000 x 10000 is more than 89,478,485 pixels" in user.message()


def test_markup_in_sentences_names_and_files_is_shown_as_it_is(visit: Open, hostile: str, tmp_path: Path) -> None:
    user = visit(hostile)
    assert user.page.inner_text(".sc-title h1") == '<img src="x" onerror="window.hacked = 1">'
    for text in HOSTILE:
        user.search(text)
        assert user.page.inner_text(".sc-results h2") == f"Images for “{text}”"
        user.page.locator(".sc-hit summary").first.click()
        user.page.wait_for_selector(".sc-why table")
    name = '<img src=x onerror="window.hacked=1">.png'
    draw_picture("red", 3).save(tmp_path / name)
    user.drop(tmp_path / name)
    shown = " ".join(user.page.locator(".sc-sentence").all_inner_texts())
    assert any(text in shown for text in HOSTILE)
    (tmp_path / ("broken " + name)).write_text("no picture")
    user.page.click("#sc-picture button[aria-label*=lear], #sc-picture button[aria-label*=emove]")
    user.drop(tmp_path / ("broken " + name))
    assert "cannot be read" in user.message()
    assert user.page.evaluate("window.hacked") is None
    assert user.page.locator("#sc-out h1, #sc-out svg, #sc-query script").count() == 0


def test_two_users_at_once_have_each_their_own_hits(chromium: Any, visit: Open, address: str) -> None:
    """Playwright drives one tab at a time; so both ask before either looks at its answer."""
    texts = [RED, "there is a large blue star in the upper left."]
    users = [visit(address) for _ in texts]
    for user, text in zip(users, texts, strict=True):
        user.page.fill("#sc-text textarea", text)
    for user in users:
        user.page.click("#sc-find-images", no_wait_after=True)
    for user, text in zip(users, texts, strict=True):
        user.page.wait_for_selector(".sc-results")
        assert user.page.inner_text(".sc-results h2") == f"Images for “{text}”"
        alone = visit(f"{address}?{user.link()}")
        assert alone.hits() == user.hits()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 768, 1600])
def test_it_fits_every_screen(visit: Open, address: str, scheme: str, width: int) -> None:
    size = {"width": width, "height": 800}
    user = visit(f"{address}?text=a+red+circle", viewport=size, color_scheme=scheme)
    user.page.locator(".sc-hit summary").first.click()
    user.page.wait_for_selector(".sc-why table")
    assert user.page.evaluate("document.documentElement.scrollWidth") <= width
    for name in ("By sentence", "By picture"):
        assert user.page.get_by_role("tab", name=name).is_visible()
    ratios = user.page.evaluate(CONTRASTS)
    assert len(ratios) > 10
    assert {text: ratio for text, ratio in ratios.items() if ratio < 4.5} == {}, "WCAG 2, level AA"


CONTRASTS = """() => {
    const channels = text => text.match(/[\\d.]+/g).map(Number);
    const light = ([red, green, blue]) => [red, green, blue].map(value => value / 255)
        .map(value => value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4)
        .reduce((sum, value, place) => sum + value * [0.2126, 0.7152, 0.0722][place], 0);
    const ground = node => {
        for (let each = node; each; each = each.parentElement) {
            const colour = channels(getComputedStyle(each).backgroundColor);
            if (colour.length === 3 || colour[3] === 1) return colour;
        }
        return [255, 255, 255];
    };
    const found = {};
    for (const node of document.querySelectorAll('.sc-title *, .sc-results *')) {
        const text = [...node.childNodes].filter(each => each.nodeType === 3).map(each => each.data.trim()).join('');
        if (!text || !node.getClientRects().length) continue;
        const [one, other] = [light(channels(getComputedStyle(node).color)), light(ground(node))];
        found[text] = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    }
    return found;
}"""
"""Text of the page -> contrast of its colour with what is behind it."""
