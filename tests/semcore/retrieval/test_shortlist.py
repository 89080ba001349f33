import pytest

from semcore.data.directions import Direction
from semcore.data.items_and_queries import Item
from semcore.retrieval.hits import GeneratedHit
from semcore.retrieval.shortlist import Shortlist, images_shown, make_shortlist, rank
from semcore.retrieval.verifiers import pairs_of
from semcore.verification import Fusion
from semcore.verification.calibration import Calibration

IMAGES = {name: Item(name, name, f"<|cluster_0|>{name}", name) for name in ("a", "b", "c")}
SENTENCES = {f"{name}-0": Item(f"{name}-0", name, "<|cluster_0|>", "", text=f"text {name}") for name in "ab"}


def test_a_shortlist_is_the_head_of_the_ranking():
    hits = [GeneratedHit("c", "", -1.0), GeneratedHit("a", "", -2.0), GeneratedHit("b", "", -3.0)]
    assert make_shortlist("q", hits, IMAGES, 2) == Shortlist("q", (IMAGES["c"], IMAGES["a"]), (-1.0, -2.0))


def test_ranking_fuses_both_and_keeps_the_generators_order_of_equals():
    shortlist = Shortlist("q", tuple(IMAGES.values()), (-1.0, -1.0, -3.0))
    ranked = rank(shortlist, [-2.0, -2.0, 0.0], Fusion(weight=0.25, temperature=0.5))
    assert [(item.item_id, score) for item, score, _ in ranked] == [("c", -1.5), ("a", -3.5), ("b", -3.5)]
    assert {confidence for _, _, confidence in ranked} == {None}  # nothing was fitted
    sure = rank(shortlist, [-2.0, -2.0, 0.0], Fusion(0.25, 0.5, Calibration(1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.5)))
    assert [item for item, *_ in sure] == [item for item, *_ in ranked]
    assert sure[0][2] > sure[1][2] == pytest.approx(sure[2][2])
    alone = rank(shortlist, [0.0, 5.0, 9.0], Fusion(weight=1.0, temperature=1.0))
    assert [item.item_id for item, _, _ in alone] == ["a", "b", "c"]


def test_a_query_makes_a_pair_with_each_candidate_in_both_directions():
    t2i = Shortlist("text a", tuple(IMAGES.values()), (0, 0, 0))
    i2t = Shortlist("a", tuple(SENTENCES.values()), (0, 0))
    assert pairs_of(Direction.T2I, t2i) == [("a", "text a"), ("b", "text a"), ("c", "text a")]
    assert pairs_of(Direction.I2T, i2t) == [("a", "text a"), ("a", "text b")]
    assert images_shown(Direction.T2I, [t2i]) == ["a", "b", "c"]
    assert images_shown(Direction.I2T, [i2t, i2t]) == ["a", "a"]
