"""Faults around `semcore serve`: what is asked while something goes wrong, how much of it is lost, and what comes next.

    python -m benchmarks.serving_faults --run runs/quickstart
    python -m benchmarks.serving_faults --run runs/quickstart --json serving_faults.json

`ours` is the number of requests that got neither an answer nor a clear refusal; the note has what they got instead, and
the seconds until the next query was answered. One server has all faults after each other.
"""

from __future__ import annotations

import base64
import http.client
import io
import json
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from benchmarks.report import Row, not_run, publish
from benchmarks.serving import Client, sentences_of, served
from semcore.commands.arguments import require_minimum, run_command
from semcore.data.run_folder import RunFolder
from semcore.serving.limits import MIB

ANSWER_S = 120.0
CLEAR = {200, 408, 413, 415, 422, 429, 503, 504, 507}
"""Statuses that say what has become of a request."""


@dataclass
class Settings:
    """What is measured."""

    run: Path
    """A trained run, which is served."""
    data: Path | None = None
    """Where the dataset is now, should it have moved."""
    split: str = "test"
    """The split whose items are searched, and whose sentences are the queries."""
    queued: int = 1000
    """Requests at once, many more than may wait."""
    json: Path | None = None
    """Save the rows in this file."""

    def __post_init__(self) -> None:
        require_minimum(1, self, "queued")


class Outcome(NamedTuple):
    """What has become of the requests of a fault: status to number; 0 stands for no reply at all."""

    statuses: Counter[int]
    note: str = ""

    @property
    def num_lost(self) -> int:
        """Return the number of requests that got no answer and no clear refusal."""
        return sum(number for status, number in self.statuses.items() if status not in CLEAR)


Fault = Callable[[int, Sequence[str]], Outcome]


def main(settings: Settings) -> None:
    """Do everything wrong, one after the other."""
    texts = sentences_of(settings.run, settings.data, settings.split)
    options = ["--run", str(settings.run), "--split", settings.split]
    options += [] if settings.data is None else ["--data", str(settings.data)]
    faults: dict[str, Fault] = {
        "clients that go": clients_that_go,
        "a body over the limit": lambda port, _: replies(port, [b"x" * (17 * MIB)]),
        "broken bodies": lambda port, _: replies(port, [b"", b"{", b"[]", b"\xc3(", b"[" * 100_000, b'{"text": 7}']),
        "a sentence of 100,000 letters": lambda port, _: replies(port, [body_of("x" * 100_000)]),
        "a picture of 100 megapixels": lambda port, _: replies(port, [body_of(image=picture(10_000, 10_000))]),
        "a decompression bomb": lambda port, _: replies(port, [body_of(image=picture(30_000, 20_000))]),
        f"{settings.queued:,} requests at once": lambda port, own: at_once(port, own, settings.queued),
    }
    found = []
    with served(options, texts[0]) as (port, _, _):
        for name, fault in faults.items():
            found.append(row_of(name, port, texts, fault))
    found.append(disk_full(settings.run, settings.data))
    found.append(killed(options, texts))
    publish(found, settings.json, queued=settings.queued)


def row_of(name: str, port: int, texts: Sequence[str], fault: Fault) -> Row:
    """Do one thing wrong, and ask the next query."""
    outcome = fault(port, texts)
    before = time.perf_counter()
    Client(port).search(texts[0])
    next_s = time.perf_counter() - before
    counts = ", ".join(f"{number} x {status}" for status, number in sorted(outcome.statuses.items()))
    note = "; ".join(filter(None, (counts, outcome.note, f"next answer after {next_s:.2f} s")))
    return Row(name, float(outcome.num_lost), None, None, "requests lost", note)


def body_of(text: str = "", image: bytes | None = None) -> bytes:
    """Return the body of a search."""
    query = {"text": text} if image is None else {"image": base64.b64encode(image).decode()}
    return json.dumps(query).encode()


