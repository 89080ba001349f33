"""The page without a browser: what its components are given and give back, and what its server lets through."""

from __future__ import annotations

import json
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from semcore import Retriever
from semcore.data.directions import Direction
from semcore.demo.examples import Examples
from semcore.demo.query_pictures import QueryPictures
from semcore.demo.run_search import RunSearch
from tests.conftest import draw_picture
from tests.run_fixtures import SearchableRun

pytest.importorskip("gradio")

SETTINGS = (20, "auto", "fit")


@pytest.fixture(scope="module")
def search(finished_training: SearchableRun, tmp_path_factory: pytest.TempPathFactory) -> RunSearch:
    folder = tmp_path_factory.mktemp("page")
    run = shutil.copytree(finished_training.run, folder / "run")
    retriever = Retriever.from_run(run, split="test", verifier="none", dtype="float32", device="cpu")
    return RunSearch(retriever, QueryPictures(retriever.dataset, folder / "pictures"))


@pytest.fixture(scope="module")
def answers(search: RunSearch) -> Any:
    from semcore.demo.page import Answers

    return Answers(search, lambda: f"{len(search.retriever.items(Direction.T2I))} images")


def opened(answers: Any, **parameters: str) -> list[Any]:
    head, linked = answers.opened(SimpleNamespace(query_params=parameters))
    assert head == "6 images" and linked == parameters
    return answers.of_link(linked)


def test_a_sentence_and_a_picture_are_answered(answers: Any, tmp_path: Path) -> None:
    draw_picture("red", 1).save(tmp_path / "mine.png")
    assert answers.of_text("a red circle", *SETTINGS).count('<li class="sc-hit"') == 6
    html = answers.of_picture(str(tmp_path / "mine.png"), *SETTINGS)
    assert html.count('<li class="sc-hit"') == 10 and 'data-link="?image=upload:' in html


@pytest.mark.parametrize("text", ["", None, "  \n"])
def test_an_empty_query_is_answered_with_a_sentence(answers: Any, text: Any) -> None:
    assert 'role="alert">there is nothing to search for yet; type' in answers.of_text(text, *SETTINGS)
    assert 'role="alert">there is no picture yet; drop one' in answers.of_picture(None, *SETTINGS)


def test_a_failure_is_told_in_the_terminal_and_not_on_the_page(
    answers: Any, search: RunSearch, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(query: object) -> None:
        raise RuntimeError("a secret")

    monkeypatch.setattr(search, "search", fail)
    html = answers.of_text("a red circle", *SETTINGS)
    assert "the search failed; the terminal" in html and "secret" not in html
    assert "a secret" in caplog.text


def test_a_search_that_finds_nothing_says_so(answers: Any, search: RunSearch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Retriever, "search", lambda self, **_: [])
    assert "Nothing was found." in answers.of_text("a green heart", *SETTINGS)


def test_a_link_opens_the_page_as_it_was(answers: Any, search: RunSearch) -> None:
    tabs, text, picture, *settings, html = opened(answers, text="a red circle", beams="3", verifier="none", prior="0")
    assert (tabs.selected, text, picture, settings) == ("text", "a red circle", None, [3, "none", "0"])
    assert html.count('<li class="sc-hit"') == 3
    image_id = search.retriever.dataset.images[0].image_id
    tabs, text, picture, *_, html = opened(answers, image=image_id)
    assert (tabs.selected, text) == ("image", "") and Path(picture).is_file()
    assert f"Sentences for {image_id}" in html


def test_a_page_without_a_query_has_nothing_to_search_for(answers: Any) -> None:
    assert answers.opened(SimpleNamespace(query_params={"colour": "red"})) == ("6 images", None)


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"text": "a dog", "beams": "many"}, "from 1 to 100, found &#39;many&#39;"),
        ({"text": "a dog", "beams": "1000"}, "from 1 to 100, found 1000"),
        ({"text": "a dog", "verifier": "<b>"}, "there is no verifier &#39;&lt;b&gt;&#39; here"),
        ({"text": "a dog", "prior": "7"}, "there is no prior &#39;7&#39;"),
        ({"text": "a dog", "image": "one"}, "found both; leave one out"),
        ({"text": ""}, "there is nothing to search for yet"),
        ({"image": "../../etc/passwd"}, "there is no image &#39;../../etc/passwd&#39; in the dataset"),
        ({"image": "upload:0"}, "dropped on a page that is no longer served; drop it again"),
    ],
)
def test_a_link_that_is_wrong_opens_a_page_that_says_so(answers: Any, parameters: Any, sentence: str) -> None:
    *_, beams, verifier, prior, html = opened(answers, **parameters)
    assert sentence in html and 'role="alert"' in html
    assert 1 <= beams <= 100 and verifier == "auto" and prior == "fit"


