from semcore.data.dataset import load_dataset
from semcore.data.directions import Direction
from semcore.data.items_and_queries import Item, Queries
from semcore.retrieval.batch import SplitView
from semcore.retrieval.hits import GeneratedHit
from semcore.training.mining import held_out_queries, items_of, mine, mining_stats, partition_images, queries_of

ITEMS = {name: Item(name, name, f"<|cluster_0|>{name}", "") for name in "abcdef"}
QUERIES = Queries(
    {"q1": "first", "q2": "second", "q3": "third"},
    {"q1": "first", "q2": "second", "q3": "third"},
    {"q1": {"a"}, "q2": {"e"}, "q3": {"f", "c"}},
)
HITS = {
    content: [GeneratedHit(name, "", -float(place)) for place, name in enumerate(names)]
    for content, names in {"first": "abcd", "second": "abcde", "third": "ab"}.items()
}


def test_the_right_item_replaces_the_last_where_it_is_missing():
    rows = mine(Direction.T2I, SplitView(ITEMS, QUERIES), HITS, num_candidates=3)
    assert [each.row for each in rows] == [
        {"direction": "t2i", "query_id": "q1", "query": "first", "candidates": ["a", "b", "c"], "right": "a"},
        {"direction": "t2i", "query_id": "q2", "query": "second", "candidates": ["a", "b", "e"], "right": "e"},
        {"direction": "t2i", "query_id": "q3", "query": "third", "candidates": ["a", "b", "c"], "right": "c"},
    ]
    assert [each.rank for each in rows] == [1, 5, None]


def test_a_right_item_without_another_is_left_out():
    hits = {content: [GeneratedHit("a", "", 0.0)] for content in ("first", "second", "third")}
    rows = mine(Direction.T2I, SplitView(ITEMS, QUERIES), hits, num_candidates=3)
    assert [each.row["candidates"] for each in rows] == [["a", "e"], ["a", "c"]]


def test_shares_are_reported():
    mined = mine(Direction.T2I, SplitView(ITEMS, QUERIES), HITS, num_candidates=4)
    assert mining_stats(mined, 4, [6]) == {
        "num_queries": 3,
        "num_items": [6],
        "percent_right_at_1": 33.33,
        "percent_right_among_candidates": 33.33,
        "percent_replaced": 66.67,
        "num_short": 1,
    }


def test_only_held_out_queries_are_mined():
    kept = held_out_queries(QUERIES, ["q3", "elsewhere", "q1"])
    assert list(kept.contents) == ["q3", "q1"]
    assert kept.relevant == {"q3": {"f", "c"}, "q1": {"a"}}


def test_queries_without_a_relevant_item_are_not_mined():
    """Its right item stands in no index: as a candidate it would have no image and no keywords."""
    some = Queries(QUERIES.contents, QUERIES.display, QUERIES.relevant, frozenset({"q3"}))
    assert list(held_out_queries(some, ["q3", "q1"]).relevant) == ["q1"]


def test_queries_belong_to_the_block_of_their_image(tiny_dataset):
    records = load_dataset(tiny_dataset).images[:2]
    t2i = Queries({"s": "?", "t": "?"}, {"s": "?", "t": "?"}, {"s": {"tiny-1"}, "t": {"tiny-2"}})
    i2t = Queries({"tiny-1": "tiny-1"}, {"tiny-1": "tiny-1"}, {"tiny-1": {"tiny-1-0"}})
    assert list(queries_of(t2i, Direction.T2I, records).relevant) == ["s"]
    assert list(queries_of(i2t, Direction.I2T, records[:1]).relevant) == []
    assert list(queries_of(i2t, Direction.I2T, records).relevant) == ["tiny-1"]


def test_blocks_are_of_equal_size_and_hold_every_image_once(tiny_dataset):
    records = load_dataset(tiny_dataset).images
    blocks = partition_images(records, 2, seed=0)
    assert [len(block) for block in blocks] == [2, 2, 2]
    assert {record.image_id for block in blocks for record in block} == {record.image_id for record in records}
    assert partition_images(records, 2, seed=0) == blocks != partition_images(records, 2, seed=1)
    assert [len(block) for block in partition_images(records, 4, seed=0)] == [3, 3]
    assert len(partition_images(records, 100, seed=0)) == 1


def test_items_belong_to_the_block_of_their_image(tiny_dataset):
    records = load_dataset(tiny_dataset).images[:1]
    items = [Item("tiny-0-1", "tiny-0", "", ""), Item("tiny-1-0", "tiny-1", "", ""), Item("tiny-0", "tiny-0", "", "")]
    assert [item.item_id for item in items_of(items, records)] == ["tiny-0-1", "tiny-0"]
