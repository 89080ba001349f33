"""`semcore serve` as a user starts it: its mistakes in a sentence, and a whole life of the server."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from semcore.commands.serve import is_loopback, read_token
from semcore.runtime.errors import UserError
from semcore.runtime.files import read_json, write_json
from semcore.serving.uvicorn_engine import take_port

ROOT = Path(__file__).resolve().parent.parent.parent.parent
pytest.importorskip("fastapi", reason="the extra serve is not installed")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--port", "70000"], "--port must be from 0 to 65535, found 70000"),
        (["--replicas", "2"], "--replicas, --max-replicas and --ray-address need --engine ray; uvicorn is one process"),
        (
            ["--engine", "ray", "--replicas", "3", "--max-replicas", "2"],
            "--max-replicas must be at least --replicas, 3, found 2",
        ),
        (["--limits.max-batch", "0"], "--limits.max-batch must be 1 or more, found 0"),
        (
            ["--host", "0.0.0.0"],
            "--host 0.0.0.0 opens the run to the network: set a token in SEMCORE_TOKEN or --token-file, or leave "
            "--host out",
        ),
    ],
)
def test_wrong_options_are_named(semcore: Any, options: list[str], sentence: str) -> None:
    assert semcore("serve", "--run", "RUN", *options) == (2, "", f"error: {sentence}\n")


def test_a_port_in_use_is_said_before_anything_is_loaded(semcore: Any, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        code, _, errors = semcore("serve", "--run", str(tmp_path), "--port", str(port))
    assert (code, errors) == (
        2, f"error: port {port} of 127.0.0.1 is in use; end what listens there, or choose another --port\n",
    )  # fmt: skip


def test_a_host_that_is_not_here_is_named() -> None:
    with pytest.raises(UserError, match="^port 0 of 192.0.2.1 cannot be taken .*; choose another --port$"):
        take_port("192.0.2.1", 0)


def test_a_port_is_free_again_at_once() -> None:
    with take_port("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
    take_port("127.0.0.1", port).close()


@pytest.mark.parametrize(
    ("host", "local"), [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("here", False)]
)
def test_only_this_machines_own_addresses_need_no_token(host: str, local: bool) -> None:
    assert is_loopback(host) is local


def test_a_token_comes_from_a_file_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SEMCORE_TOKEN", raising=False)
    assert read_token(None) is None
    monkeypatch.setenv("SEMCORE_TOKEN", "from outside")
    assert read_token(None) == "from outside"
    (tmp_path / "token").write_text("secret\n")
    assert read_token(tmp_path / "token") == "secret"
    (tmp_path / "token").write_text("two words\n")
    with pytest.raises(UserError, match="must hold one word of ASCII letters and digits, the token$"):
        read_token(tmp_path / "token")
    with pytest.raises(UserError, match="cannot be read: No such file or directory$"):
        read_token(tmp_path / "no")


def half_done(run: Path) -> str:
    shutil.rmtree(run / "identifier_model")
    return "no model in .*identifier_model"


def without_identifiers(run: Path) -> str:
    shutil.rmtree(run / "identifiers")
    return "there is no file .*t2i.jsonl"


def of_an_older_version(run: Path) -> str:
    """Break the record as a version wrote it that knew no lineage."""
    manifest = read_json(run / "manifest.json")
    manifest.pop("data")
    write_json(run / "manifest.json", manifest)
    return "holds no run yet; begin with"


@pytest.mark.parametrize("breaks", [half_done, without_identifiers, of_an_older_version])
def test_a_run_that_cannot_be_searched_is_refused(
    semcore: Any, searchable_run: Any, breaks: Callable[[Path], str]
) -> None:
    sentence = breaks(searchable_run.run)
    code, output, errors = semcore("serve", "--run", str(searchable_run.run), "--port", "0", "--device", "cpu")
    assert (code, output) == (2, "")
    last = errors.splitlines()[-1]
    assert last.startswith("error: ") and re.search(sentence, last)
    assert "Traceback" not in errors


@contextmanager
def server(run: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Start the server on a free port."""
    process = subprocess.Popen(
        [sys.executable, "-m", "semcore.commands.cli", "serve", "--run", str(run), "--port", "0", "--device", "cpu",
         "--split", "test", *options],
        cwd=ROOT,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
        env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None and process.stderr is not None
        line = process.stdout.readline()
        found = re.fullmatch(r"serve: http://127.0.0.1:(\d+) searches 6 images, 30 sentences; Ctrl-C ends it\n", line)
        assert found, line
        yield process, int(found[1])
    finally:
        process.kill()
        process.communicate()


def search(port: int, text: str) -> list[str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("POST", "/search", json.dumps({"text": text}), {"Content-Type": "application/json"})
    return [hit["item_id"] for hit in json.loads(connection.getresponse().read())["hits"]]


@pytest.mark.slow
def test_a_server_ends_when_told_to_and_answers_what_it_has(searchable_run: Any) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        with server(searchable_run.run) as (process, port):
            found: list[Any] = []

            def client(port: int = port, found: list[Any] = found) -> None:
                found.append(search(port, "a red circle"))

            clients = [threading.Thread(target=client) for _ in range(8)]
            for each in clients:
                each.start()
            while not found and any(each.is_alive() for each in clients):
                time.sleep(0.01)
            assert found, "no client was answered"
            process.send_signal(number)
            output, errors = process.communicate(timeout=300)
            for each in clients:
                each.join(60)
        assert len(found) == 8 and all(hits == found[0] for hits in found)
        assert process.returncode == (0 if number == signal.SIGINT else -signal.SIGTERM)
        assert output == ("serve: stopped\n" if number == signal.SIGINT else "") and "Traceback" not in errors


@pytest.mark.slow
def test_a_killed_server_leaves_no_client_hanging_and_starts_again(searchable_run: Any) -> None:
    with server(searchable_run.run) as (process, port):
        expected = search(port, "a red circle")
        outcomes: list[str] = []

        def client() -> None:
            try:
                while True:
                    assert search(port, "a red circle") == expected
            except (OSError, http.client.HTTPException) as error:
                outcomes.append(type(error).__name__)

        clients = [threading.Thread(target=client) for _ in range(8)]
        for each in clients:
            each.start()
        time.sleep(1)
        process.kill()
        for each in clients:
            each.join(60)
        assert len(outcomes) == 8
    with server(searchable_run.run) as (_, port):
        assert search(port, "a red circle") == expected
