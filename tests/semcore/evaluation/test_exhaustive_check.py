"""The number of queries that are searched exhaustively by default."""

from __future__ import annotations

import pytest

from semcore.data.items_and_queries import Item, Queries
from semcore.evaluation.exhaustive_check import num_queries_for
from semcore.retrieval.batch import SplitView


@pytest.mark.parametrize(
    ("num_identifiers", "expected"), [(1, 50), (500, 50), (1_000, 25), (2_500, 10), (5_000, 10), (5_001, 0)]
)
def test_fewer_queries_search_a_larger_corpus(num_identifiers: int, expected: int) -> None:
    items = {str(number): Item(str(number), str(number), f"id {number}", "") for number in range(num_identifiers)}
    view = SplitView(items, Queries({}, {}, {}))
    assert num_queries_for(None, view) == expected
    assert num_queries_for(7, view) == 7
