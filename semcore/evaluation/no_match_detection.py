"""The threshold of "no match" from an evaluation's shortlists, and how well each quantity at hand would tell.

What decides is `semcore.verification.no_match_rule`'s, always; the others are measured beside it, so that a run on
which one of them tells better can be seen:

    log_sum_exp  of the fused scores of all candidates
    score        the best hit's fused score
    confidence   the best hit's
    generator    the best hit's score by the generator, less what comes off
    verifier     the best hit's score by the verifier; zeros without one

All are of the fusion that later searches use, on val too: fusions that were fitted without a part of val have other
scales, and a threshold is compared with scores of one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from semcore.data.directions import Direction
from semcore.evaluation.confidence import Verified
from semcore.evaluation.held_out_items import SUFFIX
from semcore.evaluation.no_match import QueryValues, auroc, choose_threshold, measure_threshold
from semcore.retrieval.batch import SplitKey
from semcore.retrieval.shortlist import Shortlist
from semcore.verification import Fusion
from semcore.verification.no_match_rule import LOG_SUM_EXP, NoMatchRule
from semcore.verification.score_fusion import log_sum_exp


def find_rule(verified: Verified, direction: Direction, refused: float) -> NoMatchRule | None:
    """Return the rule of "no match" that val says; None where it says none.

    Args:
        verified: the verifier whose scores count.
        direction: of the search.
        refused: the share of val's queries with an answer that may be refused, 0 to 1.
    """
    values = query_values(verified, "val", direction).get(LOG_SUM_EXP)
    threshold = None if values is None else choose_threshold(values, refused)
    return None if threshold is None else NoMatchRule(LOG_SUM_EXP, threshold)


def measure_no_match(
    verified: Verified, split: str, direction: Direction, rule: NoMatchRule | None, refused: float
) -> dict[str, Any]:
    """Return how well the rule tells, on val and on the measured split; {} where nothing could be measured.

    Args:
        verified: the verifier whose scores count.
        split: the measured one.
        direction: of the search.
        rule: from `find_rule`.
        refused: as there.

    Returns:
        "of", what is compared; "wanted_refused", percent; "threshold"; "splits": split -> the figures of
        `measure_threshold`, and "auroc": quantity -> its own.
    """
    threshold = None if rule is None else rule.below
    splits = {}
    for name in dict.fromkeys(("val", split)):
        values = query_values(verified, name, direction)
        if LOG_SUM_EXP in values and values[LOG_SUM_EXP].without_answer:
            areas = {quantity: auroc(own) for quantity, own in values.items()}
            splits[name] = {**measure_threshold(values[LOG_SUM_EXP], threshold), "auroc": areas}
    if not splits:
        return {}
    return {"of": LOG_SUM_EXP, "wanted_refused": 100 * refused, "threshold": threshold, "splits": splits}


def query_values(verified: Verified, split: str, direction: Direction) -> dict[str, QueryValues]:
    """Return quantity -> its value of each query of a split, and of those whose items were taken out of its corpus.

    A query that was asked twice counts twice, one for which nothing was found not at all.
    """
    key, without = SplitKey(split, direction), SplitKey(split + SUFFIX, direction)
    fitted = verified.fits.get(direction)
    if fitted is None or key not in verified.views:
        return {}
    found, lost = _by_content(verified, key, fitted.overall), _by_content(verified, without, fitted.overall)
    queries = verified.views[key].queries
    asked = [
        (found[content], verified.views[key].queries.relevant[query])
        for query, content in queries.contents.items()
        if content in found
    ]
    others = [
        lost[content][1]
        for content in (verified.views[without].queries.contents.values() if lost else ())
        if content in lost
    ]
    right = [item_id in answers for (item_id, _), answers in asked]
    names = asked[0][0][1] if asked else ()
    return {
        name: QueryValues([own[name] for (_, own), _ in asked], right, [own[name] for own in others]) for name in names
    }


def quantities(shortlist: Shortlist, verifier: Sequence[float], fusion: Fusion) -> tuple[str, dict[str, float]]:
    """Return the best candidate's id, and each quantity of its query.

    Args:
        shortlist: one candidate or more.
        verifier: the verifier's score of each.
        fusion: of both.
    """
    fused = fusion.fuse(shortlist.generator, verifier, shortlist.further)
    place = int(np.argmax(fused))
    confidences = fusion.confidence(fused)
    found = {LOG_SUM_EXP: log_sum_exp(fused), "score": float(fused[place])}
    if confidences is not None:
        found["confidence"] = confidences[place]
    return shortlist.items[place].item_id, {
        **found, "generator": shortlist.generator[place], "verifier": verifier[place]
    }  # fmt: skip


def _by_content(verified: Verified, key: SplitKey, fusion: Fusion) -> dict[str, tuple[str, dict[str, float]]]:
    """Return what was asked -> the best hit's id and each quantity; none of a view that there is not."""
    return {
        own.query: quantities(own, scores, fusion)
        for own, scores in zip(verified.shortlists.get(key, ()), verified.scores.get(key, ()), strict=True)
        if own.items
    }
