"""Differences between rankings, on scores that can be counted by hand: three images, two sentences each."""

import pytest

from semcore.data.directions import Direction
from semcore.data.items_and_queries import Item, Queries
from semcore.evaluation.results import EvaluationResult, metrics_of
from semcore.evaluation.statistics import hits, paired_difference
from semcore.retrieval.batch import SplitView
from semcore.retrieval.hits import GeneratedHit
from semcore.verification.score_fusion import FusionSettings

IMAGES = ("a", "b", "c")
QUERIES = {f"{image}-{number}": image for image in IMAGES for number in (0, 1)}


def ranking(*found: str) -> dict[str, list[tuple[str, float]]]:
    """Return the right image first for the sentences of the images that are found, last for others."""
    order = {image: sorted(IMAGES, key=lambda one: (one == image) != (image in found)) for image in IMAGES}
    return {query: [(one, 0.0) for one in order[image]] for query, image in QUERIES.items()}


@pytest.fixture
def result() -> EvaluationResult:
    items = {image: Item(image, image, f"id {image}", image, "", None) for image in IMAGES}
    contents = {query: query for query in QUERIES}
    view = SplitView(items, Queries(contents, contents, {query: {image} for query, image in QUERIES.items()}))
    generated = {
        query: [GeneratedHit(image, items[image].identifier, score) for image, score in own]
        for query, own in ranking("a").items()
    }
    direction = Direction.T2I
    return EvaluationResult(
        split="test", num_beams=3, seconds={}, views={direction: view}, hits={direction: generated},
        rankings={"listwise": {direction: ranking(*IMAGES)}, "likelihood": {direction: ranking("a")}},
        alone={"listwise": {direction: ranking("a", "b")}, "likelihood": {direction: ranking()}},
        fusion_settings=FusionSettings("likelihood", {}),
    )  # fmt: skip


def test_every_verifier_is_compared_with_the_generated_order(result: EvaluationResult) -> None:
    metrics = metrics_of(result, "inductive", {})
    less = {name: own[Direction.T2I] for name, own in metrics["verifiers_less_generated"].items()}
    found = {(name, kind): own[kind]["R@1"]["mean"] for name, own in less.items() for kind in ("fused", "alone")}
    third = pytest.approx(100 / 3)
    assert found["listwise", "fused"] == pytest.approx(200 / 3) and found["listwise", "alone"] == third
    assert found["likelihood", "fused"] == 0 and -found["likelihood", "alone"] == third


@pytest.mark.parametrize("fusion", ["val", "none"])
def test_the_others_are_compared_with_the_final_ranking(result: EvaluationResult, fusion: str) -> None:
    result.fusion = fusion
    result.rankings["listwise"][Direction.T2I] = ranking(*IMAGES) if fusion == "val" else ranking()
    metrics = metrics_of(result, "inductive", {})
    assert set(metrics["verifiers_less_chosen"]) == {"listwise"}
    assert metrics["verifiers_less_chosen"]["listwise"][Direction.T2I]["R@1"]["mean"] == pytest.approx(200 / 3)


def test_sentences_of_one_image_are_drawn_together(result: EvaluationResult) -> None:
    change = metrics_of(result, "inductive", {})["verifiers_less_generated"]["listwise"][Direction.T2I]["alone"]["R@1"]
    ranks = [1, 1, 3, 3, 3, 3], [1, 1, 1, 1, 3, 3]
    given, alone = (hits(own, 1) for own in ranks)
    together = paired_difference(given, alone, groups=list(QUERIES.values()))
    assert change == pytest.approx(together._asdict())
    assert together != paired_difference(given, alone)
