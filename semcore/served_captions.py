"""Captions written by a server that speaks OpenAI's protocol: vLLM, lmdeploy, `transformers serve`, ...

Several images are asked for at once. What may pass is tried again with growing pauses: no answer, a slow one,
a cut connection, an answer that is no answer, status 408, 429 and 500 and above. What remains is said of the one
image it concerns; only a server that answers for none of a batch, or refuses the client, ends the job.
"""

from __future__ import annotations

import base64
import io
import json
import random
import re
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, Request, build_opener

from PIL import Image

from semcore.captioning import Caption
from semcore.dataset import open_image
from semcore.errors import UnreadableImage, UserError
from semcore.prompting import IMAGE

MAX_SIDE = 1344  # pixels: three tiles of InternVL's 448; larger images are made smaller
MAX_PAUSE_S = 60.0
MAX_ANSWER_BYTES = 1 << 24
WRONG_KEY = (401, 403)
WRONG_PLACE = (404, 405)  # as with a wrong key, no other image will fare better
PASSING = (408, 429)  # and all from 500
ORIENTATION = 274  # EXIF tag
_NO_TEXT = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Server:
    """How a server is asked.

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


class _TryAgain(Exception):
    """What went wrong may pass; `pause_s` is what the server asks for."""

    def __init__(self, reason: str, pause_s: float = 0.0):
        super().__init__(reason)
        self.pause_s = pause_s


class _Failed(Exception):
    """This question gets no answer: the server said so."""


class _GaveUp(_Failed):
    """This question gets no answer: all attempts are used up."""


def check_server(server: Server) -> None:
    """Look whether the server is there and serves the model.

    Raises:
        UserError: it does not answer, or serves others only.
    """
    try:
        answer = _patiently(server, threading.Event(), "models", None)
    except _GaveUp as reason:
        raise UserError(f"the server {server.url} cannot be asked: {reason}; check --server") from None
    except _Failed:
        return  # it answers, and only does not list its models
    entries = answer.get("data") if isinstance(answer, dict) else None
    names = [str(entry.get("id")) for entry in entries or [] if isinstance(entry, dict)]
    if names and server.model not in names:
        raise UserError(f"the server {server.url} does not serve {server.model!r}; --model takes {', '.join(names)}")


def serve_captions(server: Server, user_turn: str, images: Mapping[str, Path], *, num_at_once: int) -> list[Caption]:
    """Let the server caption image files; every image has an outcome.

    Args:
        server: who writes.
        user_turn: the prompt "caption" as rendered, with `IMAGE` in its place.
        images: image id -> file.
        num_at_once: requests under way at the same time.

    Returns:
        One caption an image, in the order of `images`: "failed" where the server gave none.

    Raises:
        UserError: the server refuses the client, or gave no caption to any image.
    """
    stop = threading.Event()

    def caption(entry: tuple[str, Path]) -> Caption:
        try:
            return _caption(server, user_turn, *entry, stop)
        except UserError:
            stop.set()  # the others need not wait for their next attempt
            raise

    with ThreadPoolExecutor(num_at_once) as pool:
        try:
            captions = list(pool.map(caption, images.items()))
        except BaseException:
            stop.set()
            raise
    failed = [own for own in captions if own.outcome == "failed"]
    if failed and all(own.outcome in ("failed", "unreadable") for own in captions):
        raise UserError(
            f"the server {server.url} gave none of {len(failed)} images a caption ({failed[0].reason}); "
            "when it is well, the same command goes on from here"
        )
    return captions


def request_body(server: Server, user_turn: str, kind: str, content: bytes) -> dict[str, Any]:
    """Return the question about one image, its parts in the prompt's order."""
    url = f"data:{kind};base64,{base64.b64encode(content).decode()}"
    before, _, after = user_turn.partition(str(IMAGE))
    parts: list[dict[str, Any]] = [{"type": "image_url", "image_url": {"url": url}}]
    if before.strip():
        parts.insert(0, {"type": "text", "text": before.strip()})
    if after.strip():
        parts.append({"type": "text", "text": after.strip()})
    return {
        "model": server.model,
        "messages": [{"role": "user", "content": parts}],
        "max_tokens": server.max_new_tokens,
        "temperature": 0,
    }


