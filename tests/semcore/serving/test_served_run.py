"""A real run, with its tiny models: whatever is searched together is found as if alone."""

from __future__ import annotations

import base64
import shutil
import threading
from typing import Any

import pytest

from semcore.data.dataset import load_dataset
from semcore.data.directions import Direction
from semcore.data.run_folder import RunFolder
from semcore.models.lineage import made_from, write_lineage
from semcore.models.run_lineage import prompts_of
from semcore.retrieval.retriever import Retriever
from semcore.runtime.errors import UserError
from semcore.runtime.files import write_json
from semcore.serving.limits import Limits
from semcore.serving.problems import Refusal
from semcore.serving.queries import Answer, ServedQuery
from semcore.serving.served_run import RunOptions, ServedRun
from tests.semcore.serving.live_servers import running, service_of

TEXTS = [
    "a red circle",
    "there is a large blue star in the upper left, and a small green square below it.",
    "two squares",
    "a star",
    "nothing of the kind",
    "a yellow triangle to the right of a purple circle",
]


@pytest.fixture(scope="module")
def served(finished_training: Any) -> ServedRun:
    return ServedRun.open(RunOptions(finished_training.run, split="test", device="cpu"))


@pytest.fixture(scope="module")
def pictures(finished_training: Any) -> list[bytes]:
    dataset = load_dataset(finished_training.data)
    return [dataset.image_path(record).read_bytes() for record in dataset.split("test")]


def rows(answer: Any) -> list[tuple[str, float]]:
    assert isinstance(answer, Answer), answer
    return [(hit.item_id, hit.score) for hit in answer.hits]


def assert_same(found: list[tuple[str, float]], alone: list[tuple[str, float]]) -> None:
    """Compare hits: the same items with the same scores, in an order that only equal scores may change."""
    assert dict(found) == pytest.approx(dict(alone), abs=1e-5)
    assert [score for _, score in found] == pytest.approx([score for _, score in alone], abs=1e-5)


def test_a_mixed_batch_is_answered_as_each_query_alone(served: ServedRun, pictures: list[bytes]) -> None:
    queries = [ServedQuery(text=text, top_k=top_k) for text, top_k in zip(TEXTS, (3, 10, 1, 30, 6, 5), strict=True)]
    queries += [ServedQuery(picture=content, top_k=4) for content in pictures]
    queries = [queries[place] for place in (6, 0, 7, 1, 2, 8, 3, 4, 5, 9, 10, 11)]
    together = served.answer(queries)
    for query, answer in zip(queries, together, strict=True):
        (alone,) = served.answer([query])
        assert_same(rows(answer), rows(alone))
        assert len(rows(alone)) <= query.top_k


def test_it_is_the_retrievers_search(served: ServedRun, finished_training: Any, pictures: list[bytes]) -> None:
    retriever = Retriever.from_run(finished_training.run, split="test", device="cpu", dtype="float32")
    (answer,) = served.answer([ServedQuery(text=TEXTS[1], top_k=5)])
    assert answer.hits == retriever.search(text=TEXTS[1], top_k=5)  # type: ignore[union-attr]
    (answer,) = served.answer([ServedQuery(picture=pictures[0], top_k=5)])
    assert answer.hits == retriever.search(image=pictures[0], top_k=5)  # type: ignore[union-attr]
    assert "no confidence" in answer.notes[-1]  # type: ignore[union-attr]


def test_a_broken_picture_is_its_own_error(served: ServedRun, pictures: list[bytes]) -> None:
    queries = [
        ServedQuery(picture=pictures[0]), ServedQuery(picture=pictures[1][:200]), ServedQuery(text="a star"),
    ]  # fmt: skip
    good, broken, text = served.answer(queries)
    assert isinstance(broken, Refusal) and broken.status == 422 and "cannot be read" in broken.sentence
    (alone,) = served.answer(queries[:1])
    assert_same(rows(good), rows(alone))
    assert rows(text)


