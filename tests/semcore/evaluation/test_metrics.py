"""The scores against a slow obvious reference, and the field's reading of recall."""

import random

import ir_measures
import pytest

from semcore.evaluation.metrics import CUTOFFS, as_they_count, first_relevant_rank, retrieval_metrics


def reference(run: dict[str, list[str]], qrels: dict[str, set[str]]) -> dict[str, float]:
    """Score query by query and rank by rank, as one would on paper."""
    found = {1: 0, 5: 0, 10: 0}
    reciprocal = 0.0
    for query, right in qrels.items():
        ranking = run.get(query, [])
        for cutoff in found:
            if any(item in right for item in ranking[:cutoff]):
                found[cutoff] += 1
        for rank, item in enumerate(ranking[:10], start=1):
            if item in right:
                reciprocal += 1 / rank
                break
    recall = {f"R@{cutoff}": 100 * count / len(qrels) for cutoff, count in found.items()}
    return {**recall, "MRR@10": reciprocal / len(qrels)}


def random_run(seed: int) -> tuple[dict[str, list[str]], dict[str, set[str]]]:
    rng = random.Random(seed)
    items = [f"item{i}" for i in range(40)]
    queries = [f"query{i}" for i in range(rng.randint(1, 60))]
    qrels = {query: set(rng.sample(items, rng.randint(1, 5))) for query in queries}
    run = {query: rng.sample(items, rng.randint(0, 25)) for query in queries if rng.random() < 0.9}
    return run, qrels


@pytest.mark.parametrize("seed", range(20))
def test_scores_equal_the_slow_reference(seed: int) -> None:
    run, qrels = random_run(seed)
    scores = retrieval_metrics(run, qrels, num_items=40)
    for name, value in reference(run, qrels).items():
        assert scores[name] == pytest.approx(value), name
    assert scores["rSum"] == pytest.approx(scores["R@1"] + scores["R@5"] + scores["R@10"])
    assert scores["rSum@5"] == pytest.approx(scores["R@1"] + scores["R@5"])
    assert (scores["num_queries"], scores["num_items"]) == (len(qrels), 40)


def test_the_contract_s_keys_and_no_others() -> None:
    scores = retrieval_metrics({"q": ["a"]}, {"q": {"a"}}, num_items=1)
    assert set(scores) == {"R@1", "R@5", "R@10", "rSum", "rSum@5", "MRR@10", "num_queries", "num_items"}


def test_recall_is_a_fraction_of_queries_and_not_of_relevant_items() -> None:
    """Five sentences, one of them among the first five: 100 % here, 20 % in TREC's R@5."""
    run, qrels = {"image": ["x", "s1", "y"]}, {"image": {"s1", "s2", "s3", "s4", "s5"}}
    assert retrieval_metrics(run, qrels, num_items=9)["R@5"] == 100.0
    trec = ir_measures.calc_aggregate(
        [ir_measures.R @ 5], {"image": dict.fromkeys(qrels["image"], 1)}, {"image": {"x": 3.0, "s1": 2.0, "y": 1.0}}
    )
    assert trec[ir_measures.R @ 5] == pytest.approx(0.2)


def test_a_query_without_an_answer_counts_as_a_miss() -> None:
    scores = retrieval_metrics({"q1": ["a"]}, {"q1": {"a"}, "q2": {"a"}}, num_items=2)
    assert scores["R@1"] == scores["R@10"] == 50.0
    assert scores["MRR@10"] == 0.5


def test_the_first_of_several_right_items_counts() -> None:
    assert first_relevant_rank(["x", "b", "a"], {"a", "b"}) == 2
    assert first_relevant_rank(["x"], {"a"}) is None


@pytest.mark.parametrize(
    ("run", "qrels", "message"),
    [
        ({}, {}, "no query is judged"),
        ({}, {"q": set()}, "no right item"),
        ({"other": ["a"]}, {"q": {"a"}}, "not judged"),
        ({"q": ["a", "b", "a"]}, {"q": {"b"}}, "an item twice"),
    ],
)
def test_what_would_give_a_wrong_score_is_refused(
    run: dict[str, list[str]], qrels: dict[str, set[str]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        retrieval_metrics(run, qrels, num_items=3)


def test_as_they_count_is_a_search_over_identifiers() -> None:
    """Beside a loop: the rank of the first distinct identifier that is a relevant item's; never below item-level."""
    generator = random.Random(0)
    items = [f"item {number}" for number in range(30)]
    identifiers = {item: str(generator.randrange(12)) for item in items[:-1]}  # the last one has none
    run = {f"q{number}": generator.sample(items, 20) for number in range(40)}
    qrels = {query: set(generator.sample(items, 2)) for query in run}
    scores, plain = as_they_count(run, qrels, identifiers, 30), retrieval_metrics(run, qrels, 30)
    for cutoff in CUTOFFS:
        found = 0
        for query, ranking in run.items():
            distinct: list[str] = []
            for item in ranking:
                name = identifiers.get(item, item)
                distinct += [] if name in distinct else [name]
            right = {identifiers.get(item, item) for item in qrels[query]}
            found += any(name in right for name in distinct[:cutoff])
        assert scores[f"R@{cutoff}"] == pytest.approx(100 * found / 40)
        assert scores[f"R@{cutoff}"] > plain[f"R@{cutoff}"]
    alone = {item: item for item in items}
    assert as_they_count(run, qrels, alone, 30) == plain
