"""Load on `semcore serve`: seconds to the first answer, and queries a second with p50 and p99 at several clients.

    python -m benchmarks.serving --run runs/quickstart
    python -m benchmarks.serving --run runs/quickstart --clients [1,8,32] --seconds 30 --json serving.json

Every client is a thread with a connection of its own, and sends its next query when the last one is answered. The peer
is the same server with batches of one query (`--limits.max-batch 1`), so that queries are searched one at a time; the
two run in turn. Queries are the dataset's sentences, each client's in an order of its own; the first of every
client does not count. The first answer is measured from the start of the process, models and index loaded.
"""

from __future__ import annotations

import http.client
import itertools
import json
import os
import random
import re
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.report import Row, higher_is_better, lower_is_better, publish
from semcore.commands.arguments import require_minimum, run_command
from semcore.data.dataset import load_dataset
from semcore.data.run_folder import RunFolder
from semcore.runtime.errors import UserError

START_S = 300.0
_PORT = re.compile(r"http://[\w.]+:(\d+) ")


@dataclass
class Settings:
    """What is measured."""

    run: Path
    """A trained run, which is served."""
    data: Path | None = None
    """Where the dataset is now, should it have moved."""
    clients: list[int] = field(default_factory=lambda: [1, 8, 32])
    """Numbers of clients at once."""
    seconds: float = 20.0
    """Seconds of load for each number of clients and each side."""
    repeats: int = 3
    """Rounds, ours and the peer's in turn; the median counts."""
    split: str = "test"
    """The split whose items are searched, and whose sentences are the queries."""
    json: Path | None = None
    """Save the rows in this file."""

    def __post_init__(self) -> None:
        require_minimum(1, self, "repeats")
        if not self.clients or min(self.clients) < 1:
            raise UserError(f"--clients takes numbers from 1 on, found {self.clients}")


class Load(NamedTuple):
    """What clients have seen: queries a second, and the seconds of each answer."""

    rate: float
    seconds: list[float]


def main(settings: Settings) -> None:
    """Measure both sides in turn."""
    texts = sentences_of(settings.run, settings.data, settings.split)
    options = ["--run", str(settings.run), "--split", settings.split]
    options += [] if settings.data is None else ["--data", str(settings.data)]
    first_answers: list[float] = []
    loads: dict[tuple[int, str], list[Load]] = {}
    for _ in range(settings.repeats):
        for side, more in (("ours", []), ("peer", ["--limits.max-batch", "1"])):
            with served([*options, *more], texts[0]) as (port, first_answer_s, _):
                first_answers += [first_answer_s] if side == "ours" else []
                for num_clients in settings.clients:
                    load = put_under_load(port, texts, num_clients, settings.seconds)
                    loads.setdefault((num_clients, side), []).append(load)
    publish(rows(first_answers, loads), settings.json, repeats=settings.repeats, seconds=settings.seconds)


def sentences_of(run: Path, data: Path | None, split: str) -> list[str]:
    """Return the sentences of a split.

    Raises:
        UserError: there is none.
    """
    records = load_dataset(data or RunFolder(run).data_folder()).split(split)
    texts = [sentence.text for record in records for sentence in record.sentences]
    if not texts:
        raise UserError(f"split {split} has no sentence to search with; choose another --split")
    return texts


@contextmanager
def served(options: Sequence[str], text: str) -> Iterator[tuple[int, float, subprocess.Popen[str]]]:
    """Start `semcore serve` on a free port, and yield its port, the seconds to its first answer, and its process.

    Raises:
        UserError: it ends before it answers.
    """
    begun = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "semcore.commands.cli", "serve", "--port", "0", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    try:
        line = process.stdout.readline() if process.stdout is not None else ""
        found = _PORT.search(line)
        if found is None:
            reason = process.stderr.read() if process.stderr is not None else ""
            raise UserError(f"semcore serve ended: {reason.strip()[-500:]}")
        port = int(found[1])
        Client(port).search(text)
        yield port, time.perf_counter() - begun, process
    finally:
        process.terminate()
        process.communicate(timeout=START_S)


class Client:
    """A client with one connection, which stays open."""

    def __init__(self, port: int):
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=START_S)

    def search(self, text: str) -> Any:
        """Return the answer to a query.

        Raises:
            UserError: there is none.
        """
        status, content = self.post("/search", json.dumps({"text": text}).encode())
        if status != 200:
            raise UserError(f"the server answers {status}: {content.decode(errors='replace')}")
        return json.loads(content)

    def post(self, path: str, content: bytes) -> tuple[int, bytes]:
        """Send a body, and return the status and the answer."""
        self._connection.request("POST", path, content, {"Content-Type": "application/json"})
        response = self._connection.getresponse()
        return response.status, response.read()


def put_under_load(port: int, texts: Sequence[str], num_clients: int, seconds: float) -> Load:
    """Let clients ask for some seconds; all have their first answer before the time begins."""
    taken: list[list[float]] = [[] for _ in range(num_clients)]
    failures: list[Exception] = []
    begin = threading.Barrier(num_clients + 1)

    def run(number: int) -> None:
        own = random.Random(number).sample(list(texts), len(texts))
        client = Client(port)
        try:
            client.search(own[0])
            begin.wait()
            end = time.perf_counter() + seconds
            for text in itertools.cycle(own):
                before = time.perf_counter()
                if before > end:
                    return
                client.search(text)
                taken[number].append(time.perf_counter() - before)
        except Exception as error:
            failures.append(error)
            begin.abort()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(num_clients)]
    for thread in threads:
        thread.start()
    with suppress(threading.BrokenBarrierError):
        begin.wait()
    begun = time.perf_counter()
    for thread in threads:
        thread.join()
    if failures:
        raise UserError(f"a client failed: {failures[0]}")
    answered = [each for own in taken for each in own]
    return Load(len(answered) / (time.perf_counter() - begun), answered)


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that a share of the values, 0 to 1, does not exceed."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def rows(first_answers: Sequence[float], loads: dict[tuple[int, str], list[Load]]) -> list[Row]:
    """Return the rows: the first answer, then three for every number of clients."""
    note = f"{min(first_answers):.2f} to {max(first_answers):.2f}"
    found = [lower_is_better("first answer", round(statistics.median(first_answers), 3), None, "seconds", note)]
    for num_clients in dict.fromkeys(number for number, _ in loads):
        own, other = loads[num_clients, "ours"], loads[num_clients, "peer"]
        name = f"{num_clients} client{'s' * (num_clients > 1)}"
        rates = [round(statistics.median(load.rate for load in side), 2) for side in (own, other)]
        num_answers = sum(len(load.seconds) for load in own)
        found.append(
            higher_is_better(f"{name}, rate", rates[0], rates[1], "queries/s", f"{num_answers} answers of ours")
        )
        for title, share in (("p50", 0.5), ("p99", 0.99)):
            both = [round(percentile([s for load in side for s in load.seconds], share), 4) for side in (own, other)]
            found.append(lower_is_better(f"{name}, {title}", both[0], both[1], "seconds"))
    return found


if __name__ == "__main__":
    run_command(main, Settings)
