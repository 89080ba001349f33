"""Keys that come twice, and keys that are used, beside sets and dictionaries."""

from __future__ import annotations

import random

import pytest

from semcore.runtime import repeats
from semcore.runtime.repeats import Keys, Used, first_repeat


@pytest.mark.parametrize("seed", range(5))
def test_used_keys_are_those_of_a_set(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeats, "_FEW", 4)
    rng, used, expected = random.Random(seed), Used(), set()
    for _ in range(500):
        key = f"{rng.randint(0, 300)}"
        assert (key in used) == (key in expected)
        if rng.random() < 0.5:
            used.add(key)
            expected.add(key)


@pytest.mark.parametrize("seed", range(5))
def test_the_first_repeat_is_found(seed: int) -> None:
    rng = random.Random(seed)
    numbered = [(line, f"{rng.randint(0, 60)}") for line in range(1, 30)]
    keys = Keys()
    seen: dict[str, int] = {}
    expected = None
    for line, key in numbered:
        keys.add(key)
        if key in seen and expected is None:
            expected = key, line, seen[key]
        seen.setdefault(key, line)
    assert first_repeat(numbered, keys.repeated()) == expected
    assert first_repeat(numbered, set()) is None
