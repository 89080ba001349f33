"""Structured identifiers of captions and sentences: the data they are fitted on, and their dependences."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from semcore.data.caption_files import TextItem
from semcore.data.identifier_files import NO_CLUSTER
from semcore.identifiers.ablation_schemes import without_global_ids
from semcore.identifiers.sentence_encoder import Encode
from semcore.identifiers.structured import StructuredIdentifiers, build_structured_identifiers, fitted_on
from semcore.runtime.errors import UserError

ANIMALS = ("dog", "cat", "horse", "cow")
PLACES = ("park", "kitchen", "beach", "street", "meadow")


def _captions() -> list[TextItem]:
    texts = [f"a {animal} in a {place}" for animal in ANIMALS for place in PLACES]
    return [TextItem(f"i{n}", "test" if n % 5 == 4 else "train", text) for n, text in enumerate(texts)]


def _build(
    captions: list[TextItem], sentences: list[TextItem], encode: Encode, **changes: Any
) -> StructuredIdentifiers:
    settings: dict[str, Any] = {
        "num_clusters": 4, "num_keywords": 4, "num_cluster_words": 1, "deduplicate": True, "ngram_range": (1, 1),
        "stop_words": "english", "protocol": "inductive", "seed": 0, "num_inits": 4, "max_iterations": 300,
        "max_fit_items": 1000, "tokens_per_batch": 64,
    }  # fmt: skip
    return build_structured_identifiers(captions, sentences, encode, **{**settings, **changes})


def test_items_keep_their_order_split_and_text_form(encode: Encode) -> None:
    captions = _captions()
    sentences = [TextItem("s0", "val", "two dogs on a sofa"), TextItem("s1", "test", "the of")]
    built = _build(captions, sentences, encode)
    assert [(row["item_id"], row["split"]) for row in built.t2i] == [(item.item_id, item.split) for item in captions]
    assert [row["item_id"] for row in built.i2t] == ["s0", "s1"]
    assert sum(built.num_fitted) == 16
    assert built.i2t[1]["lexical_id"] == []
    assert built.i2t[1]["identifier"] == f"<|cluster_{built.i2t[1]['global_id']}|>"


def test_the_words_of_a_cluster_never_stand_in_its_identifiers(encode: Encode) -> None:
    built = _build(_captions(), [], encode)
    words = [{word for word, _ in cluster} for cluster in built.cluster_words]
    assert all(len(cluster) == 1 for cluster in words)
    assert not any(words[row["global_id"]] & set(row["lexical_id"]) for row in built.t2i)
    kept = _build(_captions(), [], encode, deduplicate=False)
    assert kept.cluster_words == built.cluster_words
    assert all(len(row["lexical_id"]) == 2 for row in kept.t2i)


def test_a_sentence_equal_to_a_caption_gets_the_same_identifier(encode: Encode) -> None:
    captions = _captions()
    built = _build(captions, [TextItem(f"s{n}", "test", item.text) for n, item in enumerate(captions)], encode)
    assert [row["identifier"] for row in built.i2t] == [row["identifier"] for row in built.t2i]


def test_nothing_is_learnt_about_items_of_other_splits(encode: Encode) -> None:
    captions = _captions()
    others = [item._replace(text=f"{item.text} with a zebra") if item.split == "test" else item for item in captions]
    before = _build(captions, [], encode)
    after = _build([*others, TextItem("new", "val", "an unheard of thing")], [TextItem("s", "test", "zebra")], encode)
    assert after.centroids == pytest.approx(before.centroids, abs=1e-6)
    assert after.cluster_words == before.cluster_words
    train = [row for row in before.t2i if row["split"] == "train"]
    assert [row for row in after.t2i if row["split"] == "train"] == train
    assert after.t2i != before.t2i


def _sentences(captions: list[TextItem]) -> tuple[list[TextItem], list[int]]:
    """Return two sentences an image, which name the place more often than the animal, and whose they are."""
    texts = [(number, item, item.text.split()) for number, item in enumerate(captions)]
    sentences = [
        TextItem(f"s{number}-{n}", item.split, text)
        for number, item, words in texts
        for n, text in enumerate((f"the {words[4]} on a day", f"the {words[4]}, {words[1] if number % 2 else 'fun'}"))
    ]
    return sentences, [number for number, _, _ in texts for _ in range(2)]


@pytest.mark.parametrize("method", ["fast", "keybert"])
def test_what_people_mention_comes_first_in_both_directions(encode: Encode, method: str) -> None:
    captions = [item._replace(split="train" if n % 6 else "test") for n, item in enumerate(_captions())]
    sentences, image_of_sentence = _sentences(captions)
    settings: dict[str, Any] = {"deduplicate": False, "image_of_sentence": image_of_sentence, "keyword_method": method}
    plain = _build(captions, sentences, encode, **settings)
    built = _build(captions, sentences, encode, keyword_order="mention_rate", **settings)
    assert all(row["lexical_id"] == item.text.split()[4:0:-3] for row, item in zip(built.t2i, captions, strict=True))
    assert [sorted(row["lexical_id"]) for row in built.t2i] == [sorted(row["lexical_id"]) for row in plain.t2i]
    assert all(row["lexical_id"][0] in PLACES for row in built.i2t)
    assert {count.word: count.rate for count in built.mention_counts}["beach"] == 1.0
    assert built.mention_counts == plain.mention_counts
    assert built.mentions["test"]["percent_by_depth"]["1"] == 100.0
    chosen = _build(captions, sentences, encode, keyword_choice="mention_rate", **{**settings, "num_keywords": 1})
    assert [row["lexical_id"] for row in chosen.t2i] == [[item.text.split()[4]] for item in captions]


@pytest.mark.parametrize("choice", ["similarity", "mention_rate"])
def test_no_rate_is_learnt_from_sentences_of_other_splits(encode: Encode, choice: Any) -> None:
    captions = _captions()
    sentences, image_of_sentence = _sentences(captions)
    others = [item if item.split == "train" else item._replace(text="a zebra and a dog") for item in sentences]
    settings: dict[str, Any] = {
        "keyword_choice": choice, "keyword_order": "mention_rate", "image_of_sentence": image_of_sentence,
        "protocol": "transductive",
    }  # fmt: skip
    before, after = (_build(captions, own, encode, **settings) for own in (sentences, others))
    assert after.mention_counts == before.mention_counts
    assert after.t2i == before.t2i
    assert after.mentions["train"] == before.mentions["train"] and after.mentions["test"] != before.mentions["test"]
    trained = [item._replace(text="a dog") if item.split == "train" else item for item in sentences]
    assert _build(captions, trained, encode, **settings).mention_counts != before.mention_counts


def test_transductive_fits_on_the_captions_of_all_splits(encode: Encode) -> None:
    assert sum(_build(_captions(), [], encode, protocol="transductive").num_fitted) == 20


def test_the_same_seed_gives_the_same(encode: Encode) -> None:
    first, second = (_build(_captions(), [], encode, seed=5) for _ in range(2))
    assert first.t2i == second.t2i
    assert first.cluster_words == second.cluster_words
    assert np.array_equal(first.centroids, second.centroids)


def test_fewer_captions_than_clusters_are_refused_before_anything_is_embedded() -> None:
    captions = _captions()
    with pytest.raises(UserError, match="17 clusters need at least as many captions of the split train, found 16; cho"):
        fitted_on(captions, "inductive", 17)
    assert len(fitted_on(captions, "transductive", 20)) == 20
    with pytest.raises(UserError, match="21 .*captions.* 20"):
        fitted_on(captions, "transductive", 21)
    with pytest.raises(UserError, match="found 0; caption images"):
        fitted_on([item for item in captions if item.split == "test"], "inductive", 2)


def test_without_global_ids_the_words_stay_as_they_were(encode: Encode) -> None:
    built = _build(_captions(), [TextItem("s", "test", "a dog")], encode)
    left = without_global_ids(built)
    before, after = [*built.t2i, *built.i2t], [*left.t2i, *left.i2t]
    assert [row["lexical_id"] for row in after] == [row["lexical_id"] for row in before]
    assert {row["global_id"] for row in after} == {NO_CLUSTER}
    assert all(row["identifier"] == " ".join(row["lexical_id"]) for row in after)


def test_several_identifiers_are_those_of_the_nearest_clusters(encode: Encode) -> None:
    """The second one: the next cluster, and the words of the text that are not that cluster's."""
    captions = _captions()
    built, single = _build(captions, [], encode, per_item=2), _build(captions, [], encode)
    assert [row | {"more": []} for row in built.t2i] == [row | {"more": []} for row in single.t2i]
    vectors = encode([item.text for item in captions])
    for row, item, vector in zip(built.t2i, captions, vectors, strict=True):
        second = int(np.argsort(((vector - built.centroids) ** 2).sum(1))[1])
        banned = {word for word, _ in built.cluster_words[second]}
        words = [word for word in re.findall(r"\w\w+", item.text) if word != "in" and word not in banned]
        [text] = row["more"]
        assert text.startswith(f"<|cluster_{second}|>")
        assert sorted(text.partition("|>")[2].split()) == sorted(words)
