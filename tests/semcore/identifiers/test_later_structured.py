"""Structured identifiers of later items are those that the same texts have among the items of val and test."""

from __future__ import annotations

from typing import Any

import pytest

from semcore.data.caption_files import TextItem
from semcore.data.identifier_files import NO_CLUSTER
from semcore.identifiers.ablation_schemes import without_global_ids
from semcore.identifiers.later_structured import FittedIdentifiers, identify_later_items
from semcore.identifiers.sentence_encoder import Encode
from semcore.identifiers.structured import StructuredIdentifiers, build_structured_identifiers

ANIMALS, PLACES = ("dog", "cat", "horse", "cow"), ("park", "kitchen", "beach", "street", "meadow")
SETTINGS: dict[str, Any] = {
    "num_keywords": 2, "deduplicate": True, "ngram_range": (1, 1), "stop_words": "english", "segmenter": None,
    "tokens_per_batch": 64, "keyword_method": "fast", "diversity": None, "nr_candidates": None,
    "keyword_choice": "similarity", "keyword_order": "similarity",
}  # fmt: skip


@pytest.mark.parametrize(
    "changes",
    [
        {}, {"deduplicate": False}, {"stop_words": None}, {"ngram_range": (1, 2)}, {"per_item": 3},
        {"keyword_choice": "mention_rate", "keyword_order": "mention_rate"},
        pytest.param({"keyword_method": "keybert"}, marks=pytest.mark.slow),
        {"global_id": False},
    ],
    ids=str,
)  # fmt: skip
def test_they_are_those_of_a_split_that_nothing_was_fitted_on(encode: Encode, changes: dict[str, Any]) -> None:
    texts = [f"a {animal} on the {place}, near a {other}" for animal in ANIMALS for place in PLACES for other in PLACES]
    captions = [TextItem(f"i{n}", "test" if n % 5 == 4 else "train", text) for n, text in enumerate(texts)]
    sentences = [TextItem(f"s{n}", own.split, own.text.replace("near", "by")) for n, own in enumerate(captions)]
    settings = {**SETTINGS, **changes, "scheme": "structured", "global_id": changes.get("global_id", True)}
    built = build_structured_identifiers(
        captions, sentences, encode, num_clusters=4, num_cluster_words=1, protocol="inductive", seed=0, num_inits=2,
        max_iterations=100, max_fit_items=1000, image_of_sentence=list(range(len(captions))),
        **{name: value for name, value in {**SETTINGS, **changes}.items() if name != "global_id"},
    )  # fmt: skip
    if not settings["global_id"]:
        built = without_global_ids(built)
    fitted = fitted_to(built, {**settings, "stop_words": settings["stop_words"] or "none"})
    for rows, items in ((built.t2i, captions), (built.i2t, sentences)):
        later = [(row, own.text) for row, own in zip(rows, items, strict=True) if own.split == "test"]
        found = identify_later_items([text for _, text in later], encode, fitted)
        for (row, _), own in zip(later, found, strict=True):
            assert (own.global_id, own.lexical_id) == (row["global_id"], row["lexical_id"])
            assert [text for text in dict.fromkeys(own.more) if text != row["identifier"]] == row.get("more", [])


def fitted_to(built: StructuredIdentifiers, settings: dict[str, Any]) -> FittedIdentifiers:
    words = [[word for word, _ in cluster] for cluster in built.cluster_words]
    return FittedIdentifiers(built.centroids, words, built.mention_counts, settings)


def test_texts_without_a_word_have_a_cluster(encode: Encode) -> None:
    captions = [TextItem(f"i{n}", "train", f"a {animal}") for n, animal in enumerate(ANIMALS)]
    built = build_structured_identifiers(
        captions, [], encode, num_clusters=2, num_cluster_words=1, protocol="inductive", seed=0, num_inits=2,
        max_iterations=100, max_fit_items=1000, **SETTINGS,
    )  # fmt: skip
    settings = {**SETTINGS, "scheme": "structured", "global_id": True}
    [own] = identify_later_items(["!"], encode, fitted_to(built, settings))
    assert own.global_id != NO_CLUSTER and own.lexical_id == []
