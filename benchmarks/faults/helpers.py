"""Surroundings of some stages: a server that captions, and a client that adds images to a served run."""

from __future__ import annotations

import base64
import hashlib
import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from benchmarks.serving import Client, served
from semcore.data.dataset import load_dataset

COLOURS = ("red", "green", "blue", "yellow", "purple", "orange")
SHAPES = ("circle", "square", "triangle", "star", "ring", "cross")
MODEL = "words"


@contextmanager
def caption_server() -> Iterator[str]:
    """Serve captions that depend on an image's bytes alone, by OpenAI's protocol; yield the address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Captions) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()


class _Captions(BaseHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        return None

    def do_GET(self) -> None:
        self._say({"data": [{"id": MODEL}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        parts = body["messages"][0]["content"]
        url = next(part["image_url"]["url"] for part in parts if part["type"] == "image_url")
        number = int(hashlib.sha256(base64.b64decode(url.partition(",")[2])).hexdigest(), 16)
        words = f"a {COLOURS[number % 6]} {SHAPES[number // 6 % 6]} and a {COLOURS[number // 36 % 6]} ring"
        self._say({"choices": [{"message": {"role": "assistant", "content": words}, "finish_reason": "stop"}]})

    def _say(self, content: Any) -> None:
        answer = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)


def add_over_http(run: Path, images: Path, items_a_request: int = 4) -> None:
    """Serve a run, add the images of a dataset folder to it in some requests; those that are there stay."""
    records = load_dataset(images).images
    items = [
        {
            "image_id": own.image_id,
            "image": base64.b64encode((images / own.file_name).read_bytes()).decode(),
            "sentences": [sentence.text for sentence in own.sentences[:2]],
            "caption": own.sentences[0].text,
        }
        for own in records
    ]
    with served(["--run", str(run)], "a red circle") as (port, _, _):
        client = Client(port)
        for first in range(0, len(items), items_a_request):
            content = json.dumps({"items": items[first : first + items_a_request]}).encode()
            status, answer = client.post("/items", content)
            if status >= 300:
                sys.stderr.write(f"error: {json.loads(answer)['error']}\n")
                sys.exit(2)


if __name__ == "__main__":
    add_over_http(Path(sys.argv[1]), Path(sys.argv[2]))
