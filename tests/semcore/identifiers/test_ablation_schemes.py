"""Identifiers with numbers in place of keywords."""

from __future__ import annotations

import numpy as np

from semcore.data.identifier_files import make_row
from semcore.identifiers.ablation_schemes import with_numbers
from semcore.identifiers.mention_rates import MentionCount
from semcore.identifiers.structured import StructuredIdentifiers

IMAGES = [make_row(f"i{n}", "train" if n < 9 else "test", n % 3, ["dog", f"word{n}"]) for n in range(12)]
SENTENCES = [make_row(f"s{n}", "train", 2, []) for n in range(101)]


COUNTS = [MentionCount("dog", 9, 4, 9)]


def numbered(seed: int = 0) -> StructuredIdentifiers:
    made = StructuredIdentifiers(
        IMAGES, SENTENCES, np.zeros((3, 2)), [[], [], []], [3, 3, 3], (9, 9), COUNTS, {"val": {}}
    )
    return with_numbers(made, seed)


def test_a_number_stands_behind_the_cluster() -> None:
    built = numbered()
    for before, after in zip(IMAGES + SENTENCES, [*built.t2i, *built.i2t], strict=True):
        assert [after[key] for key in ("item_id", "split", "global_id")] == [
            before[key] for key in ("item_id", "split", "global_id")
        ]
        [number] = after["lexical_id"]
        assert after["identifier"] == f"<|cluster_{after['global_id']}|>{number}"
    assert not built.mention_counts and not built.mentions


def test_numbers_are_unique_and_equally_long() -> None:
    built = numbered()
    assert sorted(row["lexical_id"][0] for row in built.t2i) == [f"{n:02d}" for n in range(12)]
    assert sorted(row["lexical_id"][0] for row in built.i2t) == [f"{n:03d}" for n in range(101)]


def test_numbers_are_independent_of_the_position_and_depend_on_the_seed() -> None:
    first, again, other = ([int(row["lexical_id"][0]) for row in numbered(seed).i2t] for seed in (0, 0, 1))
    assert first == again != other
    assert abs(np.corrcoef(first, range(101))[0, 1]) < 0.3
