"""The same application on Ray Serve, with two replicas on this machine, one of which is killed under load."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

ray = pytest.importorskip("ray", reason="Ray is not installed (extra ray)")

from ray import serve  # noqa: E402

from semcore.serving.limits import Limits  # noqa: E402
from semcore.serving.ray_engine import APPLICATION, SEARCHER, Plan, start_serving, stop_serving  # noqa: E402
from semcore.serving.served_run import RunOptions, ServedRun  # noqa: E402
from tests.semcore.serving.live_servers import Live, service_of  # noqa: E402

pytestmark = pytest.mark.slow
TEXTS = ["a red circle", "there is a large blue star in the upper left", "two squares", "a star"]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


@pytest.fixture(scope="module")
def live(finished_training: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    run = shutil.copytree(finished_training.run, tmp_path_factory.mktemp("ray") / "run")
    options = RunOptions(run, split="test", device="cpu")
    port = free_port()
    try:
        start_serving(Plan(options, Limits(max_batch=4), replicas=2), "127.0.0.1", port, None)
        yield Live(port, service_of(None))
    finally:
        stop_serving(None)


@pytest.fixture(scope="module")
def alone(finished_training: Any) -> dict[str, dict[str, float]]:
    """Each query's scores, searched alone in this process."""
    served = ServedRun.open(RunOptions(finished_training.run, split="test", device="cpu"))
    hits = {text: served.retriever.search(text=text, top_k=6) for text in TEXTS}
    return {text: {hit.item_id: hit.score for hit in own} for text, own in hits.items()}


def scores(reply: Any) -> dict[str, float]:
    assert reply.status == 200, reply.content
    return {hit["item_id"]: hit["score"] for hit in reply.json["hits"]}


def replica_processes() -> set[int]:
    """Return the processes of the replicas that have answered.

    Asked from a thread of its own: Playwright, which other tests use, leaves an event loop running in the main one.
    """
    handle = serve.get_deployment_handle(SEARCHER, APPLICATION)

    def ask() -> set[int]:
        return {handle.process_id.remote().result(timeout_s=30) for _ in range(30)}

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(ask).result()


def wait_for(answered: list[int], count: int) -> None:
    end = time.monotonic() + 120
    while answered[0] < count:
        assert time.monotonic() < end, f"{answered[0]} requests were answered, {count} were waited for"
        time.sleep(0.05)


def test_the_routes_are_the_same(live: Live, alone: dict[str, dict[str, float]]) -> None:
    assert scores(live.search(text=TEXTS[0], top_k=6)) == pytest.approx(alone[TEXTS[0]], abs=1e-5)
    item_id = next(iter(alone[TEXTS[0]]))
    assert live.ask("GET", f"/items/{item_id}").json["kind"] == "image"
    assert live.ask("GET", f"/images/{item_id}").headers["content-type"] == "image/png"
    assert live.ask("GET", "/health").json["num_items"] == {"t2i": 6, "i2t": 30}
    assert b"semcore_requests_total" in live.ask("GET", "/metrics").content
    assert live.ask("GET", "/items/no").status == 404
    wrong = live.search(text="x" * 5000)
    assert (wrong.status, wrong.json["code"]) == (422, "invalid")
    assert live.ask("PUT", "/search", b"{}").status == 405


def test_a_replica_that_is_killed_under_load_loses_nothing(live: Live, alone: dict[str, dict[str, float]]) -> None:
    before = replica_processes()
    assert len(before) == 2
    failures: list[Any] = []
    answered = [0]
    over = threading.Event()

    def client(number: int) -> None:
        while not over.is_set():
            text = TEXTS[number % len(TEXTS)]
            reply = live.search(text=text, top_k=6)
            if reply.status != 200 or scores(reply) != pytest.approx(alone[text], abs=1e-5):
                failures.append((reply.status, reply.content))
            answered[0] += 1

    threads = [threading.Thread(target=client, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    try:
        wait_for(answered, 50)
        os.kill(before.pop(), signal.SIGKILL)
        wait_for(answered, answered[0] + 100)
    finally:
        over.set()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive(), "a client hangs"
    assert failures == []
    end = time.monotonic() + 120
    while len(replica_processes()) < 2:
        assert time.monotonic() < end, "the replica was not replaced"
        time.sleep(1)
    assert not before >= replica_processes()


def test_what_one_process_removes_no_replica_finds(live: Live, alone: dict[str, dict[str, float]]) -> None:
    gone, *_ = alone[TEXTS[0]]
    assert live.ask("DELETE", f"/items/{gone}", timeout=120).status == 200
    for _ in range(6):
        assert scores(live.search(text=TEXTS[0], top_k=6)).keys() == alone[TEXTS[0]].keys() - {gone}
    assert live.ask("GET", f"/items/{gone}").status == 404
    assert live.ask("DELETE", f"/items/{gone}").status == 404