def picture(width: int, height: int) -> bytes:
    """Return a white PNG, which is small as a file."""
    buffer = io.BytesIO()
    Image.new("1", (width, height), 1).save(buffer, "PNG")
    return buffer.getvalue()


def status_of(port: int, content: bytes) -> int:
    """Return the status of a search, 0 for no reply."""
    try:
        return Client(port).post("/search", content)[0]
    except (OSError, http.client.HTTPException):
        return 0


def replies(port: int, bodies: Sequence[bytes]) -> Outcome:
    """Send bodies one after the other."""
    return Outcome(Counter(status_of(port, content) for content in bodies))


def at_once(port: int, texts: Sequence[str], num_requests: int) -> Outcome:
    """Send many requests at the same time, each over a connection of its own."""
    statuses: list[int] = []
    threads = [
        threading.Thread(target=lambda text=text: statuses.append(status_of(port, body_of(text))))
        for text in (texts[number % len(texts)] for number in range(num_requests))
    ]
    before = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Outcome(Counter(statuses), f"all within {time.perf_counter() - before:.1f} s")


def clients_that_go(port: int, texts: Sequence[str]) -> Outcome:
    """Ask a hundred times and go; then one client that stays."""
    for number in range(100):
        content = body_of(texts[number % len(texts)])
        head = (
            f"POST /search HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n"
        )
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(head.encode() + b"\r\n" + content)
    stays = status_of(port, body_of(texts[0]))
    return Outcome(Counter([stays]), "after 100 that had gone")


def disk_full(run: Path, data: Path | None) -> Row:
    """Add an image while the disk of the run's corpus has no room, in a copy of the run, then search."""
    name = "disk full while an item is added"
    with tempfile.TemporaryDirectory() as folder:
        own, small = Path(folder) / "run", Path(folder) / "run" / "corpus"
        shutil.copytree(run, own, ignore=shutil.ignore_patterns("corpus", "data", ".lock", "*.lock"))
        small.mkdir()
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(small)], capture_output=True)
        if mounted.returncode:
            return not_run(name, f"a small disk cannot be made here ({mounted.stderr.decode().strip()})")
        try:
            place = data or RunFolder(run).data_folder()
            with served(["--run", str(own), "--data", str(place)], "a red circle") as (port, _, _):
                picture = Image.effect_noise((400, 400), 50).convert("RGB")
                return row_of(name, port, ["a red circle"], lambda port, _: add_one(port, picture))
        finally:
            subprocess.run(["umount", "-l", str(small)], check=True)


def add_one(port: int, picture: Image.Image) -> Outcome:
    """Add one image of some hundred KB."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    item = {"image_id": "new", "image": base64.b64encode(buffer.getvalue()).decode(), "caption": "noise"}
    status, content = Client(port).post("/items", json.dumps({"items": [item]}).encode())
    return Outcome(Counter([status]), str(json.loads(content).get("error", "")))


def killed(options: Sequence[str], texts: Sequence[str]) -> Row:
    """Kill the server under load; clients have to notice at once, and the next server has to answer."""
    noticed: list[float] = []
    ended: list[float] = []

    def client(port: int) -> None:
        own = Client(port)
        try:
            while True:
                own.search(texts[0])
        except (OSError, http.client.HTTPException):
            noticed.append(time.perf_counter())

    with served(options, texts[0]) as (port, _, process):
        threads = [threading.Thread(target=client, args=(port,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        time.sleep(2)
        process.kill()
        ended.append(time.perf_counter())
        for thread in threads:
            thread.join(ANSWER_S)
    with served(options, texts[0]) as (_, first_answer_s, _):
        note = (
            f"8 clients noticed within {max(noticed) - ended[0]:.2f} s; the next server answered after "
            f"{first_answer_s:.1f} s"
        )
    return Row("server killed (uvicorn)", float(len(threads) - len(noticed)), None, None, "clients hanging", note)


if __name__ == "__main__":
    run_command(main, Settings)
