"""Mention rates: how often people say a keyword of the images that have it, to choose and order keywords by.

    rate(word) = sentences that contain the word / all sentences, of the training images that have it as a keyword

A query is a sentence, and a beam search decides at the first words: what people say belongs there. The rates are
fitted on the sentences of the training split alone, whatever the clusters are fitted on, since those of the other
splits are the queries. They serve all items, images and sentences, and those that come later.

Shapes: (images, words) sparse; keywords are lists of places in the vocabulary, which is alphabetical.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from scipy import sparse

from semcore.data.caption_files import NO_IMAGE, TextItem
from semcore.data.dataset import SPLITS
from semcore.runtime.errors import UserError
from semcore.runtime.files import read_numbered_jsonl, write_jsonl
from semcore.runtime.long_lists import kept_numbers
from semcore.runtime.typed_commands import data_command

MENTION_RATES = "mention_rates.jsonl"
CANDIDATES_PER_KEYWORD = 4
"""Keywords are chosen by mention rate among so many times as many, the most similar ones."""
_ASSUMED_RATE = 0.3  # ours: on drawn scenes it puts the synonyms that only sentences have behind all shapes and colours
_ASSUMED_SENTENCES = 20  # ours: weighs as much as four images' sentences
Criterion = Literal["similarity", "mention_rate"]


class MentionCount(NamedTuple):
    """One line of mention_rates.jsonl: a keyword, how many training images have it, and what is said of them."""

    word: str
    num_images: int
    num_mentions: int
    num_sentences: int

    @property
    def rate(self) -> float:
        """The share of those sentences that contain the word."""
        return self.num_mentions / self.num_sentences


@dataclass(frozen=True)
class Mentions:
    """What people say of each captioned image.

    Attributes:
        counts: (images, words) sparse, the image's sentences that contain the word.
        num_sentences: (images,).
    """

    counts: sparse.csr_matrix
    num_sentences: np.ndarray


def has_train_sentences(captions: Sequence[TextItem], image_of_sentence: Sequence[int]) -> bool:
    """Return whether a captioned image of the training split has a sentence, so that mention rates can be fitted."""
    return any(image != NO_IMAGE and captions[image].split == "train" for image in image_of_sentence)


def require_train_sentences(captions: Sequence[TextItem], image_of_sentence: Sequence[int]) -> None:
    """Refuse mention rates where nothing tells them.

    Args:
        captions: of all splits.
        image_of_sentence: see `count_mentions`.

    Raises:
        UserError: no captioned image of the training split has a sentence.
    """
    if not has_train_sentences(captions, image_of_sentence):
        raise UserError(
            "mention rates are fitted on sentences of captioned images of the split train, and there is none among "
            f"{len(image_of_sentence)} sentences; import the dataset with sentences for that split, or leave "
            "--keyword-choice and --keyword-order at similarity"
        )


def count_mentions(counts: sparse.csr_matrix, image_of_sentence: Sequence[int], num_images: int) -> Mentions:
    """Count the sentences of each image, and those that contain each word.

    Args:
        counts: (sentences, words), how often each sentence has each word, from `count_words`.
        image_of_sentence: the place of each sentence's image among the captioned ones, or `NO_IMAGE`.
        num_images: how many images have a caption.
    """
    images = np.asarray(image_of_sentence, dtype=np.int64)
    [known] = np.nonzero(images != NO_IMAGE)
    sentences_of = sparse.csr_matrix(
        (np.ones(len(known), dtype=np.int64), (images[known], known)), shape=(num_images, len(images))
    )
    return Mentions(sparse.csr_matrix(sentences_of @ (counts > 0)), np.bincount(images[known], minlength=num_images))


def fit_mention_rates(
    keywords: Sequence[Sequence[int]], mentions: Mentions, is_train: Iterable[bool], vocabulary: Sequence[str]
) -> list[MentionCount]:
    """Count, over the training images that have a word as a keyword, their sentences and those that contain it.

    Args:
        keywords: of each captioned image.
        mentions: of the same images.
        is_train: whether each image is of the training split.
        vocabulary: the words.

    Returns:
        The words in alphabetical order; without those of images that have no sentence.
    """
    has = _indicators((own if train else [] for own, train in zip(keywords, is_train, strict=True)), len(vocabulary))
    num_images = has.T @ (mentions.num_sentences > 0).astype(np.int64)
    num_mentions = np.asarray(has.multiply(mentions.counts).sum(axis=0)).ravel()
    num_sentences = has.T @ mentions.num_sentences
    return [
        MentionCount(vocabulary[word], int(num_images[word]), int(num_mentions[word]), int(num_sentences[word]))
        for word in np.nonzero(num_sentences)[0].tolist()
    ]


def rate_words(table: Sequence[MentionCount], vocabulary: Sequence[str]) -> list[float]:
    """Return each word's mention rate, the `unknown_rate` for words that are not in the table."""
    rates = {count.word: count.rate for count in table}
    unknown = unknown_rate(table)
    return [rates.get(word, unknown) for word in vocabulary]


