from semcore.data.items_and_queries import Item, Queries
from semcore.evaluation.order_probes import draw_order_probes, orders_of
from semcore.retrieval.batch import SplitView
from semcore.retrieval.hits import GeneratedHit

ITEMS = {name: Item(name, name, f"<|cluster_0|>{name}", "") for name in "abcdef"}
RIGHT = {"q1": {"c"}, "q2": {"e", "a"}, "q3": {"f"}}
CONTENTS = {"q1": "one", "q2": "two", "q3": "three"}
VIEW = SplitView(ITEMS, Queries(CONTENTS, CONTENTS, RIGHT))


def hits(**names):
    return {content: [GeneratedHit(name, "", 0.0) for name in own] for content, own in names.items()}


def drawn(num_candidates=3, num_queries=9, **names):
    probes = draw_order_probes(VIEW, hits(**names), num_candidates, num_queries)
    return {p.shortlist.query: ("".join(i.item_id for i in p.shortlist.items), p.right) for p in probes}


def test_a_probe_has_one_relevant_item_at_the_generators_rank_or_last():
    found = drawn(one="abcd", two="bdeac", three="abc")
    assert found == {"one": ("abc", 2), "two": ("bde", 2), "three": ("abf", 2)}
    assert drawn(one="cab", two="fabc", three="fab") == {"one": ("cab", 0), "two": ("fab", 1), "three": ("fab", 0)}


def test_queries_with_fewer_candidates_than_most_are_left_out():
    assert drawn(one="abcd", two="bdeac", three="f") == {"one": ("abc", 2), "two": ("bde", 2)}
    assert drawn(one="c", two="a", three="f") == {}


def test_as_many_are_drawn_as_wanted_and_the_same_each_time():
    names = {"one": "abcd", "two": "bdeac", "three": "abc"}
    assert len(drawn(num_queries=2, **names)) == 2
    assert drawn(num_queries=2, **names) == drawn(num_queries=2, **names)
    assert drawn(num_queries=0, **names) == {}
    one = draw_order_probes(VIEW, hits(**names), 3, 2)[0]
    assert orders_of(one).shape == (2, 3)
    assert orders_of(one).tolist() == orders_of(one).tolist()


def test_equal_sentences_share_their_relevant_items():
    same = dict.fromkeys(RIGHT, "same")
    [probe] = draw_order_probes(SplitView(ITEMS, Queries(same, same, RIGHT)), hits(same="abcdef"), 3, 9)
    assert [item.item_id for item in probe.shortlist.items] == ["a", "b", "d"]
    assert probe.right == 0


def test_queries_without_a_relevant_item_give_no_probe():
    lost = {**RIGHT, "q3": {"gone"}}
    view = SplitView(ITEMS, Queries(CONTENTS, CONTENTS, lost, frozenset({"q3"})))
    probes = draw_order_probes(view, hits(one="abcd", two="bdeac", three="abc"), 3, 9)
    assert {probe.shortlist.query for probe in probes} == {"one", "two"}
