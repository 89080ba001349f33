"""The routes, over real sockets, with a run that needs no model."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator

import pytest

from semcore import __version__
from semcore.serving.limits import Limits
from tests.semcore.serving.live_servers import HTML, FakeRun, Live, picture_base64, running, service_of

HEALTH = {"status": "ok", "detail": "", "version": __version__, "run": "fake", "num_items": {"t2i": 1, "i2t": 2}}


@pytest.fixture(scope="module")
def live() -> Iterator[Live]:
    with running(service_of(FakeRun())) as server:
        yield server


def test_a_sentence_finds_images(live: Live) -> None:
    reply = live.search(text="a red circle", top_k=2)
    assert reply.status == 200
    first = {
        "rank": 1, "item_id": "i0", "score": 0.0, "confidence": 0.5, "identifier": "a red circle", "text": None,
        "image_url": "/images/i0", "explanation": None,
    }  # fmt: skip
    second = {**first, "rank": 2, "item_id": "i1", "score": -1.0, "image_url": "/images/i1"}
    assert reply.json == {"hits": [first, second], "no_match": None, "no_match_by": None, "notes": ["a note"]}


def test_no_match_is_said_with_what_decided_it(live: Live) -> None:
    body = live.search(text="nothing", top_k=2).json
    assert (len(body["hits"]), body["no_match"]) == (2, True)
    assert body["no_match_by"] == {"of": "log_sum_exp", "value": 1.5, "below": 2.25}


def test_a_picture_finds_sentences(live: Live) -> None:
    reply = live.search(image=picture_base64(), top_k=1)
    (hit,) = reply.json["hits"]
    assert (hit["item_id"], hit["text"], hit["image_url"]) == ("s0", HTML, None)


def test_a_list_is_answered_with_a_list(live: Live) -> None:
    reply = live.search(text=["one", "other"], top_k=1)
    assert [result["hits"][0]["identifier"] for result in reply.json["results"]] == ["one", "other"]
    assert len(live.search(text=["one"], top_k=1).json["results"]) == 1
    assert len(live.search(image=[picture_base64()] * 2, top_k=1).json["results"]) == 2


def test_hits_are_explained_where_asked_and_few(live: Live) -> None:
    reply = live.search(text=["one", "other"], top_k=2, explain=True)
    explained = [hit["explanation"] for result in reply.json["results"] for hit in result["hits"]]
    assert explained == [{"why": "because"}] * 4
    many = live.search(text=["one", "other"], top_k=6, explain=True)
    assert (many.status, many.json["error"]) == (
        422, "12 hits would have to be explained, and 10 may in one request; give a smaller top_k",
    )  # fmt: skip


def test_images_are_added(live: Live) -> None:
    new = {"image_id": "new-1", "image": picture_base64(), "sentences": ["a ring", HTML], "caption": HTML}
    reply = live.ask("POST", "/items", {"items": [new, {"image_id": "left-1", "image": picture_base64()}]})
    assert (reply.status, reply.json) == (201, {
        "added": [{
            "item_id": "new-1", "identifier": "<|cluster_1|>red", "caption": HTML,
            "sentence_ids": ["new-1-0", "new-1-1"],
        }],
        "already": [], "left_out": {"left-1": "no caption"},
    })  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"image_id": "<b>"}, "items.0.image_id: string should match pattern '^[A-Za-z0-9_-]+$'"),
        ({"image_id": "test-1"}, "image_id 'test-1' has a split's name in it; 'xtest-1' would do"),
        ({"image": "?"}, "the picture of new-1 cannot be read: it is not in base64; give a picture such as a PNG or a "
                         "JPEG, in base64"),
        ({"sentences": ["a", " "]}, "a sentence of new-1 is empty; give a sentence"),
        ({"caption": "x" * 5000}, "the caption of new-1 has 5,000 letters, and 2,000 may; give a sentence"),
    ],
)  # fmt: skip
def test_a_wrong_item_is_one_sentence(live: Live, changes: dict[str, object], sentence: str) -> None:
    item = {"image_id": "new-1", "image": picture_base64(), **changes}
    reply = live.ask("POST", "/items", {"items": [item]})
    assert (reply.status, reply.json["error"]) == (422, sentence)


def test_wrong_numbers_of_items_are_refused(live: Live) -> None:
    item = {"image_id": "new-1", "image": picture_base64()}
    twice = live.ask("POST", "/items", {"items": [item, item]}).json["error"]
    assert twice == "image_id 'new-1' is given 2 times; give every image its own"
    assert live.ask("POST", "/items", {"items": []}).json["error"] == "the list of items is empty; give at least one"
    assert live.ask("DELETE", "/items").json["error"] == "item_id: field required"


def test_items_are_removed_one_or_several(live: Live) -> None:
    assert live.ask("DELETE", "/items/a%2Fb").json == {"removed": ["a/b"]}
    assert live.ask("DELETE", "/items?item_id=i0&item_id=s0&item_id=i0").json == {"removed": ["i0", "s0"]}
    missing = live.ask("DELETE", "/items?item_id=i0&item_id=no&item_id=none")
    assert (missing.status, missing.json["error"]) == (404, "there is no item 'no', nor 1 more; nothing was removed")


def test_a_server_may_be_read_only() -> None:
    service = service_of(FakeRun())
    service.read_only = "read only"
    with running(service) as live:
        item = {"image_id": "new-1", "image": picture_base64()}
        for reply in (live.ask("POST", "/items", {"items": [item]}), live.ask("DELETE", "/items/i0")):
            assert (reply.status, reply.json) == (403, {"error": "read only", "code": "read_only"})


def test_items_have_any_id(live: Live) -> None:
    assert live.ask("GET", "/items/i0").json == {
        "item_id": "i0", "kind": "image", "image_id": "i0", "identifier": "<|cluster_1|>red", "keywords": "red",
        "text": None, "image_url": "/images/i0",
    }  # fmt: skip
    assert live.ask("GET", "/items/a%2Fb").json["kind"] == "sentence"
    missing = live.ask("GET", "/items/%3Cscript%3E")
    assert (missing.status, missing.json) == (404, {"error": "there is no item '<script>'", "code": "not_found"})


def test_markup_is_never_a_page(live: Live) -> None:
    for reply in (
        live.search(text=HTML),
        live.ask("GET", "/items/s0"),
        live.ask("GET", f"/items/{HTML.replace(' ', '%20')}"),
        live.ask("GET", "/%3Cscript%3E"),
    ):
        assert reply.headers["content-type"] == "application/json"
        assert reply.headers["x-content-type-options"] == "nosniff"
    assert live.search(text=HTML).json["hits"][0]["identifier"] == HTML


def test_health_says_what_is_served(live: Live) -> None:
    reply = live.ask("GET", "/health")
    assert (reply.status, reply.json) == (200, {**HEALTH, "num_waiting": 0})


def test_metrics_count_requests_queries_and_refusals() -> None:
    with running(service_of(FakeRun())) as live:
        live.search(text=["one", "other"])
        live.search(image=picture_base64())
        live.search(text="")
        live.ask("GET", "/no/such/path/1")
        live.ask("GET", "/no/such/path/2")
        lines = live.ask("GET", "/metrics").content.decode().splitlines()
    values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    assert values['semcore_requests_total{method="POST",route="/search",status="200"}'] == "2.0"
    assert values['semcore_requests_total{method="POST",route="/search",status="422"}'] == "1.0"
    assert values['semcore_requests_total{method="GET",route="other",status="404"}'] == "2.0"
    assert values['semcore_queries_total{direction="t2i"}'] == "2.0"
    assert values['semcore_queries_total{direction="i2t"}'] == "1.0"
    assert values['semcore_refusals_total{code="invalid"}'] == "1.0"
    assert values["semcore_batch_queries_sum"] == "3.0"
    assert values['semcore_items{direction="i2t"}'] == "2.0"
    assert values["semcore_requests_in_flight"] == "1.0"  # the request itself


@pytest.mark.parametrize(
    ("content", "status", "sentence"),
    [
        (b"{", 422, "the body is not valid JSON: Expecting property name enclosed in double quotes"),
        (b"", 422, "the body: field required"),
        (b"[]", 422, 'the body must be a JSON object with either "text" or "image"'),
        (b"{}", 422, 'the body must be a JSON object with either "text" or "image"'),
        (b'{"text": "a", "image": "b"}', 422, 'the body must be a JSON object with either "text" or "image"'),
        (b'{"text": "a", "top_k": 0}', 422, "top_k: input should be greater than or equal to 1"),
        (b'{"text": "a", "topk": 1}', 422, "topk: extra inputs are not permitted"),
        (b'{"text": 7}', 422, "text: a string, or a list of strings, is needed"),
        (b'{"text": ["a", 7]}', 422, "text: a string, or a list of strings, is needed"),
        (b'{"text": "a", "top_k": 1e999}', 422, "top_k: input should be a valid integer"),
        (b"\xc3(", 422, "the body is not valid JSON: it is not in UTF-8"),
        (b"[" * 100_000, 422, "the body is not valid JSON: it is nested too deeply"),
        (b'{"text": "fail"}', 500, "the server made a mistake, which its log describes; it goes on"),
    ],
)
def test_a_wrong_body_is_one_sentence(live: Live, content: bytes, status: int, sentence: str) -> None:
    reply = live.ask("POST", "/search", content)
    assert (reply.json["error"], reply.status) == (sentence, status)
    assert live.search(text="next").status == 200


def test_ten_point_nothing_is_ten(live: Live) -> None:
    assert len(live.ask("POST", "/search", b'{"text": "a", "top_k": 2.0}').json["hits"]) == 2


def test_half_a_character_is_no_error(live: Live) -> None:
    assert live.ask("POST", "/search", b'{"text": "a \\ud83d"}').status == 200


def test_a_body_that_is_no_json_is_refused(live: Live) -> None:
    reply = live.ask("POST", "/search", b'{"text": "a"}', {"Content-Type": "text/plain"})
    assert (reply.status, reply.json["code"]) == (415, "no_json")
    packed = live.ask("POST", "/search", b"\x1f\x8b", {"Content-Encoding": "gzip"})
    assert (packed.status, packed.json["code"]) == (415, "no_json")


def test_a_wrong_method_says_what_there_is(live: Live) -> None:
    reply = live.ask("PUT", "/search", b"{}")
    assert (reply.status, reply.headers["allow"], reply.json["code"]) == (405, "POST", "wrong_method")
    assert live.ask("PUT", "/items", b"{}").headers["allow"] == "DELETE, POST"
    assert live.ask("PUT", "/items/i0", b"{}").headers["allow"] == "DELETE, GET"


def test_there_is_no_page_that_fetches_scripts(live: Live) -> None:
    assert [live.ask("GET", path).status for path in ("/docs", "/redoc", "/")] == [404] * 3
    document = live.ask("GET", "/openapi.json").content.decode()
    assert "http://" not in document and "https://" not in document


def test_the_document_says_this_servers_limits(live: Live) -> None:
    schemas = live.ask("GET", "/openapi.json").json["components"]["schemas"]
    assert schemas["SearchByText"]["properties"]["top_k"]["maximum"] == 100
    assert schemas["SearchByText"]["properties"]["text"]["anyOf"][0]["maxLength"] == 2_000
    assert schemas["SearchByImage"]["properties"]["image"]["anyOf"][1]["maxItems"] == 64


def test_a_token_is_wanted_of_all_but_health() -> None:
    with running(service_of(FakeRun(), token="secret")) as live:
        refused = live.search(text="a")
        assert (refused.status, refused.headers["www-authenticate"]) == (401, "Bearer")
        assert refused.json["error"] == "this server wants a token: send the header Authorization: Bearer TOKEN"
        for wrong in ("Bearer", "Bearer other", "Basic secret", "secret", "Bearer sécret"):
            assert live.ask("GET", "/metrics", headers={"Authorization": wrong}).status == 401
        assert live.ask("GET", "/items/i0", headers={"Authorization": "bearer secret"}).status == 200
        assert live.ask("GET", "/health").status == 200
        document = live.ask("GET", "/openapi.json").json
    assert document["paths"]["/search"]["post"]["security"] == [{"token": []}]
    assert "security" not in document["paths"]["/health"]["get"]


def test_a_client_that_asks_too_often_is_told_when_to_ask_again() -> None:
    with running(service_of(FakeRun(), Limits(rate=0.001, burst=2))) as live:
        assert live.search(text=["a", "b", "c"]).status == 200  # one more than it had
        refused = live.search(text="a")
        assert (refused.status, refused.json["code"]) == (429, "too_many")
        assert 1_900 < int(refused.headers["retry-after"]) <= 2_000
        assert live.ask("GET", "/health").status == 200


def test_a_stop_answers_what_waits() -> None:
    run, replies = FakeRun(seconds=0.2), []
    run.go_on.clear()
    with running(service_of(run)) as live:
        threads = [threading.Thread(target=lambda: replies.append(live.search(text="a").status)) for _ in range(5)]
        for thread in threads:
            thread.start()
        while live.service.metrics.in_flight._value.get() < 5:  # accepted, all of them
            pass
        run.go_on.set()
    for thread in threads:
        thread.join(10)
    assert replies == [200] * 5


def test_json_numbers_are_json(live: Live) -> None:
    assert json.loads(live.search(text="a").content, parse_constant=lambda name: pytest.fail(name))
