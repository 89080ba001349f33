"""Faults around a server: every case has its answer, no query is lost, and the next one is answered."""

from __future__ import annotations

import base64
import http.client
import json
import socket
import threading
import time
from collections import Counter

import pytest

from semcore.serving.limits import Limits
from tests.semcore.serving.live_servers import FakeRun, Live, running, service_of
from tests.semcore.serving.test_requests import png_header


def is_well(live: Live) -> bool:
    """Return whether the server answers, with nothing left in its queue."""
    return live.search(text="next").status == 200 and live.ask("GET", "/health").json["num_waiting"] == 0


def send_raw(live: Live, content: bytes) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", live.port), timeout=60)
    connection.sendall(content)
    return connection


def read_reply(connection: socket.socket) -> tuple[int, dict[str, str]]:
    response = http.client.HTTPResponse(connection)
    response.begin()
    return response.status, json.loads(response.read())


def request_head(length: int | None) -> bytes:
    size = f"Content-Length: {length}" if length is not None else "Transfer-Encoding: chunked"
    return f"POST /search HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{size}\r\n\r\n".encode()


def test_clients_that_go_are_taken_out_of_the_queue() -> None:
    run = FakeRun()
    run.go_on.clear()
    with running(service_of(run, Limits(max_batch=1))) as live:
        body = json.dumps({"text": "a"}).encode()
        gone = [send_raw(live, request_head(len(body)) + body) for _ in range(10)]
        wait_until(lambda: live.ask("GET", "/health").json["num_waiting"] == 9)
        for connection in gone:
            connection.close()
        wait_until(lambda: live.ask("GET", "/health").json["num_waiting"] == 0)
        run.go_on.set()
        assert is_well(live)
        metrics = live.ask("GET", "/metrics").content.decode()
    assert "semcore_clients_gone_total 10.0" in metrics
    assert sum(run.batches) == 2  # the one that was worked on, and the last


def wait_until(condition, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_is_too_large_is_refused_before_it_is_held(chunked: bool) -> None:
    with running(service_of(FakeRun(), Limits(max_body_bytes=1000))) as live:
        content = b"x" * 50_000
        framed = b"%x\r\n%s\r\n0\r\n\r\n" % (len(content), content)
        connection = send_raw(live, request_head(None if chunked else len(content)) + (framed if chunked else content))
        status, problem = read_reply(connection)
        assert (status, problem["code"]) == (413, "too_large")
        assert problem["error"].endswith("bytes or more, and 1,000 may; send fewer queries, or smaller pictures")
        connection.close()
        assert is_well(live)


def test_a_body_that_does_not_come_is_not_waited_for() -> None:
    with running(service_of(FakeRun(), Limits(timeout_s=1))) as live:
        begun = time.monotonic()
        status, problem = read_reply(send_raw(live, request_head(1000) + b'{"text":'))
        assert (status, problem["code"]) == (408, "slow_body")
        assert time.monotonic() - begun < 10
        assert is_well(live)


def test_a_body_that_breaks_off_is_nobodys_error() -> None:
    with running(service_of(FakeRun())) as live:
        send_raw(live, request_head(1000) + b'{"text":').close()
        send_raw(live, b"\x16\x03\x01 no HTTP\r\n\r\n").close()
        assert is_well(live)


def test_an_answer_that_takes_too_long_is_given_up() -> None:
    run = FakeRun()
    run.go_on.clear()
    with running(service_of(run, Limits(timeout_s=1, max_batch=1))) as live:
        replies = []
        threads = [threading.Thread(target=lambda: replies.append(live.search(text="a"))) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert [reply.status for reply in replies] == [504] * 3
        assert replies[0].json["error"] == "no answer within 1 s; ask again, or ask for less"
        run.go_on.set()
        assert is_well(live)


def test_decompression_bombs_are_refused_by_their_header() -> None:
    with running(service_of(FakeRun())) as live:
        for size in ((10_000, 10_000), (60_000, 60_000)):
            begun = time.monotonic()
            reply = live.search(image=base64.b64encode(png_header(*size)).decode())
            assert (reply.status, reply.json["code"]) == (413, "too_large")
            assert time.monotonic() - begun < 5
        assert is_well(live)


@pytest.mark.parametrize(
    ("num_requests", "max_queue"), [(200, 64), pytest.param(1000, 256, marks=pytest.mark.slow, id="a thousand")]
)
def test_many_requests_at_once_are_answered_or_refused_and_none_hangs(num_requests: int, max_queue: int) -> None:
    run = FakeRun(seconds=0.01)
    with running(service_of(run, Limits(max_queue=max_queue))) as live:
        body = json.dumps({"text": "a"}).encode()
        run.go_on.clear()
        connections = [send_raw(live, request_head(len(body)) + body) for _ in range(num_requests)]
        wait_until(lambda: live.ask("GET", "/health").json["num_waiting"] == max_queue)
        run.go_on.set()
        statuses = Counter(read_reply(connection)[0] for connection in connections)
        for connection in connections:
            connection.close()
        assert statuses[200] + statuses[503] == num_requests
        assert statuses[200] >= max_queue  # those that waited; and those that came into the queue meanwhile
        assert sum(run.batches) == statuses[200]
        assert is_well(live)
