"""Mention rates: counted by hand and by an obvious reference, and what they choose and order."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from semcore.data.caption_files import NO_IMAGE, TextItem
from semcore.identifiers.mention_rates import (
    MentionCount,
    count_mentions,
    fit_mention_rates,
    measure_mentions,
    rate_words,
    read_mention_rates,
    require_train_sentences,
    select_keywords,
    unknown_rate,
    write_mention_rates,
)
from semcore.runtime.errors import UserError

SPLITS = ("train", "train", "val", "test")


class RandomCorpus:
    """Images with keywords, and sentences as sets of words, some of images without a caption."""

    def __init__(self, seed: int) -> None:
        draw = random.Random(seed)
        self.vocabulary = [f"w{number:02d}" for number in range(12)]
        self.splits = [draw.choice(SPLITS) for _ in range(draw.randint(1, 15))]
        self.keywords = [draw.sample(range(12), draw.randint(0, 6)) for _ in self.splits]
        self.images = [draw.choice((NO_IMAGE, *range(len(self.splits)))) for _ in range(draw.randint(1, 40))]
        self.sentences = [draw.choices(range(12), k=draw.randint(0, 5)) for _ in self.images]

    def counts(self) -> sparse.csr_matrix:
        dense = np.zeros((len(self.sentences), 12), dtype=np.int64)
        for sentence, words in enumerate(self.sentences):
            for word in words:
                dense[sentence, word] += 1
        return sparse.csr_matrix(dense)

    def asked(self, word: int, images: list[int]) -> list[bool]:
        """Tell of each sentence about these images that have the word as a keyword whether it contains the word."""
        return [
            word in self.sentences[sentence]
            for image in images
            if word in self.keywords[image]
            for sentence, own in enumerate(self.images)
            if own == image
        ]


@pytest.mark.parametrize("seed", range(30))
def test_rates_are_those_of_an_obvious_reference(seed: int) -> None:
    corpus = RandomCorpus(seed)
    mentions = count_mentions(corpus.counts(), corpus.images, len(corpus.splits))
    train = [image for image, split in enumerate(corpus.splits) if split == "train"]
    expected = []
    for place, word in enumerate(corpus.vocabulary):
        said = corpus.asked(place, train)
        num_images = sum(place in corpus.keywords[image] and image in corpus.images for image in train)
        if said:
            expected.append(MentionCount(word, num_images, sum(said), len(said)))
    is_train = [split == "train" for split in corpus.splits]
    assert fit_mention_rates(corpus.keywords, mentions, is_train, corpus.vocabulary) == expected


@pytest.mark.parametrize("seed", range(10))
def test_mentions_by_depth_are_those_of_an_obvious_reference(seed: int) -> None:
    corpus = RandomCorpus(seed)
    mentions = count_mentions(corpus.counts(), corpus.images, len(corpus.splits))
    found = measure_mentions(corpus.keywords, mentions, corpus.splits)
    for split in ("train", "val", "test"):
        images = [image for image, own in enumerate(corpus.splits) if own == split and image in corpus.images]
        assert (split in found) == bool(images)
        depths = sorted({depth for image in images for depth in range(len(corpus.keywords[image]))})
        said = {
            depth: [
                said
                for image in images
                if len(corpus.keywords[image]) > depth
                for said in corpus.asked(corpus.keywords[image][depth], [image])
            ]
            for depth in depths
        }
        if images:
            num_sentences = sum(own in images for own in corpus.images)
            assert found[split] == {
                "num_sentences": num_sentences,
                "words_per_sentence": round(sum(map(sum, said.values())) / num_sentences, 2),
                "percent_by_depth": {str(depth + 1): round(100 * np.mean(said[depth]), 1) for depth in depths},
            }


@pytest.mark.parametrize("seed", range(10))
def test_keywords_are_chosen_and_ordered_as_asked(seed: int) -> None:
    draw = random.Random(seed)
    rates = [draw.choice((0.2, 0.5, 0.5, 0.9)) for _ in range(12)]
    candidates = [draw.sample(range(12), draw.randint(0, 12)) for _ in range(8)]
    for words in candidates:
        by_rate = [word for _, word in sorted((-rates[word], word) for word in words)]
        expected: dict[tuple[Any, Any], list[int]] = {
            ("similarity", "similarity"): words[:3],
            ("similarity", "mention_rate"): [word for word in by_rate if word in words[:3]],
            ("mention_rate", "similarity"): [word for word in words if word in by_rate[:3]],
            ("mention_rate", "mention_rate"): by_rate[:3],
        }
        for (choice, order), keywords in expected.items():
            assert select_keywords([words], rates, 3, choice=choice, order=order) == [keywords]


def test_an_unknown_word_counts_as_those_of_a_single_image() -> None:
    table = [
        MentionCount("dog", 40, 180, 200),
        MentionCount("leash", 1, 40, 400),
        MentionCount("gazebo", 1, 4, 400),
        MentionCount("park", 2, 9, 10),
    ]
    assert unknown_rate(table) == pytest.approx(50 / 820)
    assert rate_words(table, ["dog", "leash", "zebra"]) == [0.9, 0.1, unknown_rate(table)]
    assert rate_words(table[:1], ["dog", "zebra"]) == [0.9, 0.3]
    assert rate_words([], ["dog"]) == [0.3]


def test_the_file_is_read_as_it_was_written_the_most_mentioned_word_first(tmp_path: Path) -> None:
    table = [MentionCount("café", 1, 1, 3), MentionCount("dog", 2, 9, 10), MentionCount("ant", 1, 1, 3)]
    folder = tmp_path / "RUN" / "identifiers"
    with pytest.raises(UserError, match=r"mention_rates\.jsonl.*data_prep\.identifiers --run"):
        read_mention_rates(folder)
    write_mention_rates(folder, table)
    assert read_mention_rates(folder) == [table[1], table[2], table[0]]
    (folder / "mention_rates.jsonl").write_text('{"word": "dog", "num_images": 1}\n')
    with pytest.raises(UserError, match="line 1: num_mentions and num_sentences missing"):
        read_mention_rates(folder)


def test_without_training_sentences_there_are_no_rates() -> None:
    captions = [TextItem("a", "train", "a dog"), TextItem("b", "test", "a cat")]
    require_train_sentences(captions, [1, 0])
    with pytest.raises(UserError, match="split train.* 3 sentences.*--keyword-order"):
        require_train_sentences(captions, [1, NO_IMAGE, 1])
