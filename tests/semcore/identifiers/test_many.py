"""Identifiers of many items, with what lies on the disk, beside those of few, held in lists."""

from __future__ import annotations

import json
import random
from typing import Any

import numpy as np
import pytest

from semcore.data.caption_files import NO_IMAGE, TextItem
from semcore.data.identifier_files import NO_CLUSTER, IdentifierRow, code_row, make_row
from semcore.identifiers import structured
from semcore.identifiers.embedding_file import EmbeddingFile
from semcore.identifiers.quality import measure_items
from semcore.identifiers.quality_of_many import measure_many
from semcore.identifiers.sentence_encoder import embed, embed_to_file
from semcore.identifiers.structured import StructuredIdentifiers, build_structured_identifiers
from semcore.runtime import long_lists

WORDS = ["ant", "bee", "cat", "dog", "elk", "fox", "gnu", "hen", "red", "blue", "small", "park", "the", "a"]


def encode(texts: list[str]) -> np.ndarray:
    """Return vectors that depend on each text alone."""
    return np.stack([np.random.default_rng(sum(map(ord, text))).standard_normal(8) for text in texts]).astype("f4")


def texts(number: int, seed: int) -> list[str]:
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=rng.randint(1, 7))) for _ in range(number)]


def test_texts_are_embedded_in_the_same_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    some, batches = [*texts(200, 0), *texts(40, 0)], []

    def recorded(batch: list[str]) -> np.ndarray:
        batches.append(batch)
        return encode(batch)

    expected = embed(some, recorded, tokens_per_batch=30)
    in_memory = batches.copy()
    batches.clear()
    monkeypatch.setattr(long_lists, "IN_MEMORY", 10)
    found = embed_to_file(some, recorded, tokens_per_batch=30)
    assert isinstance(found, EmbeddingFile)
    assert batches == in_memory
    assert np.array_equal(found[0 : len(some)], expected)
    places = np.random.default_rng(0).integers(0, len(some), 50)
    assert np.array_equal(found[places], expected[places]) and found[300:400].shape == (0, 8)
    assert found[235:999].shape == (5, 8)


def build(**changes: Any) -> StructuredIdentifiers:
    splits = random.Random(2).choices(["train", "val", "test"], [6, 1, 1], k=60)
    captions = [TextItem(f"i{n}", splits[n], text) for n, text in enumerate(texts(60, 3))]
    sentences = [TextItem(f"s{n}", splits[n // 2], text) for n, text in enumerate(texts(120, 4))]
    image_of = [n // 2 if n % 7 else NO_IMAGE for n in range(120)]
    settings: dict[str, Any] = {
        "num_clusters": 3, "num_keywords": 2, "num_cluster_words": 1, "deduplicate": True, "ngram_range": (1, 1),
        "stop_words": "english", "protocol": "inductive", "seed": 0, "num_inits": 1, "max_iterations": 20,
        "max_fit_items": 100, "tokens_per_batch": 64, "image_of_sentence": image_of,
    }  # fmt: skip
    return build_structured_identifiers(captions, sentences, encode, **{**settings, **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"per_item": 2},
        {"keyword_choice": "mention_rate", "keyword_order": "mention_rate"},
        {"protocol": "transductive", "deduplicate": False},
    ],
    ids=str,
)
def test_identifiers_are_the_same(changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    few = build(**changes)
    monkeypatch.setattr(long_lists, "IN_MEMORY", 10)
    monkeypatch.setattr(structured, "_ITEMS_AT_ONCE", 17)
    many = build(**changes)
    assert isinstance(few.t2i, list) and not isinstance(many.t2i, list)
    assert list(many.t2i) == few.t2i and list(many.i2t) == few.i2t
    assert np.array_equal(many.centroids, few.centroids)
    for name in ("cluster_words", "num_fitted", "num_with_word", "mention_counts", "mentions"):
        assert getattr(many, name) == getattr(few, name)
    for rows in (few.t2i, few.i2t):
        assert _text(measure_many(rows, 5)) == _text(measure_items(rows, 5))


@pytest.mark.parametrize("seed", range(20))
def test_figures_are_the_same(seed: int) -> None:
    rng = random.Random(seed)
    rows: list[IdentifierRow] = []
    for number in range(rng.randint(1, 60)):
        cluster = rng.choice([NO_CLUSTER, 0, 1, 2])
        if rng.random() < 0.2:
            tokens = "".join(f"<|code_{level}_{rng.randint(0, 2)}|>" for level in range(rng.randint(1, 4)))
            rows.append(code_row(f"{number}", "train", NO_CLUSTER, [1], [tokens]))
        else:
            rows.append(make_row(f"{number}", "train", cluster, rng.choices(WORDS[:5], k=rng.randint(0, 3))))
    assert _text(measure_many(rows, 7)) == _text(measure_items(rows, 7))


def _text(figures: dict[str, Any]) -> str:
    return json.dumps(figures)  # in its order, as report.json has it
