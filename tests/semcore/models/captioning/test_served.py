from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from semcore.data.dataset import open_image
from semcore.models.captioning.openai_server import Server, check_server
from semcore.models.captioning.served import MAX_SIDE, encoded_image, serve_captions
from semcore.models.prompts import IMAGE
from semcore.runtime.errors import UserError
from tests.semcore.models.captioning.chat_server import Script, answer, chat_server

TURN = f"{IMAGE}\nDescribe the image."


@pytest.fixture
def images(tmp_path: Path) -> dict[str, Path]:
    paths = {f"image-{number}": tmp_path / f"{number}.png" for number in range(6)}
    for number, path in enumerate(paths.values()):
        Image.new("RGB", (4, 4), (number, 0, 0)).save(path)
    return paths


def number_of(content: bytes) -> int:
    import io

    return Image.open(io.BytesIO(content)).getpixel((0, 0))[0]  # type: ignore[index]


def server_at(url: str, **others: Any) -> Server:
    return Server(url, "tiny", 32, **{"timeout_s": 10.0, "first_pause_s": 0.01, "max_attempts": 3, **others})


def captions_of(script: Script, images: dict[str, Path], num_at_once: int = 3, **others: Any) -> list[Any]:
    with chat_server(script) as chat:
        return serve_captions(server_at(chat.url, **others), TURN, images, num_at_once=num_at_once)


def test_every_image_has_its_own_caption(images: dict[str, Path]) -> None:
    def script(attempt: int, image: bytes) -> Any:
        number = number_of(image)
        return {0: "  a\n dog ", 1: "", 2: ("cut", "a long story")}.get(number, f"picture {number}")

    images["broken"] = images["image-0"].with_name("broken.png")
    images["broken"].write_bytes(b"broken")
    with chat_server(script) as chat:
        server = server_at(chat.url, api_key="secret")
        check_server(server)
        captions = serve_captions(server, TURN, images, num_at_once=3)
    assert [tuple(own) for own in captions] == [
        ("image-0", "ok", "a dog", ""),
        ("image-1", "empty", "", ""),
        ("image-2", "truncated", "a long story", ""),
        *((f"image-{number}", "ok", f"picture {number}", "") for number in (3, 4, 5)),
        ("broken", "unreadable", "", "not a picture in a known format"),
    ]
    assert 1 <= chat.most_at_once <= 3
    assert set(chat.keys) == {"Bearer secret"}
    body = chat.bodies[0]
    assert (body["model"], body["max_tokens"], body["temperature"]) == ("tiny", 32, 0)
    kinds = [part["type"] for part in body["messages"][0]["content"]]
    assert kinds == ["image_url", "text"]
    assert body["messages"][0]["content"][1]["text"] == "Describe the image."


@pytest.mark.parametrize(
    "fault",
    [
        500, 503, 429, (429, {"Retry-After": "0"}), "hang up", "half", "hang", ("raw", b"<html>"),
        ("raw", b'{"choices": []}'), ("raw", b"[]"), ("raw", b'{"choices": [{"message": {"content": null}}]}'),
        ("raw", b"\xff\xfe"),
    ],
    ids=str,
)  # fmt: skip
def test_what_may_pass_is_tried_again(images: dict[str, Path], fault: Any) -> None:
    """Each image's first attempt goes wrong for the first two images, and their second is answered."""

    def script(attempt: int, image: bytes) -> Any:
        return fault if attempt == 1 and number_of(image) < 2 else f"picture {number_of(image)}"

    captions = captions_of(script, images, timeout_s=0.5 if fault == "hang" else 10.0, max_attempts=6)
    assert [own.text for own in captions] == [f"picture {number}" for number in range(6)]


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (500, "status 500 (out of order), 3 times"),
        ("hang", "no answer within 0.2 s, 3 times"),
        ("hang up", "the connection was cut, 3 times"),
        (("raw", b"{}"), "the answer holds no message, 3 times"),
        (("raw", b"never"), "the answer is no JSON, 3 times"),
        (400, "status 400 (out of order)"),
        (413, "status 413 (out of order)"),
    ],
)
def test_what_does_not_pass_is_said_of_its_image(images: dict[str, Path], fault: Any, reason: str) -> None:
    def script(attempt: int, image: bytes) -> Any:
        return fault if number_of(image) == 4 else "fine"

    captions = captions_of(script, images, timeout_s=0.2 if fault == "hang" else 10.0)
    assert {own.image_id: own.reason for own in captions if own.outcome == "failed"} == {"image-4": reason}
    assert sum(own.outcome == "ok" for own in captions) == 5


