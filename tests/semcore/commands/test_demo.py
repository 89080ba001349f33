from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from semcore.commands import demo
from semcore.runtime.files import read_json, write_json
from tests.conftest import ROOT
from tests.run_fixtures import SearchableRun
from tests.semcore.demo.conftest import free_port

pytest.importorskip("gradio")


def said(semcore: Any, *arguments: object) -> str:
    """Return the sentence with which a demo is refused."""
    code, out, error = semcore("demo", *map(str, arguments))
    assert (code, out, error.count("\n")) == (2, "", 1), error
    return error.removeprefix("error: ").rstrip("\n")


def test_without_gradio_the_extra_is_named(semcore: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "find_spec", lambda name: None)
    sentence = "the search page takes gradio, which is not installed; pip install 'semcore[demo]'"
    assert said(semcore, "--run", "r") == sentence


@pytest.mark.parametrize("port", [0, -1, 65_536])
def test_a_port_out_of_range_is_named(semcore: Any, port: int) -> None:
    assert said(semcore, "--run", "r", f"--port={port}") == f"--port must be from 1 to 65535, found {port}"


def test_a_port_in_use_is_named_before_anything_is_loaded(semcore: Any) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        sentence = said(semcore, "--run", "no run at all", "--port", port)
    assert sentence.startswith(f"port {port} of 127.0.0.1 is in use; choose another with --port, such as ")


def test_a_run_half_done_is_told_what_to_do_next(semcore: Any, searchable_run: SearchableRun, tmp_path: Path) -> None:
    shutil.rmtree(searchable_run.run / "identifier_model")
    sentence = said(semcore, "--run", searchable_run.run, "--port", free_port())
    assert sentence.startswith(f"there is no model in {searchable_run.run / 'identifier_model'}; train it with `")


def test_a_run_of_another_version_is_refused(semcore: Any, searchable_run: SearchableRun) -> None:
    path = searchable_run.run / "identifier_model" / "prompts.json"
    write_json(path, dict.fromkeys(read_json(path), "0" * 64))
    assert "was made with" in said(semcore, "--run", searchable_run.run, "--port", free_port())


def test_a_run_without_items_is_refused(semcore: Any, searchable_run: SearchableRun) -> None:
    for name in ("t2i", "i2t"):
        path = searchable_run.run / "identifiers" / f"{name}.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows if row["split"] != "val"))
    sentence = said(
        semcore, "--run", searchable_run.run, "--split", "val", "--port", free_port(),
        "--allow-mismatch", "identifiers",
    )  # fmt: skip
    assert sentence == "there is no item to search; choose another --split, or make identifiers for it"


@pytest.mark.slow
def test_the_command_serves_until_it_is_interrupted(searchable_run: SearchableRun) -> None:
    """Also where a proxy is set, which cannot reach this machine's own address."""
    port = free_port()
    command = [sys.executable, "-m", "semcore.commands.cli", "demo", "--run", searchable_run.run, "--port", port]
    environment = {**os.environ, "HTTP_PROXY": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"}
    environment.pop("NO_PROXY", None)
    with subprocess.Popen(
        list(map(str, command)), cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    ) as process:  # fmt: skip
        assert process.stdout is not None and process.stderr is not None
        line = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=300)
    assert line == f"demo: {searchable_run.run} is searched at http://127.0.0.1:{port}/; Ctrl+C ends it\n", errors
    assert (process.returncode, rest) == (0, "demo: ended\n"), errors
    assert "Traceback" not in errors


def test_who_serves_others_is_told(
    semcore: Any, searchable_run: SearchableRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "_wait", lambda ended: None)
    code, out, errors = semcore(
        "demo", "--run", str(searchable_run.run), "--host", "0.0.0.0", "--port", str(free_port())
    )
    assert code == 0, errors
    assert "whoever reaches this machine can search it" in out
