"""Everything that reads what users give, on damaged inputs: a few of each here, more by `python -m benchmarks.fuzz`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from benchmarks import fuzz
from benchmarks.fuzzing import mutations
from benchmarks.fuzzing.targets import Broken, Target, TooSlow, all_targets, attempt
from semcore.runtime.errors import UserError

FEW = settings(
    max_examples=12, deadline=None, database=None, derandomize=True, phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
FOUND = Path(__file__).parent / "hostile_inputs.json"


@pytest.mark.parametrize("target", all_targets().values(), ids=lambda target: target.name)
def test_a_target_ends_with_a_result_or_a_sentence(target: Target) -> None:
    FEW(given(target.inputs())(lambda value: attempt(target, value)))()


def found_inputs() -> list[tuple[str, str, Any]]:
    """Return (target, what it did, input) of every input that a target once failed on."""
    rows = json.loads(FOUND.read_text(encoding="utf-8"))
    return [(row["target"], row["was"], value_of(row)) for row in rows]


def value_of(row: dict[str, Any]) -> Any:
    """Return an input: bytes but for sentences; `times` says how often `text` follows `before`."""
    text = row.get("before", "") + row["text"] * row.get("times", 1) + row.get("after", "")
    return text if row["target"] == "sentences" else text.encode("utf-8", "surrogatepass")


@pytest.mark.parametrize(("name", "was", "value"), found_inputs(), ids=[f"{n}: {w}" for n, w, _ in found_inputs()])
def test_what_was_found_stays_mended(name: str, was: str, value: Any) -> None:
    attempt(all_targets()[name], value)


def test_a_target_that_fails_is_noticed() -> None:
    target = next(iter(all_targets().values()))

    def reads(error: Exception | None) -> Target:
        def read(*_: Any) -> None:
            if error is not None:
                raise error
            while True:
                pass

        return target._replace(read=read)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("benchmarks.fuzzing.targets.MOST_SECONDS", 0.05)
        with pytest.raises(TooSlow):
            attempt(reads(None), b"")
    with pytest.raises(Broken, match="a wrong result"):
        attempt(reads(Broken("a wrong result")), b"")
    attempt(reads(UserError("a sentence")), b"")
    row = fuzz.try_target(reads(KeyError("nothing")), 0.05, 0)
    assert row.ours == 1
    assert "KeyError in " in row.note


def test_damage_done_to_one_input_is_not_in_the_next() -> None:
    before = repr(mutations.VALUES)
    many = settings(FEW, max_examples=300)
    many(given(mutations.damaged_json([{"a": [1, {"b": 2}], "c": {"d": [3]}}], lines=True))(lambda _: None))()
    assert repr(mutations.VALUES) == before


def test_an_unknown_target_is_named() -> None:
    with pytest.raises(UserError, match="there is no target 'promts'; did you mean prompts"):
        fuzz.Settings(targets=["promts"])
