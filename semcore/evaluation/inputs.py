"""Inputs of an evaluation: the views of a split that are measured, and their folds."""

from __future__ import annotations

from collections.abc import Mapping

from semcore.data.items_and_queries import image_of
from semcore.evaluation.folds import assign_folds
from semcore.retrieval.batch import SplitKey, SplitView


def fold_split_views(views: Mapping[SplitKey, SplitView], num_folds: int) -> dict[SplitKey, SplitView]:
    """Cut the parts of a split into folds of its images, each with its own items and queries.

    Returns:
        (fold name, direction) -> part; a direction without a query in a fold has none.
    """
    images = dict.fromkeys(
        [image_of(key.direction, *query) for key, view in views.items() for query in view.queries.relevant.items()]
        + [item.image_id for view in views.values() for item in view.items.values()]
    )
    folds = {}
    for number, chosen in enumerate(assign_folds(list(images), num_folds), start=1):
        members = set(chosen)
        for key, view in views.items():
            items = {item_id: item for item_id, item in view.items.items() if item.image_id in members}
            own = [query for query in view.queries.relevant.items() if image_of(key.direction, *query) in members]
            queries = view.queries.only(query for query, _ in own)
            if items and queries.contents:
                folds[SplitKey(f"{key.split} fold {number}", key.direction)] = SplitView(items, queries)
    return folds
