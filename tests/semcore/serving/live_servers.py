"""A run that needs no model, and servers on real sockets, in a thread of the test's process."""

from __future__ import annotations

import base64
import http.client
import io
import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from semcore.data.corpus_changes import AddedImage
from semcore.data.dataset import Sentence
from semcore.data.directions import Direction
from semcore.data.identifier_files import make_row
from semcore.data.new_images import NewImage
from semcore.retrieval.corpus_updates import Addition
from semcore.retrieval.hits import Hit, NoMatchBasis
from semcore.serving.app import create_app
from semcore.serving.backend import LocalBackend
from semcore.serving.limits import Limits
from semcore.serving.queries import Answer, ItemRecord, ServedQuery
from semcore.serving.service import Service
from semcore.serving.uvicorn_engine import _Server, make_config, take_port

HTML = "<script>alert('x')</script> & <b>\"bold\"</b>"


@dataclass
class FakeRun:
    """Answers every query with the query itself; a batch takes some time, and can be held back."""

    seconds: float = 0.0
    is_stale: bool = False
    batches: list[int] = field(default_factory=list)
    go_on: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.go_on.set()

    def answer(self, queries: Sequence[ServedQuery]) -> list[Answer | Exception]:
        self.go_on.wait(60)
        time.sleep(self.seconds)
        self.batches.append(len(queries))
        return [self._answer(query) for query in queries]

    def _answer(self, query: ServedQuery) -> Answer | Exception:
        if query.text == "nothing":
            basis = NoMatchBasis("log_sum_exp", 1.5, 2.25)
            return Answer([Hit(f"i{n}", -n, "a red circle", 0.5, None, None, True, basis) for n in range(query.top_k)])
        if query.text == "fail":
            return RuntimeError("it failed")
        if query.picture is not None:
            return Answer([Hit(f"s{n}", -n, "<|cluster_1|>red", None, HTML) for n in range(min(query.top_k, 3))])
        hits = [Hit(f"i{n}", -n, query.text or "", 0.5, None, Path("x.png")) for n in range(min(query.top_k, 3))]
        return Answer(hits, ("a note",), ({"why": "because"},) * len(hits) if query.explain else ())

    def item(self, item_id: str) -> ItemRecord | None:
        if item_id not in ("i0", "s0", "a/b"):
            return None
        direction = Direction.T2I if item_id == "i0" else Direction.I2T
        return ItemRecord(item_id, direction, "i0", "<|cluster_1|>red", "red", None if item_id == "i0" else HTML)

    def image_path(self, image_id: str) -> Path | None:
        return None

    def refresh(self) -> None:
        self.is_stale = False

    def num_items(self) -> dict[Direction, int]:
        return {Direction.T2I: 1, Direction.I2T: 2}


class FakeKeeper:
    """Takes every image but those whose id begins with "left"."""

    def add(self, images: Sequence[NewImage]) -> Addition:
        left_out = {own.image_id: "no caption" for own in images if own.image_id.startswith("left")}
        taken = [own for own in images if own.image_id not in left_out]
        return Addition([added(own) for own in taken], [], left_out, 1)

    def remove(self, item_ids: Sequence[str]) -> int:
        return 1


def added(image: NewImage) -> AddedImage:
    said = tuple(Sentence(f"{image.image_id}-{n}", str(text)) for n, text in enumerate(image.sentences))
    row = make_row(image.image_id, "added", 1, ["red"])
    return AddedImage(image.image_id, "x.png", "", "", image.caption or "written", row, said, ())


def service_of(run: Any, limits: Limits | None = None, token: str | None = None, keeper: Any = None) -> Service:
    limits, keeper = limits or Limits(), keeper or FakeKeeper()
    return Service("fake", lambda metrics: LocalBackend(run, keeper, limits, metrics.observe_batch), limits, token)


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    content: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.content)


@dataclass
class Live:
    """A server that is running."""

    port: int
    service: Service

    def ask(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None, timeout: float = 60
    ) -> Reply:
        """Send one request; what is no bytes goes as JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
            connection.request(method, path, content, {"Content-Type": "application/json", **(headers or {})})
            response = connection.getresponse()
            return Reply(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    def search(self, **body: Any) -> Reply:
        return self.ask("POST", "/search", body)


@contextmanager
def running(service: Service) -> Iterator[Live]:
    """Run the application on a free port, and end it with all that waits answered."""
    taken = take_port("127.0.0.1", 0)
    taken.listen(2048)
    ready = threading.Event()
    server = _Server(make_config(create_app(service), 5), ready.set)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [taken]}, daemon=True)
    thread.start()
    assert ready.wait(60)
    try:
        yield Live(taken.getsockname()[1], service)
    finally:
        server.should_exit = True
        thread.join(60)
        taken.close()
        assert not thread.is_alive(), "the server hangs"


def picture_base64(size: tuple[int, int] = (32, 32), colour: str = "red") -> str:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()
