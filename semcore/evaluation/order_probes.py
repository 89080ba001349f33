"""Order probes of a listwise verifier: the same candidates scored in several orders (`evaluation.order_bias`).

Each probe has one positive among the generator's top-ranked negatives, so that the figures do not
depend on the generator's recall.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from semcore.evaluation.order_bias import Reordered, draw_orders, order_bias, reorder
from semcore.retrieval.batch import SplitKey, SplitView, WorkDir
from semcore.retrieval.hits import GeneratedHit
from semcore.retrieval.shortlist import Shortlist, images_shown, question_of
from semcore.verification import VerifierSession, choose_in_given_order

NUM_ORDERS = 2  # agreement needs two; every rotation of each is scored
QUERIES_PER_CHUNK = 2  # few, so that several processes have about the same work


class OrderProbe(NamedTuple):
    """Candidates of which exactly one is relevant; `right` is its index."""

    shortlist: Shortlist
    right: int


def draw_order_probes(
    view: SplitView, hits: Mapping[str, Sequence[GeneratedHit]], num_candidates: int, num_queries: int, seed: int = 0
) -> list[OrderProbe]:
    """Draw queries at random and give each its relevant item among the best-ranked negatives.

    All have equally many candidates: as many as wanted, or as most queries' hits allow.

    Args:
        view: items and queries.
        hits: query -> the generator's ranking.
        num_candidates: candidates per query, at most.
        num_queries: number of drawn queries, at most.
        seed: seed of the draw.
    """
    right: dict[str, set[str]] = {}
    for query, content in view.queries.contents.items():
        right.setdefault(content, set()).update(view.queries.relevant[query] & view.items.keys())
    answerable = [content for content in view.unique_queries if right[content]]
    drawn = random.Random(seed).sample(answerable, min(num_queries, len(answerable)))
    probes = [_order_probe(view, content, right[content], hits[content], num_candidates) for content in drawn]
    sizes = [len(probe.shortlist.items) for probe in probes]
    usual = max(sorted(set(sizes), reverse=True), key=sizes.count, default=0)
    return [probe for probe, size in zip(probes, sizes, strict=True) if size == usual > 1]


def measure_order_bias(
    name: str,
    session: VerifierSession,
    key: SplitKey,
    probes: Sequence[OrderProbe],
    work_dir: WorkDir,
    shifts: Sequence[int],
) -> dict[str, Any]:
    """Score the probes in many orders and return the entries of metrics.json, fractions in percent.

    Args:
        name: the measured model's name.
        session: the model.
        key: the split view of the probes.
        probes: from `draw_order_probes`, at least one.
        work_dir: folder of the resumable work.
        shifts: numbers of cyclic shifts to average; more than the candidates count as all.
    """

    def work(chunk: list[OrderProbe]) -> list[Any]:
        questions = [own for probe in chunk for own in reorder(question_of(probe.shortlist), orders_of(probe))]
        answers = choose_in_given_order(session, key.direction, questions)
        return torch.stack(answers).view(len(chunk), NUM_ORDERS, num_candidates, num_candidates).tolist()

    num_candidates = len(probes[0].shortlist.items)
    session.features.add(images_shown(key.direction, [probe.shortlist for probe in probes]), progress=work_dir.progress)
    rows = work_dir.run(f"order bias {name} {key.direction}", probes, QUERIES_PER_CHUNK, work, "query")
    answers = [Reordered(orders_of(probe), probe.right, np.array(row)) for probe, row in zip(probes, rows, strict=True)]
    return {
        "model": name,
        "num_queries": len(probes),
        "num_candidates": num_candidates,
        "num_orders": NUM_ORDERS,
        "chance": round(100 / num_candidates, 2),
        "rows": [order_bias(answers, count) for count in sorted({min(count, num_candidates) for count in shifts})],
    }


def orders_of(probe: OrderProbe) -> NDArray[np.int64]:
    """Return the orders of a probe's candidates (orders, candidates), the same at every call."""
    return draw_orders(len(probe.shortlist.items), NUM_ORDERS, probe.shortlist.query)


def _order_probe(
    view: SplitView, content: str, right: set[str], hits: Sequence[GeneratedHit], num_candidates: int
) -> OrderProbe:
    """Return the probe: the relevant item at the generator's rank, or last, without other relevant items."""
    answer = next((hit.item_id for hit in hits if hit.item_id in right), min(right))
    wrong = [hit.item_id for hit in hits if hit.item_id not in right][: num_candidates - 1]
    found = [hit.item_id for hit in hits if hit.item_id == answer or hit.item_id in wrong]
    chosen = found if answer in found else [*found, answer]
    items = tuple(view.items[item_id] for item_id in chosen)
    return OrderProbe(Shortlist(content, items, (0.0,) * len(items)), chosen.index(answer))
