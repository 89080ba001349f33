"""A server of OpenAI's protocol on this machine whose answers, and faults, a test writes."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Script = Callable[[int, bytes], Any]
"""(attempt at this image from 1, the image's bytes) -> what `ChatServer` does: see `_act`."""


@dataclass
class ChatServer:
    """What a test sees of the server: its address, what was asked, and how many requests ran at once."""

    url: str = ""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    attempts: Counter[bytes] = field(default_factory=Counter)
    most_at_once: int = 0
    at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


@contextmanager
def chat_server(script: Script, models: Any = ("tiny",)) -> Iterator[ChatServer]:
    """Run a server in a thread.

    Args:
        script: the caption's text, ("cut", text) for one that ran out of tokens, a status number, a
            (status, headers) pair ("said" among the headers is the content), "hang up", "half", "hang", or
            ("raw", bytes).
        models: the names it lists, or a status number.
    """
    state = ChatServer()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            return None

        def do_GET(self) -> None:
            if isinstance(models, int):
                return self.say(models, b"no")
            return self.say(200, json.dumps({"data": [{"id": name} for name in models]}).encode())

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            url = next(part for part in body["messages"][0]["content"] if part["type"] == "image_url")["image_url"][
                "url"
            ]
            image = base64.b64decode(url.partition(",")[2])
            with state.lock:
                state.bodies.append(body)
                state.keys.append(self.headers.get("Authorization"))
                state.attempts[image] += 1
                attempt = state.attempts[image]
                state.at_once += 1
                state.most_at_once = max(state.most_at_once, state.at_once)
            try:
                self.act(script(attempt, image))
            finally:
                with state.lock:
                    state.at_once -= 1

        def act(self, action: Any) -> None:
            match action:
                case int(status):
                    self.say(status, b"out of order")
                case int(status), dict(headers):
                    self.say(status, headers.pop("said", "busy").encode(), headers)
                case "hang up":
                    self.connection.close()
                case "half":
                    self.say(200, b'{"choices"', {"Content-Length": "1000"})
                case "hang":
                    time.sleep(1.0)
                case "raw", bytes(content):
                    self.say(200, content)
                case "cut", str(text):
                    self.say(200, answer(text, "length"))
                case str(text):
                    self.say(200, answer(text, "stop"))

        def say(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 64

        def handle_error(self, *_: Any) -> None:
            return None  # the client hung up, as it may

    with Quiet(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        state.url = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield state
        finally:
            server.shutdown()
            thread.join()


def answer(text: str, reason: str) -> bytes:
    """Return an answer in the protocol's form."""
    message = {"role": "assistant", "content": text}
    return json.dumps({"choices": [{"message": message, "finish_reason": reason}]}).encode()
