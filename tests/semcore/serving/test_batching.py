from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from semcore.serving.batching import Batcher, BatchRecord
from semcore.serving.problems import Refusal


def make(work: Callable[[list[Any]], Sequence[Any]], **options: Any) -> Batcher[Any, Any]:
    settings = {"max_batch": 4, "wait_s": 0.0, "max_queue": 100, "max_queue_bytes": 1000} | options
    return Batcher(work, num_bytes=lambda query: len(str(query)), **settings)


def doubled(queries: list[int]) -> list[int]:
    return [2 * query for query in queries]


def test_every_client_gets_its_own_answer_whatever_the_batches() -> None:
    rng, sizes = random.Random(0), []

    def work(queries: list[int]) -> list[int]:
        sizes.append(len(queries))
        time.sleep(0.001)
        return doubled(queries)

    async def client(batcher: Batcher[int, int], start: int) -> None:
        for number in range(start, start + 30, 3):
            await asyncio.sleep(rng.random() * 0.003)
            assert await batcher.submit([number, number + 1, number + 2]) == [
                2 * number, 2 * number + 2, 2 * number + 4,
            ]  # fmt: skip

    async def main() -> None:
        batcher = make(work, wait_s=0.002)
        await asyncio.gather(*(client(batcher, 1000 * each) for each in range(12)))
        await batcher.close()

    asyncio.run(main())
    assert sum(sizes) == 12 * 30 and max(sizes) == 4


def test_what_comes_in_meanwhile_is_one_batch_in_the_order_it_came() -> None:
    go_on, batches = threading.Event(), []

    def work(queries: list[int]) -> list[int]:
        batches.append(queries)
        go_on.wait(10)
        return queries

    async def main() -> None:
        batcher = make(work, max_batch=8)
        waiting = [asyncio.ensure_future(batcher.submit([number])) for number in range(6)]
        while not batches:
            await asyncio.sleep(0.001)
        waiting += [asyncio.ensure_future(batcher.submit([number])) for number in range(6, 12)]
        await asyncio.sleep(0.01)
        go_on.set()
        await asyncio.gather(*waiting)
        await batcher.close()

    asyncio.run(main())
    assert [query for batch in batches for query in batch] == list(range(12))
    assert len(batches) == 2


def test_a_lone_client_never_waits_for_company() -> None:
    async def main() -> float:
        batcher = make(doubled, wait_s=5.0)
        begun = time.monotonic()
        for number in range(5):
            await batcher.submit([number])
        await batcher.close()
        return time.monotonic() - begun

    assert asyncio.run(main()) < 5  # the wait for company, once


def test_the_error_of_one_query_is_nobody_elses() -> None:
    def work(queries: list[Any]) -> list[Any]:
        return [ValueError("bad") if query == "bad" else query for query in queries]

    async def main() -> list[Any]:
        batcher = make(work)
        found = await asyncio.gather(*(batcher.submit([q]) for q in ("a", "bad", "b")), return_exceptions=True)
        await batcher.close()
        return found

    one, bad, other = asyncio.run(main())
    assert (one, other) == (["a"], ["b"]) and isinstance(bad, ValueError)


@pytest.mark.parametrize("wrong", [lambda queries: 1 / 0, lambda queries: queries[1:]])
def test_work_that_fails_is_said_to_all_and_the_next_batch_is_answered(wrong: Callable[[list[Any]], Any]) -> None:
    async def main() -> Any:
        works = [wrong, doubled]
        batcher = make(lambda queries: works.pop(0)(queries))
        with pytest.raises(Refusal, match="the server made a mistake"):
            await batcher.submit([1, 2])
        found = await batcher.submit([3])
        await batcher.close()
        return found

    assert asyncio.run(main()) == [6]


def held(limits: dict[str, Any]) -> tuple[Batcher[Any, Any], threading.Event, list[Any]]:
    go_on, seen = threading.Event(), []

    def work(queries: list[Any]) -> list[Any]:
        go_on.wait(10)
        seen.extend(queries)
        return queries

    return make(work, **limits), go_on, seen


def test_a_full_queue_refuses_a_request_whole() -> None:
    async def main() -> None:
        batcher, go_on, seen = held({"max_batch": 1, "max_queue": 3})
        working = asyncio.ensure_future(batcher.submit(["first"]))
        await asyncio.sleep(0.02)
        waiting = asyncio.ensure_future(batcher.submit(["a", "b"]))
        await asyncio.sleep(0)
        with pytest.raises(Refusal, match="2 queries of 0 MB are waiting, and 3 of") as refused:
            await batcher.submit(["c", "d"])
        assert refused.value.status == 503 and refused.value.retry_after_s == 1
        assert len(batcher) == 2
        go_on.set()
        await asyncio.gather(working, waiting)
        assert await batcher.submit(["c", "d", "e"]) == ["c", "d", "e"]
        assert seen == ["first", "a", "b", "c", "d", "e"]
        await batcher.close()

    asyncio.run(main())


def test_bytes_that_wait_are_bounded_and_given_back() -> None:
    async def main() -> None:
        batcher, go_on, _ = held({"max_batch": 1, "max_queue_bytes": 20})
        working = asyncio.ensure_future(batcher.submit(["x" * 20]))
        await asyncio.sleep(0.02)
        waiting = asyncio.ensure_future(batcher.submit(["y" * 15]))
        await asyncio.sleep(0)
        with pytest.raises(Refusal):
            await batcher.submit(["z" * 6])
        waiting.cancel()
        await asyncio.sleep(0.01)
        last = asyncio.ensure_future(batcher.submit(["z" * 20]))
        await asyncio.sleep(0)
        go_on.set()
        assert await last == ["z" * 20]
        await working
        assert batcher._bytes == 0
        await batcher.close()

    asyncio.run(main())


def test_who_goes_leaves_the_queue_and_is_not_worked_for() -> None:
    async def main() -> list[Any]:
        batcher, go_on, seen = held({"max_batch": 1})
        working = asyncio.ensure_future(batcher.submit(["first"]))
        await asyncio.sleep(0.02)
        gone = asyncio.ensure_future(batcher.submit(["gone 1", "gone 2"]))
        stays = asyncio.ensure_future(batcher.submit(["stays"]))
        await asyncio.sleep(0)
        gone.cancel()
        working.cancel()  # is being worked on: its answer goes nowhere
        await asyncio.sleep(0.01)
        assert len(batcher) == 1
        go_on.set()
        assert await stays == ["stays"]
        await batcher.close()
        return seen

    assert asyncio.run(main()) == ["first", "stays"]


def test_a_close_answers_what_waits_and_refuses_the_rest() -> None:
    async def main() -> None:
        batcher, go_on, _ = held({"max_batch": 2})
        waiting = [asyncio.ensure_future(batcher.submit([number])) for number in range(7)]
        await asyncio.sleep(0.02)
        closing = asyncio.ensure_future(batcher.close())
        await asyncio.sleep(0)
        with pytest.raises(Refusal, match="the server is stopping"):
            await batcher.submit(["late"])
        go_on.set()
        assert await asyncio.gather(*waiting) == [[number] for number in range(7)]
        await closing

    asyncio.run(main())


def test_batches_are_recorded() -> None:
    records: list[BatchRecord] = []

    async def main() -> None:
        batcher = make(doubled, observe=records.append)
        await batcher.submit([1, 2, 3])
        await batcher.close()

    asyncio.run(main())
    assert [record.num_queries for record in records] == [3]
    assert len(records[0].waited_s) == 3 and all(0 <= seconds < 5 for seconds in records[0].waited_s)
