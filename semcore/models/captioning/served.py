"""Captions written by a server that speaks OpenAI's protocol, with several requests at once.

What does not get a caption is said of the one image it concerns; only a server that answers for none of a
batch, or refuses the client, ends the job.
"""

from __future__ import annotations

import base64
import io
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from semcore.data.images import open_image, plain_format
from semcore.models.captioning.local import NO_END, Caption, as_caption
from semcore.models.captioning.openai_server import Failed, Server, TryAgain, ask
from semcore.models.prompts import IMAGE
from semcore.runtime.errors import UnreadableImage, UserError
from semcore.runtime.text import clean_text

MAX_SIDE = 1344  # pixels: three tiles of InternVL's 448; larger images are made smaller
FILTERED = ("content_filter", "content_policy", "sensitive", "safety", "SAFETY")
"""Servers' words for a filtered answer, as the finish reason or in an error of status 400."""
THOUGHTS = ("reasoning_content", "reasoning", "thinking")
"""Message fields in which servers put reasoning that they separate from the answer."""


def serve_captions(server: Server, user_turn: str, images: Mapping[str, Path], *, num_at_once: int) -> list[Caption]:
    """Let the server caption image files; every image has an outcome.

    Args:
        server: the server that writes the captions.
        user_turn: the prompt "caption" as rendered, with `IMAGE` in its place.
        images: image id -> file.
        num_at_once: requests under way at the same time.

    Returns:
        One caption per image, in the order of `images`: "failed" where the server gave none.

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
    """Return the body of the request for one image's caption, text and image in the prompt's order."""
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
    image = open_image(path)
    kind = plain_format(path)
    if kind and max(image.size) <= MAX_SIDE:
        return f"image/{kind.lower()}", path.read_bytes()
    image.thumbnail((MAX_SIDE, MAX_SIDE))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=95)
    return "image/jpeg", file.getvalue()


def read_answer(image_id: str, answer: Any) -> Caption:
    """Return the caption, or the other outcome, in a server's answer for an image.

    Raises:
        TryAgain: the answer is not in the protocol's form.
    """
    try:
        choice = answer["choices"][0]
        message, reason = dict(choice["message"]), choice.get("finish_reason")
        text, refusal = _content(message)
    except (KeyError, IndexError, TypeError, AttributeError, ValueError):
        raise TryAgain("the answer holds no message") from None
    if reason in FILTERED:
        return Caption(image_id, "filtered", reason="the server's filter held the caption back")
    if refusal:
        return Caption(image_id, "refused", reason=clean_text(refusal)[:200])
    if not text and any(message.get(name) for name in THOUGHTS):
        return Caption(image_id, "thoughts", reason=NO_END)
    if text is None:
        raise TryAgain("the answer's message is no text")
    return as_caption(image_id, text, reason != "length")


def _content(message: dict[str, Any]) -> tuple[str | None, str]:
    """Return (the text of a message, its refusal): a text, or a list of parts of which some are text."""
    content, refusal = message.get("content"), message.get("refusal") or ""
    if isinstance(content, list):
        refusal = refusal or "".join(str(part.get("refusal", "")) for part in content)
        content = "".join(str(part["text"]) for part in content if part.get("type") in ("text", "output_text"))
    elif "content" not in message and not refusal:
        raise KeyError("content")
    return (content if isinstance(content, str) else None), str(refusal)


def _caption(server: Server, user_turn: str, image_id: str, path: Path, stop: threading.Event) -> Caption:
    try:
        body = request_body(server, user_turn, *encoded_image(path))
        return ask(server, "chat/completions", body, partial(read_answer, image_id), stop)
    except UnreadableImage as reason:
        return Caption(image_id, "unreadable", reason=str(reason))
    except Failed as reason:
        filtered = any(name in str(reason) for name in FILTERED[:2])
        return Caption(image_id, "filtered" if filtered else "failed", reason=str(reason))