def test_a_query_that_fails_fails_alone(served: ServedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    search = Retriever.search

    def failing(self: Retriever, **query: Any) -> Any:
        if "bad" in (query.get("text") or []):
            raise RuntimeError("out of memory")
        return search(self, **query)

    monkeypatch.setattr(Retriever, "search", failing)
    good, bad, other = served.answer([ServedQuery(text=text) for text in ("a star", "bad", "a red circle")])
    assert isinstance(bad, Refusal) and bad.status == 500
    assert rows(good) and rows(other)


def test_items_are_found_by_id(served: ServedRun, finished_training: Any) -> None:
    record = load_dataset(finished_training.data).split("test")[0]
    image, sentence = served.item(record.image_id), served.item(record.sentences[0].sentence_id)
    assert image is not None and (image.direction, image.text) == (Direction.T2I, None)
    assert sentence is not None and (sentence.image_id, sentence.text) == (record.image_id, record.sentences[0].text)
    assert served.image_path(record.image_id) == load_dataset(finished_training.data).image_path(record)
    assert served.item("no") is None and served.image_path(record.sentences[0].sentence_id) is None
    assert served.num_items()[Direction.T2I] == 6


def test_concurrent_clients_get_what_each_would_get_alone(served: ServedRun, pictures: list[bytes]) -> None:
    """Real clients, real batches: 24 at once against each one alone."""
    bodies: list[dict[str, Any]] = [{"text": text, "top_k": 6} for text in TEXTS]
    bodies += [{"image": base64.b64encode(content).decode(), "top_k": 6} for content in pictures]
    with running(service_of(served, Limits(max_batch=8))) as live:
        alone = [live.search(**body).json["hits"] for body in bodies]
        found: dict[int, Any] = {}
        barrier = threading.Barrier(2 * len(bodies))

        def client(number: int) -> None:
            barrier.wait()
            found[number] = live.search(**bodies[number % len(bodies)]).json["hits"]

        threads = [threading.Thread(target=client, args=(number,)) for number in range(2 * len(bodies))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        metrics = live.ask("GET", "/metrics").content.decode()
    assert len(found) == 2 * len(bodies)
    for number, hits in found.items():
        assert_same(*([(hit["item_id"], hit["score"]) for hit in own] for own in (hits, alone[number % len(bodies)])))
    num_batches = float(
        next(line for line in metrics.splitlines() if line.startswith("semcore_batch_queries_count"))[28:]
    )
    assert num_batches < len(bodies) + 2 * len(bodies), "nothing was batched"


def test_a_direction_that_was_not_trained_is_refused_in_a_sentence(searchable_run: Any) -> None:
    run = RunFolder(searchable_run.run)
    for folder, name in (("identifier_model", "generator"), ("verifier_model", "listwise")):
        write_json(run / folder / "prompts.json", prompts_of([name], [Direction.T2I]))
        write_lineage(run / folder, made_from(run, load_dataset(searchable_run.data), directions=[Direction.T2I]))
    served = ServedRun.open(RunOptions(searchable_run.run, split="test", device="cpu"))
    assert served.directions == [Direction.T2I]
    text, picture = served.answer([ServedQuery(text="a star"), ServedQuery(picture=_white())])
    assert rows(text)
    assert isinstance(picture, Refusal) and picture.status == 501 and "for text to image" in picture.sentence


def test_a_run_without_images_is_refused(searchable_run: Any, tmp_path: Any) -> None:
    shutil.copytree(searchable_run.data, tmp_path / "data")
    shutil.rmtree(tmp_path / "data" / "images")
    with pytest.raises(UserError, match="is needed, but .* cannot be read now .there is no such file"):
        ServedRun.open(RunOptions(searchable_run.run, data=tmp_path / "data", split="test", device="cpu"))


def test_images_that_go_while_it_serves_are_an_error_of_the_run(searchable_run: Any, tmp_path: Any) -> None:
    shutil.copytree(searchable_run.data, tmp_path / "data")
    served = ServedRun.open(RunOptions(searchable_run.run, data=tmp_path / "data", device="cpu"))
    shutil.rmtree(tmp_path / "data" / "images")
    served.retriever._verifier_session.features._held.clear()  # of the search at the start
    text, picture = served.answer([ServedQuery(text="a star"), ServedQuery(picture=_white())])
    assert isinstance(text, Refusal) and (text.status, text.code) == (500, "broken_run")
    assert rows(picture)


def _white() -> bytes:
    from tests.semcore.serving.live_servers import picture_base64

    return base64.b64decode(picture_base64(colour="white"))
