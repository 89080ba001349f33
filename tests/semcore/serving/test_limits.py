from __future__ import annotations

import random

import pytest

from semcore.runtime.errors import UserError
from semcore.serving import limits as module
from semcore.serving.limits import Limits, RateLimiter, whole_seconds


def reference(events: list[tuple[int, int]], rate: float, burst: int) -> list[bool]:
    """Replay a client's requests in steps of a thousandth of a second, by the words of the rule."""
    tokens, now, passed = float(burst), 0, []
    for when, cost in events:
        while now < when:
            tokens = min(burst, tokens + rate / 1000)
            now += 1
        passed.append(tokens >= 1 - 1e-6)
        tokens -= cost if passed[-1] else 0
    return passed


@pytest.mark.parametrize("seed", range(20))
def test_a_bucket_fills_and_empties_as_the_rule_says(seed: int) -> None:
    rng = random.Random(seed)
    rate, burst = rng.choice([1, 2, 5, 20]), rng.randint(1, 10)
    events, now = [], 0
    for _ in range(60):
        now += rng.choice([0, 0, 1, 50, 300, 2_000])
        events.append((now, rng.choice([1, 1, 1, 3, 12])))
    clock = [0.0]
    limiter = RateLimiter(rate, burst, lambda: clock[0] / 1000)
    found = []
    for when, cost in events:
        clock[0] = when + 1e-3
        found.append(limiter.wait_s("client", cost) == 0)
    assert found == reference(events, rate, burst)
    assert True in found


def test_who_waits_as_long_as_said_passes() -> None:
    clock = [0.0]
    limiter = RateLimiter(4, 2, lambda: clock[0])
    assert limiter.wait_s("one", 7) == 0
    seconds = limiter.wait_s("one")
    assert seconds == pytest.approx(6 / 4)
    clock[0] = seconds - 0.01
    assert limiter.wait_s("one") > 0
    clock[0] = seconds + 0.001
    assert limiter.wait_s("one") == 0


def test_clients_have_buckets_of_their_own_and_no_rate_means_no_limit() -> None:
    limiter = RateLimiter(1, 1, lambda: 0.0)
    assert [limiter.wait_s(name) == 0 for name in ("one", "one", "other")] == [True, False, True]
    free = RateLimiter(0, 1, lambda: 0.0)
    assert all(free.wait_s("one", 1000) == 0 for _ in range(10))


def test_the_number_of_buckets_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_CLIENTS", 3)
    limiter = RateLimiter(1, 1, lambda: 0.0)
    for number in range(10):
        limiter.wait_s(str(number))
    assert list(limiter._buckets) == ["7", "8", "9"]


def test_retry_after_is_in_whole_seconds() -> None:
    assert [whole_seconds(seconds) for seconds in (0.01, 1.0, 1.2)] == [1, 1, 2]


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"max_batch": 0}, "--limits.max-batch must be 1 or more, found 0"),
        ({"rate": -1}, "--limits.rate must be 0 or more, found -1"),
        ({"max_queue": 10}, "--limits.max-queries must be at most --limits.max-queue, 10, found 64"),
    ],
)
def test_wrong_limits_are_named(wrong: dict[str, int], sentence: str) -> None:
    with pytest.raises(UserError, match=f"^{sentence}$"):
        Limits(**wrong)
