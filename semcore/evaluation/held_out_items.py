"""Queries without an answer: images taken out of the corpus with their sentences, and the queries about them.

They are views of their own, "val without answers" say, and so pass the whole pipeline: searched, with the prior off,
verified, ranked by the weights of their split.
"""

from __future__ import annotations

import random
from collections.abc import Mapping

from semcore.data.items_and_queries import draw_queries, image_of
from semcore.retrieval.batch import SplitKey, SplitView

SUFFIX = " without answers"
SHARE = 0.25  # ours: enough queries, and a corpus that is hardly easier for being smaller


def views_without_answers(
    views: Mapping[SplitKey, SplitView], num_queries: int, seed: int = 0
) -> dict[SplitKey, SplitView]:
    """Return a view for each given one: a quarter of the images is not in its corpus, and its queries are about them.

    Args:
        views: items and queries.
        num_queries: drawn at random where there are more.
        seed: of the draws; both directions of a split leave out the same images.

    Returns:
        (split + `SUFFIX`, direction) -> view; none where no item or no query would be left.
    """
    found = {}
    for key, view in views.items():
        out = _left_out(view, key, seed)
        items = {item_id: item for item_id, item in view.items.items() if item.image_id not in out}
        about = [
            query for query, right in view.queries.relevant.items() if image_of(key.direction, query, right) in out
        ]
        queries = draw_queries(view.queries.only(about), num_queries, seed)
        if items and queries.contents:
            found[SplitKey(key.split + SUFFIX, key.direction)] = SplitView(items, queries)
    return found


def _left_out(view: SplitView, key: SplitKey, seed: int) -> set[str]:
    """Return the images that are taken out, of those that are asked about."""
    asked = {image_of(key.direction, *query) for query in view.queries.relevant.items()}
    images = sorted({item.image_id for item in view.items.values()} & asked)
    return set(random.Random(seed).sample(images, round(SHARE * len(images))))
