"""Scores and differences, counted by hand; and the order of generated hits that an arbitrary suffix decides."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from semcore.data.identifier_files import make_row
from semcore.evaluation.per_query import write_per_query
from semcore.evaluation.trec import write_qrels, write_run
from semcore.retrieval.hits import GeneratedHit
from semcore.runtime.errors import UserError
from semcore.runtime.files import write_json, write_jsonl
from semcore.study.scores import Found, compare, read_found

RIGHT = {"q0": {"a"}, "q1": {"a"}, "q2": {"b"}, "q3": {"b"}}


def found(ranks: list[int | None]) -> Found:
    """Four sentences of two images, with two seeds."""
    keys = [(seed, query) for seed in (0, 1) for query in RIGHT]
    images = {(seed, query): (seed, *RIGHT[query]) for seed, query in keys}
    own = dict(zip(keys, ranks, strict=True))
    return Found({"t2i": own, "i2t": own}, {"t2i": images, "i2t": images})


FULL = found([1, 1, 1, 2, 1, 1, None, 3])
OTHER = found([1, 4, 1, 9, 2, 1, None, 1])


def test_scores_are_means_over_the_queries_of_all_seeds() -> None:
    row = compare(OTHER, FULL, "t2i", "R@1")
    assert (row["mean"], row["seeds"]) == (50, [50, 50])
    assert row["difference"]["mean"] == -12.5  # two lost, one found
    assert row["difference"]["low"] <= -12.5 <= row["difference"]["high"]
    assert compare(OTHER, FULL, "t2i", "R@5")["mean"] == 75
    assert compare(OTHER, FULL, "t2i", "rSum@5")["mean"] == 125


def test_the_full_system_does_not_differ_from_itself() -> None:
    assert compare(FULL, FULL, "t2i", "R@1")["difference"] == {
        "mean": 0, "low": 0, "high": 0, "p_value": 1
    }  # fmt: skip


def test_a_difference_is_surer_than_the_scores_it_is_of() -> None:
    ranks = np.random.default_rng(0).integers(1, 3, 200).tolist()
    keys = [(0, str(number)) for number in range(200)]
    images = {"t2i": {key: key for key in keys}}
    first = Found({"t2i": dict(zip(keys, ranks, strict=True))}, images)
    second = Found({"t2i": dict(zip(keys, [1, *ranks[1:]], strict=True))}, images)
    row = compare(second, first, "t2i", "R@1")
    assert row["high"] - row["low"] > 5 * (row["difference"]["high"] - row["difference"]["low"])


def test_other_queries_are_noticed() -> None:
    fewer = Found({"t2i": {(0, "q0"): 1}}, {"t2i": {(0, "q0"): "a"}})
    with pytest.raises(UserError, match="different queries .1 and 8 t2i"):
        compare(fewer, FULL, "t2i", "R@1")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """One query a direction; the generator finds x alone, then y and z, which share an identifier."""
    hits = {"q": [("x", -1.0), ("y", -2.0), ("z", -2.0)]}
    for direction in ("t2i", "i2t"):
        folder = tmp_path / direction
        texts = {"x": "p", "y": "same", "z": "same"}
        write_jsonl(
            tmp_path / "identifiers" / f"{direction}.jsonl",
            [{**make_row(item, "test", 0, []), "identifier": text} for item, text in texts.items()],
        )
        write_run(folder / "run.generated.trec", hits)
        write_qrels(folder / "qrels.trec", {"q": {"z"}})
        generated = {"q": [GeneratedHit(item, texts[item], score) for item, score in hits["q"]]}
        write_per_query(folder / "per_query.jsonl", {"q": "?"}, {"q": {"z"}}, generated, {"q": [("z", 2.0)]})
    write_json(tmp_path / "metrics.json", {"t2i": {"verified": {}}, "i2t": {"verified": {}}})
    return tmp_path


def test_verified_ranks_are_read_with_the_image_they_belong_to(run: Path) -> None:
    read = read_found([run, run])
    assert read is not None
    assert read.ranks["t2i"] == {(0, "q"): 1, (1, "q"): 1}
    assert read.images == {
        "t2i": {(0, "q"): (0, "z"), (1, "q"): (1, "z")},
        "i2t": {(0, "q"): (0, "q"), (1, "q"): (1, "q")},
    }


def test_queries_of_one_image_belong_together_over_the_seeds_of_one_dataset(run: Path) -> None:
    images = read_found([run, run], one_dataset=True).images
    assert images["t2i"] == {(0, "q"): "z", (1, "q"): "z"}


def test_without_verification_a_suffix_decides_between_equals_only(run: Path) -> None:
    read = read_found([run], "unverified")
    assert read.ranks["t2i"][0, "q"] in (2, 3)  # never before x
    assert read.ranks == read_found([run], "unverified").ranks


def test_where_nothing_was_verified_the_generated_ranking_counts_and_no_zero_is_read(run: Path) -> None:
    write_json(run / "metrics.json", {"t2i": {"generated": {}}, "i2t": {"generated": {}}})
    assert read_found([run]).ranks["t2i"] == {(0, "q"): 3} == read_found([run], "generated").ranks["t2i"]
    with pytest.raises(UserError, match="nothing of .* was verified"):
        read_found([run], "verified")


def test_a_run_that_is_not_measured_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="semcore evaluate --run"):
        read_found([tmp_path])
