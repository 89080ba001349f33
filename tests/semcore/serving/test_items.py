"""Items of a real run that come and go while it is searched, over HTTP, and stay so after a restart."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from semcore.data.new_images import NewImage
from semcore.data.run_folder import RunFolder
from semcore.retrieval.corpus_updates import add_images
from semcore.retrieval.item_maker import ItemMaker
from semcore.serving.corpus_keeper import CorpusKeeper
from semcore.serving.served_run import RunOptions, ServedRun
from tests.semcore.serving.live_servers import Live, picture_base64, running, service_of


@contextmanager
def serving(run: Path) -> Iterator[Live]:
    """Open a run and serve it."""
    options = RunOptions(run, device="cpu")
    served = ServedRun.open(options)
    with running(service_of(served, keeper=CorpusKeeper(options, served.retriever.generator))) as live:
        yield live


def new_item(number: int, **changes: Any) -> dict[str, Any]:
    picture = picture_base64((40 + number, 40), "blue")
    return {
        "image_id": f"new-{number}", "image": picture, "caption": "a small blue star", "sentences": ["a star, blue"],
        **changes,
    }  # fmt: skip


def found(live: Live, text: str = "a small blue star") -> set[str]:
    return {hit["item_id"] for hit in live.search(text=text, top_k=60).json["hits"]}


def test_what_is_added_is_found_at_once_and_after_a_restart(growing_run: Any) -> None:
    with serving(growing_run.run) as live:
        before = found(live)
        reply = live.ask("POST", "/items", {"items": [new_item(1), new_item(2)]})
        assert reply.status == 201 and [own["item_id"] for own in reply.json["added"]] == ["new-1", "new-2"]
        assert found(live) == before | {"new-1", "new-2"}
        item = live.ask("GET", "/items/new-1").json
        assert (item["kind"], item["identifier"]) == ("image", reply.json["added"][0]["identifier"])
        (sentence_id,) = reply.json["added"][0]["sentence_ids"]
        assert live.ask("GET", f"/items/{sentence_id}").json["text"] == "a star, blue"
        assert live.ask("GET", "/images/new-1").headers["content-type"] == "image/png"
        again = live.ask("POST", "/items", {"items": [new_item(1)]})
        assert (again.status, again.json["added"], again.json["already"]) == (200, [], ["new-1"])
        assert live.ask("DELETE", "/items/new-2").status == 200
        assert found(live) == before | {"new-1"}
        assert live.ask("GET", "/items/new-2").status == 404
    with serving(growing_run.run) as live:
        assert found(live) == before | {"new-1"}
        assert live.ask("GET", "/health").json["num_items"]["t2i"] == len(before) + 1


def test_an_id_of_another_picture_is_a_conflict(growing_run: Any) -> None:
    with serving(growing_run.run) as live:
        assert live.ask("POST", "/items", {"items": [new_item(1)]}).status == 201
        other = live.ask("POST", "/items", {"items": [new_item(1, image=picture_base64((9, 9)))]})
        assert (other.status, other.json["code"]) == (409, "conflict")
        assert "has another image with the id new-1" in other.json["error"]
        everything = live.ask("DELETE", "/items?" + "&".join(f"item_id={own}" for own in found(live, "a star")))
        assert (everything.status, everything.json["code"]) == (409, "conflict")


@pytest.mark.slow
def test_searches_go_on_while_items_come_and_go(growing_run: Any) -> None:
    with serving(growing_run.run) as live:
        always, statuses = found(live), []
        stop = threading.Event()

        def client() -> None:
            while not stop.is_set():
                reply = live.search(text="a small blue star", top_k=60)
                statuses.append(reply.status)
                assert always <= {hit["item_id"] for hit in reply.json["hits"]}

        clients = [threading.Thread(target=client) for _ in range(3)]
        for each in clients:
            each.start()
        try:
            for number in range(1, 4):
                assert live.ask("POST", "/items", {"items": [new_item(number)]}).status == 201
                assert f"new-{number}" in found(live)
                if number > 1:
                    assert live.ask("DELETE", f"/items/new-{number - 1}").status == 200
                    assert f"new-{number - 1}" not in found(live)
        finally:
            stop.set()
            for each in clients:
                each.join(60)
        assert set(statuses) == {200} and len(statuses) > 3


def test_a_full_disk_changes_nothing(growing_run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(growing_run.run) as live:
        before = found(live)

        def full(*_: Any) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        for place in ("os.fsync", "os.replace"):
            with monkeypatch.context() as patched:
                patched.setattr(place, full)
                reply = live.ask("POST", "/items", {"items": [new_item(1)]})
            assert (reply.status, reply.json) == (
                507, {"error": "no space left on the server's disk; nothing was changed", "code": "disk_full"},
            )  # fmt: skip
            assert found(live) == before
        assert live.ask("POST", "/items", {"items": [new_item(1)]}).status == 201
        assert found(live) == before | {"new-1"}


@pytest.mark.slow
def test_what_others_add_is_found_too(growing_run: Any, tmp_path: Path) -> None:
    """`semcore index add` beside a server, say."""
    with serving(growing_run.run) as live:
        before = found(live)
        maker = ItemMaker.open(growing_run.run, dtype="float32", device="cpu")
        picture = (growing_run.data / "images").glob("*.png").__next__()
        add_images(maker, [NewImage("other-1", picture, (), "a red circle")])
        assert live.ask("GET", "/items/other-1").status == 200
        assert found(live) == before | {"other-1"}
        assert RunFolder(growing_run.run).path.is_dir()


def test_hits_are_explained_without_paths_of_the_server(growing_run: Any) -> None:
    with serving(growing_run.run) as live:
        reply = live.search(text="a small blue star", top_k=2, explain=True)
        for hit in reply.json["hits"]:
            why = hit["explanation"]
            assert why["item"]["item_id"] == hit["item_id"] and why["rank"] == hit["rank"]
            assert why["score"] == pytest.approx(hit["score"])
        assert str(growing_run.run) not in reply.content.decode() and "semcore evaluate" in reply.json["notes"][-1]
        assert str(growing_run.data) not in reply.content.decode()
