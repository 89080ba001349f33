"""Scores and differences, counted by hand; and the order of generated hits that an arbitrary suffix decides."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from semcore.errors import UserError
from semcore.evaluation.per_query import GeneratedHit, write_per_query
from semcore.evaluation.trec import write_qrels, write_run
from semcore.files import read_jsonl, write_json, write_jsonl
from semcore.identifiers import make_row
from semcore.study.commands import Place
from semcore.study.findings import findings_of
from semcore.study.outcomes import Found, compare, read_found, read_found_unverified
from semcore.study.variants import PARTS, STAGES
from semcore.study.writing import table

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
    assert compare(FULL, FULL, "t2i", "R@1")["difference"] == {"mean": 0, "low": 0, "high": 0}


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
    with pytest.raises(UserError, match="measured with different queries"):
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
    return tmp_path


def test_verified_ranks_are_read_with_the_image_they_belong_to(run: Path) -> None:
    read = read_found([run, run])
    assert read is not None
    assert read.ranks["t2i"] == {(0, "q"): 1, (1, "q"): 1}
    assert read.images == {
        "t2i": {(0, "q"): (0, "z"), (1, "q"): (1, "z")},
        "i2t": {(0, "q"): (0, "q"), (1, "q"): (1, "q")},
    }


def test_what_was_not_verified_is_not_measured(run: Path) -> None:
    """Its ranks after verification are missing, which is no recall of zero."""
    for direction in ("t2i", "i2t"):
        rows = list(read_jsonl(run / direction / "per_query.jsonl"))
        bare = [{**row, "verified": [], "rank_verified": None} for row in rows]
        write_jsonl(run / direction / "per_query.jsonl", bare)
    assert read_found([run]) is None
    assert read_found_unverified([run]).ranks["t2i"].keys() == {(0, "q")}


def test_a_query_without_a_candidate_was_missed(run: Path) -> None:
    """A search without the tree may find none: then there was nothing to verify."""
    for direction in ("t2i", "i2t"):
        write_per_query(run / direction / "per_query.jsonl", {"q": "?"}, {"q": {"z"}}, {}, {})
    read = read_found([run])
    assert read is not None
    assert read.ranks["i2t"] == {(0, "q"): None}


def test_a_variant_that_is_not_measured_says_so_in_its_row(run: Path, tmp_path: Path) -> None:
    place = Place(tmp_path / "study", Path("x"), {}, {}, {})
    for name in ("full", "without_sid"):
        shutil.copytree(run, place.run(0, name), ignore=shutil.ignore_patterns("study"))
        stages = {stage: {"seconds": 1.0} for stage in STAGES}
        write_json(place.run(0, name) / "manifest.json", {"stages": stages})
    bare = place.run(0, "without_sid") / "t2i" / "per_query.jsonl"
    write_jsonl(bare, [{**row, "verified": [], "rank_verified": None} for row in read_jsonl(bare)])
    findings = findings_of(place, [0], PARTS[:3], 20, (4, 8))
    cells = {row["name"]: table([row]).splitlines()[-1] for row in findings["variants"]}
    assert cells["without_sid"].count("not measured") == 4
    assert "not measured" not in cells["full"]
    assert findings["orders"]["parts"][0]["ours"] == ["full", "without_verification"]


def test_a_full_system_that_was_not_verified_cannot_be_compared_with(run: Path, tmp_path: Path) -> None:
    place = Place(tmp_path / "study", Path("x"), {}, {}, {})
    shutil.copytree(run, place.run(0, "full"), ignore=shutil.ignore_patterns("study"))
    bare = place.run(0, "full") / "t2i" / "per_query.jsonl"
    write_jsonl(bare, [{**row, "verified": [], "rank_verified": None} for row in read_jsonl(bare)])
    with pytest.raises(UserError, match="--verifier none"):
        findings_of(place, [0], PARTS[:2], 20, (4, 8))


def test_without_verification_a_suffix_decides_between_equals_only(run: Path) -> None:
    read = read_found_unverified([run])
    assert read.ranks["t2i"][0, "q"] in (2, 3)  # never before x
    assert read.ranks == read_found_unverified([run]).ranks