def spoken(reason: str = "stop", **message: Any) -> Any:
    return "raw", json.dumps({"choices": [{"message": message, "finish_reason": reason}]}).encode()


@pytest.mark.parametrize(
    ("said", "outcome", "text"),
    [
        ("<think>a cat?</think>A dog.", "ok", "A dog."),
        ("a cat?</think>\n\nA dog.", "ok", "A dog."),
        (spoken(content="A dog.", reasoning_content="a cat?"), "ok", "A dog."),
        (spoken(content=[{"type": "thinking", "thinking": "x"}, {"type": "text", "text": "A dog."}]), "ok", "A dog."),
        (("cut", "<think>a</think>A dog on"), "truncated", "A dog on"),
        (("cut", "<think>a cat or a"), "thoughts", ""),
        (spoken("length", content=None, reasoning_content="a cat or a"), "thoughts", ""),
        (spoken(content="", reasoning="a cat"), "thoughts", ""),
        ("I'm sorry, I can't help with that.", "refused", ""),
        (spoken(content=None, refusal="I can't help."), "refused", ""),
        (spoken(refusal="I can't help."), "refused", ""),
        (spoken(content=[{"type": "refusal", "refusal": "I can't help."}]), "refused", ""),
        (spoken("content_filter", content=""), "filtered", ""),
        (spoken("content_filter", content="A d"), "filtered", ""),
        ((400, {"Content-Type": "json", "said": '{"error": {"code": "content_filter"}}'}), "filtered", ""),
        ("\u200b", "empty", ""),
    ],
)
def test_what_is_no_caption_is_never_stored_as_one(images: dict[str, Path], said: Any, outcome: str, text: str) -> None:
    captions = captions_of(lambda _, image: said if number_of(image) == 2 else "fine", images)
    own = captions[2]
    assert (own.outcome, own.text) == (outcome, text)
    assert bool(own.reason) is (outcome in ("thoughts", "refused", "filtered"))
    assert [other.text for other in captions if other is not own] == ["fine"] * 5


def test_halves_of_characters_are_replaced(images: dict[str, Path]) -> None:
    captions = captions_of(lambda *_: ("raw", answer("a \\ud800 dog", "stop").replace(rb"\\ud", rb"\ud")), images)
    assert captions[0].text == "a \ufffd dog"


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (500, r"gave none of 6 images a caption \(status 500 .*the same command goes on from here$"),
        (401, r"refuses with status 401 \(out of order\); check --api-key-variable$"),
        (404, r"refuses with status 404 \(out of order\); check --server and --model$"),
    ],
)
def test_a_server_that_is_of_no_use_ends_the_job(images: dict[str, Path], fault: Any, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        captions_of(lambda *_: fault, images)


def test_a_server_that_is_not_there_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # taken, and nobody listens
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(UserError, match=f"^the server {url} cannot be asked: the connection is refused, 3 times; "):
            check_server(server_at(url))


def test_the_served_names_are_listed() -> None:
    with chat_server(lambda *_: "", models=("large", "small")) as chat:
        with pytest.raises(UserError, match=r"does not serve 'tiny'; --model takes large, small$"):
            check_server(server_at(chat.url))
        check_server(Server(f"{chat.url}/v1/", "small", 8))
    with chat_server(lambda *_: "", models=404) as chat:
        check_server(server_at(chat.url))  # some servers do not list theirs
    with chat_server(lambda *_: "", models=500) as chat, pytest.raises(UserError, match=r"status 500 \(no\), 3 times"):
        check_server(server_at(chat.url))


def test_images_are_sent_as_they_are_where_that_is_what_a_model_sees(tmp_path: Path) -> None:
    plain = tmp_path / "plain.jpg"
    Image.effect_noise((40, 30), 40).convert("RGB").save(plain)
    assert encoded_image(plain) == ("image/jpeg", plain.read_bytes())
    rotated = tmp_path / "rotated.jpg"
    exif = Image.Exif()
    exif[274] = 6
    Image.new("RGB", (40, 30)).save(rotated, exif=exif)
    large, glass = tmp_path / "large.jpg", tmp_path / "glass.png"
    Image.new("RGB", (2 * MAX_SIDE, MAX_SIDE)).save(large)
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(glass)
    for path, size in ((rotated, (30, 40)), (large, (MAX_SIDE, MAX_SIDE // 2)), (glass, (8, 8))):
        kind, content = encoded_image(path)
        (tmp_path / "sent.jpg").write_bytes(content)
        assert kind == "image/jpeg"
        assert open_image(tmp_path / "sent.jpg").size == size
    assert open_image(tmp_path / "sent.jpg").getpixel((0, 0)) == (255, 255, 255)
