"""Audit of false negatives on shortlists made by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from semcore.data.dataset import Dataset, load_dataset
from semcore.data.directions import Direction
from semcore.data.items_and_queries import Item, Queries
from semcore.evaluation.false_negatives import audit
from semcore.retrieval.batch import SplitView
from semcore.retrieval.hits import GeneratedHit
from semcore.retrieval.shortlist import Shortlist

IMAGES = [f"tiny-{number}" for number in range(6)]
ITEMS = {image: Item(image, image, f"id {image}", "") for image in IMAGES}


@pytest.fixture
def dataset(tiny_dataset: Path) -> Dataset:
    return load_dataset(tiny_dataset)


def audited(
    dataset: Dataset,
    generator: dict[str, float],
    verifier: dict[str, float],
    *,
    query: str = "what is asked",
    exact: dict[str, float] | None = None,
    found: dict[str, float] | None = None,
) -> dict[str, Any]:
    """Audit one query whose right item is tiny-0; `found` is what the generator found behind the shortlist."""
    view = SplitView(ITEMS, Queries({"q": query}, {"q": query}, {"q": {"tiny-0"}}))
    items = tuple(ITEMS[item_id] for item_id in generator)
    hits = [GeneratedHit(item_id, "", score) for item_id, score in {**generator, **(found or {})}.items()]
    return audit(
        Direction.T2I, view, [Shortlist(query, items, tuple(generator.values()))], [[verifier[i] for i in generator]],
        {query: [("tiny-1", 0.7), ("tiny-0", 0.2)]}, exact or {}, dataset, {query: hits},
    )  # fmt: skip


def counts(result: dict[str, Any]) -> tuple[int, int, int, int]:
    return tuple(result[f"num_{name}"] for name in ("queries", "wrong", "agreed", "certain"))


def test_both_have_to_prefer_the_item(dataset: Dataset) -> None:
    agreed = audited(dataset, {"tiny-1": -1.0, "tiny-0": -2.0}, {"tiny-1": 5.0, "tiny-0": 4.0})
    assert counts(agreed) == (1, 1, 1, 0)
    assert agreed["listed"] == [
        {
            "query_id": "q", "query": "what is asked", "item_id": "tiny-1", "right": ["tiny-0"], "generator": -1.0,
            "generator_right": -2.0, "verifier": 5.0, "verifier_right": 4.0, "confidence": 0.7, "certain": False,
        }
    ]  # fmt: skip
    generator_disagrees = audited(dataset, {"tiny-0": -1.0, "tiny-1": -2.0}, {"tiny-1": 5.0, "tiny-0": 4.0})
    assert counts(generator_disagrees) == (1, 1, 0, 0)
    verifier_disagrees = audited(dataset, {"tiny-1": -1.0, "tiny-0": -2.0}, {"tiny-1": 3.0, "tiny-0": 4.0})
    assert counts(verifier_disagrees) == (1, 0, 0, 0)


def test_what_the_beams_lost_is_compared_by_its_exact_score(dataset: Dataset) -> None:
    generator, verifier = {"tiny-1": -3.0, "tiny-2": -4.0}, {"tiny-1": 5.0, "tiny-2": 1.0}
    unknown = audited(dataset, generator, verifier)
    assert counts(unknown) == (0, 0, 0, 0)  # nothing says how the generator scores the right item
    worse = audited(dataset, generator, verifier, exact={"what is asked": -3.5})
    assert counts(worse) == (1, 1, 1, 0) and worse["listed"][0]["verifier_right"] is None
    better = audited(dataset, generator, verifier, exact={"what is asked": -2.0})  # the beams were wrong, not the label
    assert counts(better) == (1, 1, 0, 0)
    behind = audited(dataset, generator, verifier, found={"tiny-0": -9.0})
    assert counts(behind) == (1, 1, 1, 0) and behind["listed"][0]["generator_right"] == -9.0


def test_the_same_sentence_under_both_is_certain(dataset: Dataset) -> None:
    result = audited(
        dataset, {"tiny-1": -1.0, "tiny-0": -2.0}, {"tiny-1": 5.0, "tiny-0": 4.0}, query="a green circle on white"
    )
    assert counts(result) == (1, 1, 1, 1)
