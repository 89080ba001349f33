"""Requests to a server of OpenAI's protocol (vLLM, lmdeploy, `transformers serve`, ...), with retries.

What may pass is tried again with growing pauses: no answer, a slow one, a cut connection, an answer that is no
answer, status 408, 429 and 500 and above. Only a server that refuses the client ends the job.

The clients of openai and huggingface_hub would spare some twenty of these lines only: the pauses have to end when the
job does, the sentences name our options, and answers are read as they came (thoughts and refusals are told by fields
that the clients' classes leave out).
"""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any, TypeVar
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, Request, build_opener

from semcore.runtime.errors import UserError
from semcore.runtime.text import clean_text

T = TypeVar("T")

MAX_PAUSE_S = 60.0
MAX_ANSWER_BYTES = 1 << 24
WRONG_KEY = (401, 403)
WRONG_PLACE = (404, 405)  # as with a wrong key, no other question will fare better
PASSING = (408, 429)  # and all from 500


@dataclass(frozen=True)
class Server:
    """A server and how requests are sent to it.

    Attributes:
        url: its address, with or without /v1.
        model: the name under which it serves the model.
        max_new_tokens: a longer caption is cut off by it.
        api_key: sent as a bearer token; empty for none.
        timeout_s: seconds without a sign of life that count as no answer.
        max_attempts: how often one image is asked for.
        first_pause_s: seconds before the second attempt; each further pause is twice as long.
    """

    url: str
    model: str
    max_new_tokens: int
    api_key: str = ""
    timeout_s: float = 120.0
    max_attempts: int = 6
    first_pause_s: float = 1.0

    @property
    def base(self) -> str:
        """Return the address that the paths of the protocol are added to."""
        url = self.url.rstrip("/")
        return url if url.endswith("/v1") else f"{url}/v1"


class TryAgain(Exception):
    """What went wrong may pass; `pause_s` is what the server asks for."""

    def __init__(self, reason: str, pause_s: float = 0.0):
        super().__init__(reason)
        self.pause_s = pause_s


class Failed(Exception):
    """This question gets no answer: the server said so."""


class GaveUp(Failed):
    """This question gets no answer: all attempts are used up."""


def check_server(server: Server) -> None:
    """Look whether the server is there and serves the model.

    Raises:
        UserError: it does not answer, or serves others only.
    """
    try:
        answer = ask(server, "models", None, lambda given: given, threading.Event())
    except GaveUp as reason:
        raise UserError(f"the server {server.url} cannot be asked: {reason}; check --server") from None
    except Failed:
        return  # it answers, and only does not list its models
    entries = answer.get("data") if isinstance(answer, dict) else None
    names = [str(entry.get("id")) for entry in entries or [] if isinstance(entry, dict)]
    if names and server.model not in names:
        raise UserError(f"the server {server.url} does not serve {server.model!r}; --model takes {', '.join(names)}")


def ask(server: Server, path: str, body: dict[str, Any] | None, read: Callable[[Any], T], stop: threading.Event) -> T:
    """Ask until there is an answer, or all attempts are used up.

    Args:
        server: the server to ask.
        path: of the protocol, "chat/completions" say.
        body: of a POST request; None for a GET.
        read: takes the answer apart, and raises `TryAgain` where it is no answer.
        stop: set where nobody waits for the answer any more.

    Raises:
        Failed: this question gets no answer.
        UserError: no question will ever be answered.
    """
    reason = ""
    for attempt in range(server.max_attempts):
        try:
            return read(_ask(server, path, body))
        except TryAgain as error:
            reason = str(error)
            pause = min(server.first_pause_s * 2**attempt, MAX_PAUSE_S) * random.uniform(0.5, 1.0)
            pause = min(max(pause, error.pause_s), MAX_PAUSE_S)
        if attempt + 1 < server.max_attempts and stop.wait(pause):
            break
    raise GaveUp(f"{reason}, {server.max_attempts} times")


def _ask(server: Server, path: str, body: dict[str, Any] | None) -> Any:
    """Ask once.

    Raises:
        TryAgain: what went wrong may pass.
        Failed: this question will never be answered.
        UserError: no question will ever be answered.
    """
    headers = {"Content-Type": "application/json"}
    if server.api_key:
        headers["Authorization"] = f"Bearer {server.api_key}"
    data = None if body is None else json.dumps(body).encode()
    request = Request(f"{server.base}/{path}", data=data, headers=headers)
    local = urlsplit(server.url).hostname in ("localhost", "127.0.0.1", "::1")
    opener = build_opener(ProxyHandler({})) if local else build_opener()
    try:
        with opener.open(request, timeout=server.timeout_s) as response:
            return json.loads(response.read(MAX_ANSWER_BYTES))
    except HTTPError as error:
        raise _by_status(server, error, asks_for_models=body is None) from None
    except (TimeoutError, URLError, HTTPException, OSError) as error:
        raise TryAgain(_in_words(error, server)) from None
    except ValueError:  # no JSON, or no text
        raise TryAgain("the answer is no JSON") from None


def _by_status(server: Server, error: HTTPError, *, asks_for_models: bool) -> Exception:
    """Return what a status means."""
    status, said = error.code, _said(error)
    if status in PASSING or status >= 500:
        wait = error.headers.get("Retry-After", "")
        return TryAgain(f"status {status}{said}", float(wait) if wait.isdigit() else 0.0)
    if status in WRONG_KEY or (status in WRONG_PLACE and not asks_for_models):
        hint = "check --api-key-variable" if status in WRONG_KEY else "check --server and --model"
        return UserError(f"the server {server.url} refuses with status {status}{said}; {hint}")
    return Failed(f"status {status}{said}")


def _said(error: HTTPError) -> str:
    """Return the beginning of what the server says of an error."""
    try:
        text = error.read(2_000).decode("utf-8", errors="replace")
    except (OSError, HTTPException):
        return ""
    words = clean_text(text)[:200]
    return f" ({words})" if words else ""


def _in_words(error: Exception, server: Server) -> str:
    reason = error.reason if isinstance(error, URLError) else error
    if isinstance(reason, TimeoutError):
        return f"no answer within {server.timeout_s:g} s"
    if isinstance(reason, ConnectionRefusedError):
        return "the connection is refused"
    if isinstance(reason, ConnectionError | HTTPException):
        return "the connection was cut"
    return str(reason) or type(reason).__name__