def encoded_image(path: Path) -> tuple[str, bytes]:
    """Return an image's media type and bytes: the file itself where it is plain, upright and small enough.

    Raises:
        UnreadableImage: as `open_image`.
    """
    picture = open_image(path)
    with Image.open(path) as stored:
        kind, upright = stored.format, stored.getexif().get(ORIENTATION, 1) == 1
        if kind in ("JPEG", "PNG") and stored.mode == "RGB" and upright and max(stored.size) <= MAX_SIDE:
            return f"image/{kind.lower()}", path.read_bytes()
    picture.thumbnail((MAX_SIDE, MAX_SIDE))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=95)
    return "image/jpeg", file.getvalue()


def _caption(server: Server, user_turn: str, image_id: str, path: Path, stop: threading.Event) -> Caption:
    try:
        body = request_body(server, user_turn, *encoded_image(path))
        answer = _patiently(server, stop, "chat/completions", body)
    except UnreadableImage as reason:
        return Caption(image_id, "unreadable", reason=str(reason))
    except _Failed as reason:
        return Caption(image_id, "failed", reason=str(reason))
    text, ended = _read_answer(answer)
    return Caption(image_id, "empty" if not text else "ok" if ended else "truncated", text)


def _patiently(server: Server, stop: threading.Event, path: str, body: dict[str, Any] | None) -> Any:
    """Ask until there is an answer, or all attempts are used up."""
    reason = ""
    for attempt in range(server.max_attempts):
        try:
            answer = _ask(server, path, body)
            if body is not None:
                _read_answer(answer)
            return answer
        except _TryAgain as error:
            reason = str(error)
            pause = min(server.first_pause_s * 2**attempt, MAX_PAUSE_S) * random.uniform(0.5, 1.0)
            pause = min(max(pause, error.pause_s), MAX_PAUSE_S)
        if attempt + 1 < server.max_attempts and stop.wait(pause):
            break
    raise _GaveUp(f"{reason}, {server.max_attempts} times")


def _ask(server: Server, path: str, body: dict[str, Any] | None) -> Any:
    """Ask once.

    Raises:
        _TryAgain: what went wrong may pass.
        _Failed: this question will never be answered.
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
        raise _TryAgain(_in_words(error, server)) from None
    except ValueError:  # no JSON, or no text
        raise _TryAgain("the answer is no JSON") from None


def _by_status(server: Server, error: HTTPError, *, asks_for_models: bool) -> Exception:
    """Return what a status means."""
    status, said = error.code, _said(error)
    if status in PASSING or status >= 500:
        wait = error.headers.get("Retry-After", "")
        return _TryAgain(f"status {status}{said}", float(wait) if wait.isdigit() else 0.0)
    if status in WRONG_KEY or (status in WRONG_PLACE and not asks_for_models):
        hint = "check --api-key-variable" if status in WRONG_KEY else "check --server and --model"
        return UserError(f"the server {server.url} refuses with status {status}{said}; {hint}")
    return _Failed(f"status {status}{said}")


def _said(error: HTTPError) -> str:
    """Return the beginning of what the server says of an error."""
    try:
        text = error.read(2_000).decode("utf-8", errors="replace")
    except (OSError, HTTPException):
        return ""
    words = " ".join(_NO_TEXT.sub("", text).split())[:200]
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


def _read_answer(answer: Any) -> tuple[str, bool]:
    """Return (caption, whether it came to its end).

    Raises:
        _TryAgain: the answer is not in the protocol's form.
    """
    try:
        choice = answer["choices"][0]
        text, reason = choice["message"]["content"], choice.get("finish_reason")
    except (KeyError, IndexError, TypeError, AttributeError):
        raise _TryAgain("the answer holds no message") from None
    if not isinstance(text, str):
        raise _TryAgain("the answer's message is no text")
    return " ".join(_NO_TEXT.sub("\ufffd", text).split()), reason != "length"
