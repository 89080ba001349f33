"""Statistics of the prefix tree of real captions' identifiers, beside the benchmarks' synthetic ones.

    python -m benchmarks.identifier_statistics --captions captions.json.gz --json benchmarks/results/identifiers.json

Every sentence of a Karpathy-layout file counts as a caption; 128 clusters, four keywords, words cut into tokens by the
sentence encoder's own tokenizer. In the table "ours" are the real identifiers, "peer" as many synthetic ones.
"""

from __future__ import annotations

import gzip
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median
from typing import Any

from transformers import AutoTokenizer

from benchmarks.corpora import NUM_CLUSTERS, NUM_KEYWORDS, synthetic_corpus
from benchmarks.report import Row, publish
from semcore.commands.arguments import run_command
from semcore.data.caption_files import TextItem
from semcore.identifiers.sentence_encoder import DEFAULT_ENCODER, TOKENS_PER_BATCH, encoder_folder, load_encoder
from semcore.identifiers.structured import build_structured_identifiers

DEPTHS = range(1, 7)


@dataclass
class Settings:
    """What to measure."""

    captions: Path
    """A caption file in the Karpathy layout, .json or .json.gz."""
    limit: int | None = None
    """Take so many sentences only."""
    json: Path | None = None
    """File to save the figures in."""


def main(settings: Settings) -> None:
    """Measure, print and save."""
    real = identifiers_of(read_sentences(settings.captions)[: settings.limit])
    synthetic = synthetic_corpus(len(real)).sequences()
    ours, peer = tree_figures(real), tree_figures(synthetic)
    rows = [Row(name, ours[name], peer[name], None, unit, f"{len(real)} identifiers") for name, unit in FIGURES.items()]
    publish(rows, settings.json)


def read_sentences(path: Path) -> list[str]:
    """Return all sentences of a caption file."""
    content = path.read_bytes()
    images = json.loads(gzip.decompress(content) if path.suffix == ".gz" else content)["images"]
    return [sentence["raw"] for image in images for sentence in image["sentences"]]


def identifiers_of(sentences: list[str]) -> list[list[int]]:
    """Build identifiers as `data_prep.identifiers` does by default, and tokenize them."""
    captions = [TextItem(str(number), "train", text) for number, text in enumerate(sentences)]
    built = build_structured_identifiers(
        captions,
        [],
        load_encoder(),
        num_clusters=NUM_CLUSTERS,
        num_keywords=NUM_KEYWORDS,
        num_cluster_words=5,
        deduplicate=True,
        ngram_range=(1, 1),
        stop_words="english",
        protocol="inductive",
        seed=0,
        num_inits=1,
        max_iterations=50,
        max_fit_items=100_000,
        tokens_per_batch=TOKENS_PER_BATCH,
        progress=True,
    )
    tokenizer = AutoTokenizer.from_pretrained(encoder_folder(DEFAULT_ENCODER))
    first_cluster, end = len(tokenizer), len(tokenizer) + NUM_CLUSTERS
    return [[first_cluster + row["global_id"], *_word_tokens(tokenizer, row["lexical_id"]), end] for row in built.t2i]


def _word_tokens(tokenizer: Any, words: list[str]) -> list[int]:
    return [token for word in words for token in tokenizer(word, add_special_tokens=False)["input_ids"]]


FIGURES = {
    "tokens an identifier": "tokens",
    "distinct tokens": "tokens",
    "items that share their identifier": "%",
    "inner nodes with a single child": "%",
    "fan-out after the first token, median": "children",
    "fan-out after the first token, largest": "children",
    **{f"alone after {depth} tokens": "%" for depth in DEPTHS},
    **{f"mean fan-out of branching nodes after {depth} tokens": "children" for depth in DEPTHS},
}


def tree_figures(sequences: list[list[int]]) -> dict[str, float]:
    """Return the figures that `FIGURES` names."""
    whole = Counter(map(tuple, sequences))
    shared = sum(count for count in whole.values() if count > 1)
    fanouts = {depth: _fanouts(whole, depth) for depth in range(max(map(len, sequences)))}
    inner = [fanout for level in fanouts.values() for fanout in level]
    return {
        "tokens an identifier": mean(map(len, sequences)),
        "distinct tokens": len({token for sequence in sequences for token in sequence}),
        "items that share their identifier": 100 * shared / len(sequences),
        "inner nodes with a single child": 100 * sum(fanout == 1 for fanout in inner) / len(inner),
        "fan-out after the first token, median": median(fanouts[1]),
        "fan-out after the first token, largest": max(fanouts[1]),
        **{f"alone after {depth} tokens": 100 * _alone(whole, depth) / len(whole) for depth in DEPTHS},
        **{f"mean fan-out of branching nodes after {depth} tokens": _mean(fanouts[depth]) for depth in DEPTHS},
    }


def _fanouts(whole: Counter[tuple[int, ...]], depth: int) -> list[int]:
    """Return the number of children of every prefix of this length that several identifiers share."""
    owners = Counter(sequence[:depth] for sequence in whole if len(sequence) > depth)
    children = Counter(prefix[:-1] for prefix in {sequence[: depth + 1] for sequence in whole if len(sequence) > depth})
    return [children[prefix] for prefix, count in owners.items() if count > 1]


def _alone(whole: Counter[tuple[int, ...]], depth: int) -> int:
    return sum(count == 1 for count in Counter(sequence[:depth] for sequence in whole).values())


def _mean(fanouts: list[int]) -> float:
    branching = [fanout for fanout in fanouts if fanout > 1]
    return mean(branching) if branching else 1.0


if __name__ == "__main__":
    run_command(main, Settings)