def test_hits_are_explained_by_their_link(answers: Any) -> None:
    html = answers.of_text("a red circle", *SETTINGS)
    item = html.partition('data-item="')[2].partition('"')[0]
    link = html.partition('data-link="')[2].partition('"')[0].replace("&amp;", "&")
    assert "The best hit." in answers.explain({"link": link, "item": item})
    assert "there is no hit &#39;other&#39; of this query" in answers.explain({"link": link, "item": "other"})
    assert "there is nothing to search for yet" in answers.explain({"link": "", "item": item})
    assert "the search failed" in answers.explain({})


def test_a_direction_that_cannot_be_searched_says_why(
    answers: Any, search: RunSearch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "refused", {Direction.T2I: "it was trained for the other direction only"})
    assert "it was trained for the other direction only" in answers.of_text("a dog", *SETTINGS)


def test_a_page_is_built_without_examples(search: RunSearch) -> None:
    from semcore.demo.page import build_page

    page = build_page(search, Examples(), "a run", lambda: "nothing")
    assert not page.analytics_enabled
    assert not [part for part in page.config["components"] if part["type"] == "dataset"]


@pytest.fixture(scope="module")
def address(finished_training: SearchableRun, serve: Callable[..., str]) -> str:
    return serve(finished_training, split="test")


def ask(url: str, body: Any = None, **headers: str) -> tuple[int, str]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json", **headers})
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_files_of_the_run_are_not_served(address: str, finished_training: SearchableRun) -> None:
    for path in (finished_training.run / "manifest.json", Path("/etc/hostname"), Path(__file__)):
        code, _ = ask(f"{address}gradio_api/file={path}")
        assert code in (403, 404), path


def test_another_sites_name_for_this_machine_is_refused(address: str) -> None:
    assert ask(address)[0] == 200
    assert ask(address, Host="attacker.example")[0] == 400


@pytest.mark.parametrize("path", ["/etc/hostname", "http://192.0.2.1/picture.png", "file:///etc/hostname"])
def test_a_forged_picture_is_neither_read_nor_fetched(address: str, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched: list[str] = []

    async def fetch(url: str, cache_dir: str) -> str:
        fetched.append(url)
        return url

    monkeypatch.setattr("gradio.processing_utils.async_ssrf_protected_download", fetch)
    config = json.loads(ask(f"{address}config")[1])
    ((number, inputs),) = {
        (each["id"], len(each["inputs"])) for each in config["dependencies"] if each["targets"][0][1] == "upload"
    }
    assert inputs == 4
    picture = {"path": path, "meta": {"_type": "gradio.FileData"}}
    body = {"fn_index": number, "data": [picture, 20, "auto", "fit"], "session_hash": "forged"}
    assert ask(f"{address}gradio_api/queue/join", body)[0] == 200
    told = ask(f"{address}gradio_api/queue/data?session_hash=forged")[1]
    done = [json.loads(line[6:]) for line in told.splitlines() if line.startswith("data: ")]
    (completed,) = [message for message in done if message["msg"] == "process_completed"]
    assert not completed["success"] and not fetched, completed
