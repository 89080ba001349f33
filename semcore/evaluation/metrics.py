"""Scores of a ranking: the field's R@K, rSum and MRR@10, counted on items and never on identifier strings.

R@K is the fraction of queries with at least one relevant item among the first K. Information retrieval calls that
Success@K; TREC's own R@K divides by the number of relevant items and is another figure (with five sentences per image
and one of them in the first three, it is 20 % where the field says 100 %).
"""

from collections.abc import Collection, Mapping, Sequence

import ir_measures
from ir_measures import RR, Success

CUTOFFS = (1, 5, 10)

Rankings = Mapping[str, Sequence[str]]
"""query_id -> item ids, best first."""

Judgements = Mapping[str, Collection[str]]
"""query_id -> ids of the relevant items, at least one per query."""


def retrieval_metrics(run: Rankings, qrels: Judgements, num_items: int) -> dict[str, float]:
    """Score a run against its judgements.

    Args:
        run: Rankings, best first. A judged query without a ranking counts as a miss.
        qrels: The relevant items of every query.
        num_items: The number of items that were searched, reported beside the scores.

    Returns:
        "R@1", "R@5" and "R@10" in percent, their sum "rSum", the paper's sum "rSum@5" (R@1 + R@5),
        "MRR@10" between 0 and 1, "num_queries" and "num_items".

    Raises:
        ValueError: A query has no relevant item or no judgement, or a ranking has an item twice.
    """
    _check(run, qrels)
    measures = [Success @ cutoff for cutoff in CUTOFFS] + [RR @ max(CUTOFFS)]
    judged = {query: dict.fromkeys(right, 1) for query, right in qrels.items()}
    scores = ir_measures.calc_aggregate(measures, judged, _descending_scores(run))
    recall = {f"R@{cutoff}": 100.0 * scores[Success @ cutoff] for cutoff in CUTOFFS}
    return {
        **recall,
        "rSum": sum(recall.values()),
        "rSum@5": recall["R@1"] + recall["R@5"],
        "MRR@10": scores[RR @ 10],
        "num_queries": len(qrels),
        "num_items": num_items,
    }


def as_they_count(run: Rankings, qrels: Judgements, identifiers: Mapping[str, str], num_items: int) -> dict[str, float]:
    """Score a run as papers do that count identifiers: one that several items share stands in the list once.

    AVG and ComGTIR compare strings of codes, so an item is found with any other of the same string. Where no identifier
    is shared, it is what `retrieval_metrics` says; elsewhere it is as much or more.

    Args:
        run: Rankings, best first.
        qrels: The relevant items of every query.
        identifiers: item id -> its identifier; an item without one can only be found by itself.
        num_items: The number of items that were searched.

    Raises:
        ValueError: A query has no relevant item or no judgement.

    Examples:
        >>> same = {"cat": "17 3", "dog": "17 3"}
        >>> as_they_count({"q": ["cat", "dog"]}, {"q": {"dog"}}, same, 2)["R@1"]
        100.0
    """
    distinct = {query: list(dict.fromkeys(identifiers.get(own, own) for own in items)) for query, items in run.items()}
    right = {query: {identifiers.get(own, own) for own in items} for query, items in qrels.items()}
    return retrieval_metrics(distinct, right, num_items)


def first_relevant_rank(ranking: Sequence[str], right: Collection[str]) -> int | None:
    """Return the rank (from 1) of the first relevant item, None where there is none.

    >>> first_relevant_rank(["cat", "dog", "owl"], {"dog", "owl"})
    2
    """
    return next((rank for rank, item in enumerate(ranking, start=1) if item in right), None)


def _descending_scores(run: Rankings) -> dict[str, dict[str, float]]:
    """Convert ranks to scores without ties; items below the last cutoff are dropped."""
    depth = max(CUTOFFS)
    return {query: {item: float(depth - i) for i, item in enumerate(items[:depth])} for query, items in run.items()}


def _check(run: Rankings, qrels: Judgements) -> None:
    if not qrels:
        raise ValueError("no query is judged")
    if empty := [query for query, right in qrels.items() if not right]:
        raise ValueError(f"{len(empty)} queries have no right item, the first is {empty[0]!r}")
    if unjudged := [query for query in run if query not in qrels]:
        raise ValueError(f"{len(unjudged)} queries of the run are not judged, the first is {unjudged[0]!r}")
    if doubled := [query for query, items in run.items() if len(set(items)) != len(items)]:
        raise ValueError(f"{len(doubled)} rankings hold an item twice, the first is that of {doubled[0]!r}")
