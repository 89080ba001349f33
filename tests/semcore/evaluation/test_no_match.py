"""The threshold of "no match" and its figures, against loops over plain lists."""

from __future__ import annotations

import math
import random

import pytest

from semcore.data.directions import Direction
from semcore.data.items_and_queries import Item, Queries
from semcore.evaluation.confidence import Verified
from semcore.evaluation.fitted_fusions import Fitted
from semcore.evaluation.no_match import QueryValues, auroc, choose_threshold, measure_threshold
from semcore.evaluation.no_match_detection import find_rule, measure_no_match, query_values
from semcore.retrieval.batch import SplitKey, SplitView
from semcore.retrieval.shortlist import Shortlist, hits_of
from semcore.verification import Fusion
from semcore.verification.calibration import Calibration
from semcore.verification.no_match_rule import NoMatchRule
from semcore.verification.score_fusion import log_sum_exp

CALIBRATION = Calibration(1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


def slow_threshold(values: QueryValues, refused: float) -> float | None:
    """Try every value there is, the highest first."""
    given, without = values.with_answer, values.without_answer
    for threshold in sorted({*given, *without}, reverse=True):
        wrongly = sum(value < threshold for value in given)
        if wrongly <= refused * len(given) + 1e-9 and threshold in given:
            caught = sum(value < threshold for value in without)
            return threshold if caught / len(without) > wrongly / len(given) else None
    return None


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("refused", [0.0, 0.05, 0.29, 0.5, 0.999])
def test_the_threshold_is_the_highest_that_refuses_no_more(seed: int, refused: float) -> None:
    rng = random.Random(seed)
    given = [round(rng.gauss(seed / 4, 1), 1) for _ in range(40)]
    without = [round(rng.gauss(0, 1), 1) for _ in range(15)]
    values = QueryValues(given, [rng.random() < 0.7 for _ in given], without)
    threshold = choose_threshold(values, refused)
    assert threshold == slow_threshold(values, refused)
    figures = measure_threshold(values, threshold)
    least = -math.inf if threshold is None else threshold
    assert figures["refused"] == pytest.approx(100 * sum(value < least for value in given) / 40)
    assert figures["refused"] <= 100 * refused + 1e-9
    assert figures["caught"] == pytest.approx(100 * sum(value < least for value in without) / 15)
    assert figures["precision"] == pytest.approx(slow_precision(values, least))
    pairs = [(own > other) + 0.5 * (own == other) for own in given for other in without]
    assert auroc(values) == pytest.approx(sum(pairs) / len(pairs))


def slow_precision(values: QueryValues, least: float) -> float | None:
    """Return the precision with both kinds of query repeated until they are equally many."""
    with_answer = [*zip(values.with_answer, values.right, strict=True)] * len(values.without_answer)
    without = [*values.without_answer] * len(values.with_answer)
    answers = [right for value, right in with_answer if value >= least]
    answers += [False for value in without if value >= least]
    return 100 * sum(answers) / len(answers) if answers else None


def test_without_queries_nothing_is_chosen_and_nothing_measured() -> None:
    assert choose_threshold(QueryValues([], [], [0.1]), 0.1) is None
    assert choose_threshold(QueryValues([0.9] * 20, [True] * 20, []), 0.1) is None
    few, enough = (QueryValues([float(n) for n in range(number)], [True] * number, [-1.0]) for number in (9, 10))
    assert (choose_threshold(few, 0.1), choose_threshold(enough, 0.1)) == (None, 1.0)
    assert choose_threshold(QueryValues(enough.with_answer, enough.right, [20.0]), 0.1) is None  # it catches none
    nothing = measure_threshold(QueryValues([], [], []), 0.5)
    assert (nothing["precision"], nothing["refused"], nothing["caught"]) == (None,) * 3
    assert auroc(QueryValues([], [], [1.0])) is None


def views_of(scores: dict[str, list[tuple[list[float], bool]]], fusion: Fusion) -> Verified:
    """Return shortlists with given verifier's scores of split -> queries, whose first item is right or not."""
    views, shortlists, verifier = {}, {}, {}
    for split, queries in scores.items():
        key = SplitKey(split, Direction.T2I)
        items = {f"i{n}": Item(f"i{n}", f"i{n}", f"word{n}", "word") for n in range(10)}
        contents = {f"q{n}": f"query {n}" for n in range(len(queries))}
        relevant = {f"q{n}": {"i0" if right else "i9"} for n, (_, right) in enumerate(queries)}
        views[key] = SplitView(items, Queries(contents, contents, relevant))
        shortlists[key] = [
            Shortlist(content, tuple(items[f"i{n}"] for n in range(len(own))), tuple(0.1 * n for n in range(len(own))))
            for content, (own, _) in zip(contents.values(), queries, strict=True)
        ]
        verifier[key] = [own for own, _ in queries]
    return Verified(views, shortlists, verifier, {Direction.T2I: Fitted(fusion)})


def test_every_quantity_is_measured_query_by_query_and_searches_decide_alike() -> None:
    rng = random.Random(3)
    fusion = Fusion(0.25, 0.5, CALIBRATION)
    drawn = {
        split: [([rng.gauss(mean, 1) for _ in range(4)], rng.random() < 0.7) for _ in range(number)]
        for split, mean, number in (
            ("val", 1.0, 40), ("val without answers", -1.0, 12), ("test", 1.0, 30), ("test without answers", -1.0, 9)
        )
    }  # fmt: skip
    verified = views_of(drawn, fusion)
    rule = find_rule(verified, Direction.T2I, 0.1)
    assert rule is not None and rule.of == "log_sum_exp"
    for split in ("val", "test"):
        values = query_values(verified, split, Direction.T2I)
        for content, (own, right), *found in zip(
            range(len(drawn[split])), drawn[split], *(each.with_answer for each in values.values()), strict=True
        ):
            fused = [(0.25 * 0.1 * n + 0.75 * score) / 0.5 for n, score in enumerate(own)]
            place = fused.index(max(fused))
            total = math.log(sum(map(math.exp, fused)))
            share = math.exp(fused[place] - total)
            confidence = share / (1 + share)  # the calibration's logit is the logarithm of the share
            assert found == pytest.approx([total, fused[place], confidence, 0.1 * place, own[place]])
            assert values["score"].right[content] == (right and place == 0)
    measured = measure_no_match(verified, "test", Direction.T2I, rule, 0.1)
    assert (measured["of"], measured["threshold"], list(measured["splits"])) == (
        "log_sum_exp",
        rule.below,
        ["val", "test"],
    )
    decided = []
    for key in (SplitKey("test", Direction.T2I), SplitKey("test without answers", Direction.T2I)):
        ruled = Fusion(0.25, 0.5, CALIBRATION, no_match=rule)
        items = verified.views[key].items
        decided.append(
            [
                hits_of(own, scores, ruled, [], items)[0].no_match
                for own, scores in zip(verified.shortlists[key], verified.scores[key], strict=True)
            ]
        )
    figures = measured["splits"]["test"]
    assert figures["refused"] == pytest.approx(100 * sum(map(bool, decided[0])) / 30)
    assert figures["caught"] == pytest.approx(100 * sum(map(bool, decided[1])) / 9)
    assert figures["auroc"]["log_sum_exp"] == auroc(query_values(verified, "test", Direction.T2I)["log_sum_exp"])
    assert find_rule(views_of({"val": drawn["val"]}, fusion), Direction.T2I, 0.1) is None
    assert measure_no_match(views_of({"val": drawn["val"]}, fusion), "val", Direction.T2I, None, 0.1) == {}


@pytest.mark.parametrize("listwise", [False, True])
def test_equal_hits_at_the_top_are_no_reason_to_refuse(listwise: bool) -> None:
    """Ten items of one content: each has a tenth of the confidence, and together they fit as well as one of them."""
    items = {f"i{n}": Item(f"i{n}", f"i{n}", "red circle", "red circle") for n in range(10)}
    alone, many = (Shortlist("q", tuple(items.values())[:number], (4.0,) * number) for number in (1, 10))
    fusion = Fusion(0.5, 1.0, CALIBRATION, no_match=NoMatchRule("log_sum_exp", 3.0))
    scores = ([2.0], [2.0 - (math.log(10) if listwise else 0.0)] * 10)
    first, equal = (hits_of(own, each, fusion, [], items)[0] for own, each in zip((alone, many), scores, strict=True))
    assert first.confidence is not None and equal.confidence is not None and equal.confidence < first.confidence / 4
    assert first.no_match is equal.no_match is False
    assert first.no_match_by is not None and equal.no_match_by is not None
    assert equal.no_match_by.value >= first.no_match_by.value
    assert fusion.confidence([3.0] * 10)[0] < fusion.confidence([-3.0, -9.0])[0]  # type: ignore[index]
    assert log_sum_exp([3.0] * 10) > log_sum_exp([-3.0, -9.0])
