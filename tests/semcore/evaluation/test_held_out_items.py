"""Queries without an answer: their items are out of the corpus, and all others stay."""

from __future__ import annotations

from semcore.data.directions import Direction
from semcore.data.items_and_queries import Item, Queries
from semcore.evaluation.held_out_items import views_without_answers
from semcore.retrieval.batch import SplitKey, SplitView

NUM_IMAGES = 12


def views() -> dict[SplitKey, SplitView]:
    """Twelve images with two sentences each, in both directions."""
    images = [f"i{number}" for number in range(NUM_IMAGES)]
    sentences = {f"{image}-{place}": image for image in images for place in (0, 1)}
    t2i = SplitView(
        {image: Item(image, image, image, "") for image in images},
        Queries({s: s for s in sentences}, {s: s for s in sentences}, {s: {image} for s, image in sentences.items()}),
    )
    i2t = SplitView(
        {s: Item(s, image, s, "", text=s) for s, image in sentences.items()},
        Queries({i: i for i in images}, {i: i for i in images}, {i: {f"{i}-0", f"{i}-1"} for i in images}),
    )
    return {SplitKey("val", Direction.T2I): t2i, SplitKey("val", Direction.I2T): i2t}


def test_no_query_has_an_answer_and_the_rest_of_the_corpus_stays() -> None:
    found = views_without_answers(views(), 100)
    assert set(found) == {SplitKey("val without answers", direction) for direction in Direction}
    out = {}
    for key, view in found.items():
        whole = views()[SplitKey("val", key.direction)]
        out[key.direction] = {item.image_id for item in whole.items.values()} - {
            item.image_id for item in view.items.values()
        }
        assert len(out[key.direction]) == 3  # a quarter
        assert all(view.items[item_id] == whole.items[item_id] for item_id in view.items)
        assert view.queries.contents
        for right in view.queries.relevant.values():
            assert right.isdisjoint(view.items)
    assert out[Direction.T2I] == out[Direction.I2T]
    assert len(found[SplitKey("val without answers", Direction.T2I)].queries.contents) == 6


def test_no_more_queries_than_are_wanted() -> None:
    [first, _] = views_without_answers(views(), 2).values()
    assert len(first.queries.contents) == 2
    assert len(first.items) == 9


def test_one_image_leaves_no_such_view() -> None:
    [key, _] = views()
    view = views()[key]
    alone = SplitView({"i0": view.items["i0"]}, view.queries.only(["i0-0"]))
    assert views_without_answers({key: alone}, 100) == {}