def unknown_rate(table: Sequence[MentionCount]) -> float:
    """Return the rate of a word that no training image has as a keyword.

    It is that of the words which a single image has, all together, and 0.3 as far as there are none. Of COCO's
    captions (500 to 1,500 training images, 4 or 16 keywords) the words of a single image are said at a rate of 0.12 to
    0.20, unknown ones at 0.10 to 0.16, all together at 0.32 to 0.37.
    """
    rare = [count for count in table if count.num_images == 1]
    num_mentions = sum(count.num_mentions for count in rare) + _ASSUMED_RATE * _ASSUMED_SENTENCES
    return num_mentions / (sum(count.num_sentences for count in rare) + _ASSUMED_SENTENCES)


def select_keywords(
    candidates: Sequence[Sequence[int]],
    rates: Sequence[float],
    num_keywords: int,
    *,
    choice: Criterion,
    order: Criterion,
) -> Sequence[list[int]]:
    """Choose each item's keywords among its candidates, and order them.

    Words of equal rate stand in alphabetical order.

    Args:
        candidates: of each item, the most similar first.
        rates: of every word of the vocabulary, from `rate_words`.
        num_keywords: how many an item, at most.
        choice: keep the first or the most mentioned candidates.
        order: put the most similar or the most mentioned keyword first.
    """

    def selected() -> Iterator[list[int]]:
        for words in candidates:
            mentioned_first = sorted(words, key=lambda word: (-rates[word], word))
            kept = set((mentioned_first if choice == "mention_rate" else words)[:num_keywords])
            yield [word for word in (mentioned_first if order == "mention_rate" else words) if word in kept]

    return kept_numbers(selected())


def measure_mentions(
    keywords: Sequence[Sequence[int]], mentions: Mentions, splits: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Return how many sentences say the keywords of their image, by split; without splits that have no sentence.

    Args:
        keywords: of each captioned image.
        mentions: of the same images.
        splits: of the same images.

    Returns:
        split -> num_sentences; words_per_sentence, the keywords of its image that a sentence says, on
        average; percent_by_depth, j -> percent of sentences that say the j-th keyword, of images that have one.
    """
    figures, said = {}, mentions.num_sentences.tolist()
    for split in SPLITS:
        images = array("i", (image for image, own in enumerate(splits) if own == split and said[image]))
        if images:
            figures[split] = _measure_images(keywords, mentions, images)
    return figures


def write_mention_rates(folder: Path, table: Sequence[MentionCount]) -> None:
    """Write mention_rates.jsonl, the most mentioned word first."""
    rows = sorted(table, key=lambda count: (-count.rate, count.word))
    write_jsonl(folder / MENTION_RATES, [{**count._asdict(), "rate": round(count.rate, 4)} for count in rows])


def read_mention_rates(folder: Path | str) -> list[MentionCount]:
    """Read the mention rates of RUN/identifiers, for items that come later.

    Raises:
        UserError: the file is missing, or a line lacks something.
    """
    path = Path(folder) / MENTION_RATES
    if not path.is_file():
        again = data_command("identifiers", "--run", path.parent.parent)
        raise UserError(f"there is no {path}; make it with `{again}`")
    table = []
    for number, row in read_numbered_jsonl(path):
        if missing := [name for name in MentionCount._fields if name not in row]:
            raise UserError(f"{path}, line {number}: {' and '.join(missing)} missing")
        table.append(MentionCount(*(row[name] for name in MentionCount._fields)))
    return table


def _indicators(keywords: Iterable[Sequence[int]], num_words: int) -> sparse.csr_matrix:
    """Return (items, words), 1 where the item has the word as a keyword."""
    words, ends = array("i"), array("q", [0])
    for own in keywords:
        words.extend(own)
        ends.append(len(words))
    return sparse.csr_matrix((np.ones(len(words), dtype=np.int64), words, ends), shape=(len(ends) - 1, num_words))


def _measure_images(keywords: Sequence[Sequence[int]], mentions: Mentions, images: Sequence[int]) -> dict[str, Any]:
    num_said: Counter[int] = Counter()
    num_asked: Counter[int] = Counter()
    for image in images:
        for depth, num_mentions in enumerate(_mentions_of(keywords[image], mentions.counts, image), start=1):
            num_said[depth] += num_mentions
            num_asked[depth] += int(mentions.num_sentences[image])
    num_sentences = int(mentions.num_sentences[np.asarray(images)].sum())
    return {
        "num_sentences": num_sentences,
        "words_per_sentence": round(num_said.total() / num_sentences, 2),
        "percent_by_depth": {
            str(depth): round(100 * num_said[depth] / num_asked[depth], 1) for depth in sorted(num_asked)
        },
    }


def _mentions_of(keywords: Sequence[int], counts: sparse.csr_matrix, image: int) -> list[int]:
    """Return how many sentences of an image contain each of its keywords."""
    row = slice(counts.indptr[image], counts.indptr[image + 1])
    of_word = dict(zip(counts.indices[row].tolist(), counts.data[row].tolist(), strict=True))
    return [of_word.get(word, 0) for word in keywords]
