"""Long sequences on the disk, beside the lists and dictionaries that they stand for."""

from __future__ import annotations

import multiprocessing
import random
from typing import Any

import pytest

from semcore.runtime import long_lists
from semcore.runtime.errors import UserError
from semcore.runtime.long_lists import (
    Chosen,
    Keyed,
    Ragged,
    Spilled,
    chosen,
    joined,
    kept,
    kept_numbers,
    keyed,
    listed,
    places,
)


@pytest.fixture(autouse=True)
def few_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_lists, "IN_MEMORY", 5)


def entries(number: int, seed: int = 0) -> list[dict[str, Any]]:
    rng = random.Random(seed)
    letters = "ab ü犬😀\n"
    return [
        {"id": f"{n}", "text": "".join(rng.choices(letters, k=rng.randint(0, 30))), "codes": [rng.randint(0, 9)] * 3}
        for n in range(number)
    ]


@pytest.mark.parametrize("number", [0, 5, 6, 100])
def test_kept_entries_are_those_of_a_list(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_lists, "_BLOCK_BYTES", 300)
    expected = entries(number)
    found = kept(iter(expected))
    assert isinstance(found, list) == (number <= 5)
    assert list(found) == expected and len(found) == number
    assert [found[place] for place in range(-number, number)] == expected * 2
    for cut in (slice(3), slice(-4, None), slice(None, None, 3), slice(None, None, -1), slice(2, 50)):
        assert list(found[cut]) == expected[cut]
        assert list(found[cut][1:]) == expected[cut][1:]
    with pytest.raises(IndexError):
        found[number]


def test_entries_are_encoded_and_decoded() -> None:
    found = kept(((n, str(n)) for n in range(9)), lambda pair: pair[1], lambda text: (int(text), text))
    assert list(found) == [(n, str(n)) for n in range(9)]


def test_a_forked_process_reads_along() -> None:
    found, context = kept(entries(50)), multiprocessing.get_context("fork")
    answers: Any = context.SimpleQueue()
    process = context.Process(target=lambda: answers.put(list(found)))
    process.start()
    assert list(found) == answers.get() == entries(50)
    process.join()


@pytest.mark.parametrize("number", [3, 40])
def test_keys_lead_where_a_dictionary_leads(number: int) -> None:
    expected = {entry["id"]: entry for entry in entries(number)}
    found = keyed(kept(entries(number)), lambda entry: entry["id"])
    assert list(found) == list(expected) and list(found.values()) == list(expected.values()) == list(
        listed(found.values())
    )
    assert all(found[key] == entry for key, entry in expected.items())
    assert found.get("no") is None and "no" not in found and 3 not in found
    assert {"1", "no"} & found.keys() == {"1"}
    with pytest.raises(KeyError):
        found["no"]
    place_of = places(kept(entries(number)), lambda entry: entry["id"])
    assert [place_of(key) for key in [*expected, "no"]] == [*range(number), None]


def test_keys_of_equal_hashes_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_lists, "hash", lambda key: len(key), raising=False)
    words = ["a", "b", "cc", "dd", "e", "ff", "g"]
    found = Keyed(words, str, str.upper)
    assert {word: found[word] for word in words} == {word: word.upper() for word in words}
    assert "h" not in found and "hh" not in found


def test_chosen_and_joined_entries() -> None:
    few, many = entries(4), kept(entries(30))
    odd = lambda entry: int(entry["id"]) % 2 == 1  # noqa: E731
    assert chosen(few, odd) == few[1::2] and list(chosen(many, odd)) == entries(30)[1::2]
    assert isinstance(chosen(many, odd), Chosen)
    both = joined(few, many)
    assert list(both) == few + entries(30) == [both[place] for place in range(34)]
    assert list(both[2:6]) == (few + entries(30))[2:6]
    assert joined([1, 2], [3]) == [1, 2, 3]


def test_ragged_numbers() -> None:
    rng = random.Random(0)
    lists = [[rng.randint(0, 2**31 - 1) for _ in range(rng.randint(0, 4))] for _ in range(50)]
    found = kept_numbers(iter(lists))
    assert isinstance(found, Ragged)
    assert list(found) == lists and [found[place] for place in range(-50, 0)] == lists and list(found[7:]) == lists[7:]
    assert kept_numbers(lists[:3]) == lists[:3]


def test_a_full_disk_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*given: Any, **options: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    with pytest.raises(UserError, match="no space left on the disk of"):
        Spilled(entries(3), dict, dict)
