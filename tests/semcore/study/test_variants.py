"""The family has every row of the paper's tables once, and shares what does not differ."""

from __future__ import annotations

from semcore.study.variants import FULL, Variant, family

FAMILY = family(
    num_beams=20,
    num_clusters=4,
    num_keywords=8,
    beams=[10, 20, 50, 10],
    grid=[(c, k) for c in (2, 4, 2) for k in (4, 8)],
)
BY_NAME = {variant.name: variant for variant in FAMILY}


def test_every_row_is_there_once_and_the_full_system_first() -> None:
    parts = ["verification", "sid", "global_id", "deduplication", "constraint"]
    points = ["clusters2_keywords4", "clusters2_keywords8", "clusters4_keywords4"]
    assert [variant.name for variant in FAMILY] == [
        FULL, *(f"without_{part}" for part in parts), "beams10", "beams50", *points
    ]  # fmt: skip


def test_what_differs_in_the_search_only_shares_the_trained_generator() -> None:
    shared = {name: variant.shared for name, variant in BY_NAME.items() if variant.has_run}
    generator = ("caption", "identifiers", "train_identifier")
    assert shared[FULL] == ()
    assert {name for name, stages in shared.items() if stages == generator} == {
        "without_constraint", "beams10", "beams50"
    }  # fmt: skip
    assert all(stages[:1] == ("caption",) for name, stages in shared.items() if name != FULL)


def test_the_papers_scores_stand_beside_their_rows() -> None:
    assert BY_NAME["without_sid"].paper == (66.1, 79.0)
    assert BY_NAME["beams10"].paper == (64.4, 76.5)
    assert BY_NAME["clusters2_keywords4"].paper is None


def test_without_verification_is_read_off_the_full_system() -> None:
    assert [variant.name for variant in FAMILY if not variant.has_run] == ["without_verification"]
    assert Variant("x", "x", ("parts",)).has_run
