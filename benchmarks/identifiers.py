"""Keyword extraction for a whole corpus at once, against KeyBERT document by document and in its list mode.

    python -m benchmarks.identifiers --json benchmarks/results/identifiers-cpu.json
    python -m benchmarks.identifiers --captions dataset_coco.json.gz
    python -m benchmarks.identifiers --quick

Same process, same encoder; the runs alternate and the median counts. Both sides are given the documents' embeddings,
which k-means needs anyway; a note says what the ratio is where they are counted. Document by document KeyBERT is timed
on a few captions and extrapolated. The words of both are compared. Without --captions the texts are drawn: English
words as frequent as they are, as many as captions have.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import CountVectorizer

from benchmarks.identifier_statistics import read_sentences
from benchmarks.report import Row, lower_is_better, publish
from benchmarks.timing import interleaved_medians
from data_prep.scenes.pretraining.model import common_words
from semcore.commands.arguments import run_command
from semcore.identifiers.keywords import count_words, top_keywords
from semcore.identifiers.sentence_encoder import DEFAULT_ENCODER, Encode, embed, encoder_folder, load_encoder
from semcore.runtime.errors import UserError

NUM_KEYWORDS = 4
LEAST_ALIKE = 0.99  # captions with the very same words; words of equal similarity may be in another order


@dataclass
class Settings:
    """What to measure."""

    json: Path | None = None
    """File to save the rows in."""
    captions: Path | None = None
    """A caption file in the Karpathy layout, .json or .json.gz; every sentence counts as a caption."""
    num_captions: int = 20_000
    """Captions that get keywords."""
    num_documents: int = 500
    """Captions that KeyBERT takes one at a time."""
    repeats: int = 3
    """Runs of each side that count."""
    quick: bool = False
    """A hundred captions, one run: to see that it works."""

    def __post_init__(self) -> None:
        for name in ("num_captions", "num_documents", "repeats"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name.replace('_', '-')} takes a whole number of at least 1")


def main(settings: Settings) -> None:
    """Measure, print and save."""
    if settings.quick:
        settings.num_captions, settings.num_documents, settings.repeats = 100, 5, 1
    drawn = draw_captions(settings.num_captions) if settings.captions is None else read_sentences(settings.captions)
    publish(keyword_rows(drawn[: settings.num_captions], settings), settings.json)


def draw_captions(num_captions: int, seed: int = 0) -> list[str]:
    """Draw texts of 8 to 14 words, the n-th word of English with a frequency of 1/n."""
    words, generator = common_words(), random.Random(seed)
    shares = [1 / rank for rank in range(1, len(words) + 1)]
    return [" ".join(generator.choices(words, shares, k=generator.randint(8, 14))) for _ in range(num_captions)]


def keyword_rows(captions: list[str], settings: Settings) -> list[Row]:
    """Check that the words are the same, then time both modes of KeyBERT."""
    from keybert import KeyBERT
    from sentence_transformers import SentenceTransformer

    encode = load_encoder()
    keybert = KeyBERT(SentenceTransformer(str(encoder_folder(DEFAULT_ENCODER) or DEFAULT_ENCODER)))
    embeddings = embed(captions, encode)

    def in_a_list() -> Any:
        vectorizer = CountVectorizer(lowercase=True, stop_words="english")
        return keybert.extract_keywords(captions, vectorizer=vectorizer, top_n=NUM_KEYWORDS, doc_embeddings=embeddings)

    few = list(zip(captions, embeddings[:, None], strict=True))[: settings.num_documents]
    sides = {
        "documents": lambda: embed(captions, encode),
        "ours": lambda: keywords(captions, embeddings, encode),
        "list": in_a_list,
        "one at a time": lambda: [
            keybert.extract_keywords(text, top_n=NUM_KEYWORDS, doc_embeddings=own) for text, own in few
        ],
        "one at a time, documents too": lambda: [keybert.extract_keywords(text, top_n=NUM_KEYWORDS) for text, _ in few],
    }
    alike = share_alike(keywords(captions, embeddings, encode), in_a_list())
    seconds = interleaved_medians(sides, settings.repeats, warm_up=False)
    larger = len(captions) / len(few)
    counted = larger * seconds["one at a time, documents too"] / (seconds["documents"] + seconds["ours"])
    words = f"{len(captions)} captions, {100 * alike:.1f} % with the same words, embedded beforehand"
    note = f"{words} ({counted:.1f} if not: that takes us {seconds['documents']:.0f} s); timed on {len(few)}"
    one_at_a_time = larger * seconds["one at a time"]
    return [
        lower_is_better("keywords_vs_per_document", seconds["ours"], one_at_a_time, "s", f"{note} and extrapolated"),
        lower_is_better("keywords_vs_list", seconds["ours"], seconds["list"], "s", words),
    ]


def keywords(captions: list[str], embeddings: np.ndarray, encode: Encode) -> list[list[str]]:
    """Return the keywords of every caption as `data_prep.identifiers` finds them, without clusters.

    Args:
        captions: the texts.
        embeddings: their embeddings (captions, dimensions).
        encode: embeds the words.
    """
    counts, vocabulary = count_words(captions)
    found = top_keywords(counts, embeddings, embed(vocabulary, encode), NUM_KEYWORDS)
    return [[vocabulary[word] for word in words] for words in found]


def share_alike(ours: list[list[str]], theirs: list[list[tuple[str, float]]]) -> float:
    """Return the fraction of captions whose words are the same, and refuse to time anything below 99 %."""
    pairs = zip(ours, theirs, strict=True)
    alike = float(np.mean([set(mine) == {word for word, _ in other} for mine, other in pairs]))
    if alike < LEAST_ALIKE:
        raise RuntimeError(f"only {100 * alike:.1f} % of the captions have the words that KeyBERT finds")
    return alike


if __name__ == "__main__":
    run_command(main, Settings)
