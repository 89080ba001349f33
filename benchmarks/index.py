"""Identifier index: build time, bytes, load time, and the constraint step, against nested dictionaries.

    python -m benchmarks.index --json benchmarks/results/index-cpu.json
    python -m benchmarks.index --device cuda --json benchmarks/results/index-cuda.json
    python -m benchmarks.index --static PATH/TO/static-constraint-decoding
    python -m benchmarks.index --quick

The constraint step of a search lies between the model's logits and the choice of beams: it finds the tokens that may
follow each row's prefix, and their logits. The peer is transformers' `prefix_allowed_tokens_fn` processor over nested
dictionaries, up to a million identifiers (beyond, they need too much memory), and STATIC where a copy of it is given.
"""

from __future__ import annotations

import gc
import math
import multiprocessing
import pickle
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import PrefixConstrainedLogitsProcessor

from benchmarks.corpora import END_TOKEN, VOCABULARY, Corpus, synthetic_corpus
from benchmarks.peers import static as static_peer
from benchmarks.peers.dict_trie import DictTrie
from benchmarks.report import Row, higher_is_better, lower_is_better, not_run, publish
from benchmarks.search_scaling import search_step_rows
from benchmarks.timing import interleaved_medians, timed
from semcore.commands.arguments import run_command
from semcore.decoding import IdentifierIndex
from semcore.decoding.trie_tensors import expand
from semcore.runtime.errors import UserError
from semcore.runtime.hardware import peak_memory_bytes

LARGEST_DICT = 1_000_000
BEAMS_PER_QUERY = 20
DEPTHS = (1, 2, 3)


@dataclass
class Settings:
    """What to measure."""

    json: Path | None = None
    """File to save the rows in."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where the constraint step runs."""
    sizes: list[int] = field(default_factory=lambda: [10_000, 100_000, 1_000_000, 10_000_000])
    """Numbers of identifiers."""
    rows: list[int] = field(default_factory=lambda: [20, 640])
    """Rows of a constraint step: queries times beams."""
    repeats: int = 5
    """Runs of each side that count; builds above 100,000 identifiers run once."""
    static: Path | None = None
    """A copy of youtube/static-constraint-decoding, to measure against it."""
    steps_only: bool = False
    """Leave out building, size and loading, which take the longest at ten million identifiers."""
    quick: bool = False
    """Small sizes, one run: to see that it works."""

    def __post_init__(self) -> None:
        if not self.sizes or min(self.sizes) < 1 or not self.rows or min(self.rows) < 1 or self.repeats < 1:
            raise UserError("--sizes, --rows and --repeats take whole numbers of at least 1")


def main(settings: Settings) -> None:
    """Measure, print and save."""
    if settings.quick:
        settings.sizes, settings.repeats = [1_000, 5_000], 1
    on_device = settings.device == "cpu" or torch.cuda.is_available()
    rows: list[Row] = []
    indices: dict[int, IdentifierIndex] = {}
    for size in settings.sizes:
        corpus = synthetic_corpus(size)
        trie = DictTrie(corpus.sequences(), corpus.item_ids) if size <= LARGEST_DICT else None
        if not settings.steps_only:
            rows += size_rows(corpus, trie, settings.repeats if size <= 100_000 else 1)
        if on_device:
            index = IdentifierIndex.from_sequences((corpus.tokens, corpus.offsets), corpus.item_ids)
            indices[size] = index.to(settings.device)
            for num_rows in settings.rows:
                rows += step_rows(indices[size], corpus, trie, num_rows, settings)
        del corpus, trie
        gc.collect()
    if on_device:
        rows += search_step_rows(settings.device, indices, settings.repeats)
    else:
        rows.append(not_run("constraint and search steps on cuda", "no GPU"))
    publish(rows, settings.json)


def size_rows(corpus: Corpus, trie: DictTrie | None, repeats: int) -> list[Row]:
    """Measure building, bytes and loading."""
    size = len(corpus.item_ids)
    sides: dict[str, Callable[[], Any]] = {
        "ours": lambda: IdentifierIndex.from_sequences((corpus.tokens, corpus.offsets), corpus.item_ids)
    }
    if trie is not None:
        sequences = corpus.sequences()
        sides["peer"] = lambda: DictTrie(sequences, corpus.item_ids)
    seconds = interleaved_medians(sides, repeats, warm_up=False)
    index = IdentifierIndex.from_sequences((corpus.tokens, corpus.offsets), corpus.item_ids)
    rate, peer_rate = size / seconds["ours"], None if trie is None else size / seconds["peer"]
    peer_bytes = None if trie is None else trie.nbytes() / size
    nodes, tokens = len(index.trie.node_token), len(corpus.tokens)
    return [
        higher_is_better(f"{size}: build", rate, peer_rate, "identifiers/s", f"{tokens / size:.1f} tokens each"),
        lower_is_better(
            f"{size}: size", index.nbytes / size, peer_bytes, "bytes/item", f"{nodes / size:.2f} nodes each"
        ),
        Row(f"{size}: peak memory of a build", _peak_of_build(size) / 2**30, None, None, "GiB", "whole process"),
        _load_row(index, trie, size),
    ]


def _load_row(index: IdentifierIndex, trie: DictTrie | None, size: int) -> Row:
    """Open a saved index and look up one prefix, against unpickling the dictionaries."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "index.safetensors"
        index.save(path)
        ours = timed(lambda: IdentifierIndex.load(path, index.fingerprint).allowed_tokens([]))
    pickled = None if trie is None else pickle.dumps(trie.root)
    peer = None if pickled is None else timed(lambda: pickle.loads(pickled))
    return lower_is_better(f"{size}: load", ours, peer, "s", "up to the first answer; peer: unpickled from memory")


def _peak_of_build(size: int) -> int:
    """Return the peak memory of a fresh process that draws the corpus and builds the index."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_build_and_weigh, (size,))


def _build_and_weigh(size: int) -> int:
    corpus = synthetic_corpus(size)
    IdentifierIndex.from_sequences((corpus.tokens, corpus.offsets), corpus.item_ids)
    return peak_memory_bytes()


def step_rows(
    index: IdentifierIndex, corpus: Corpus, trie: DictTrie | None, num_rows: int, settings: Settings
) -> list[Row]:
    """Time a constraint step: the mean over prefixes of one, two and three tokens."""
    size, logits = len(corpus.item_ids), torch.randn(num_rows, VOCABULARY, device=settings.device)
    steps = [Step(index, prefixes_of(index, corpus, num_rows, depth), logits) for depth in DEPTHS]
    sides = {"ours": lambda: [step.ours() for step in steps]}
    if trie is not None:
        sides["peer"] = lambda: [step.dictionary(trie) for step in steps]
        for step in steps:
            step.check(trie)
    seconds = {side: taken / len(DEPTHS) for side, taken in interleaved_medians(sides, settings.repeats).items()}
    name = f"{size}: constraint step, {num_rows} rows"
    note = f"{sum(len(step.ours()) for step in steps) // len(DEPTHS)} continuations"
    rows = [lower_is_better(name, seconds["ours"], seconds.get("peer"), "s", note)]
    if settings.static is not None:
        peer = static_peer.StaticPeer(settings.static, corpus, [step.prefixes for step in steps], logits)
        both = interleaved_medians({"ours": sides["ours"], "peer": peer.steps}, settings.repeats)
        ours, theirs = both["ours"] / len(DEPTHS), both["peer"] / len(DEPTHS)
        note = f"STATIC holds {peer.nbytes / size:.0f} bytes/item without item ids, ours {index.trie.nbytes / size:.0f}"
        rows.append(lower_is_better(f"{name}, against STATIC", ours, theirs, "s", note))
    return rows


class Step:
    """One constraint step on rows whose prefixes have the same length."""

    def __init__(self, index: IdentifierIndex, prefixes: list[list[int]], logits: torch.Tensor) -> None:
        """Find the rows' nodes, which a search has at hand; `logits` are (rows, vocabulary)."""
        self.prefixes, self.logits, self.trie = prefixes, logits, index.tensors
        self.tokens = torch.tensor(prefixes, device=logits.device)
        self.nodes = torch.tensor([index.find(prefix)[0] for prefix in prefixes], device=logits.device)
        self.live = torch.ones_like(self.nodes, dtype=torch.bool)

    def ours(self) -> torch.Tensor:
        """Return the logits of all continuations (continuations,)."""
        owners, children = expand(self.trie, self.nodes, self.live)
        return self.logits[owners, self.trie.vocabulary[self.trie.node_token[children].long()]]

    def dictionary(self, trie: DictTrie) -> torch.Tensor:
        """Return the logits (rows, vocabulary) with all other tokens at minus infinity."""
        processor = PrefixConstrainedLogitsProcessor(
            trie.callback(0, END_TOKEN), math.gcd(len(self.prefixes), BEAMS_PER_QUERY)
        )
        return processor(self.tokens, self.logits)

    def check(self, trie: DictTrie) -> None:
        """Refuse to time steps that do not allow the same tokens."""
        allowed = self.dictionary(trie)
        if not torch.equal(allowed[allowed > -torch.inf].sort().values, self.ours().sort().values):
            raise RuntimeError("our constraint step allows other tokens than the dictionaries")


def prefixes_of(index: IdentifierIndex, corpus: Corpus, num_rows: int, depth: int) -> list[list[int]]:
    """Return prefixes that several tokens may follow, repeated where there are few."""
    inner: list[list[int]] = []
    stride = max(len(corpus.item_ids) // (8 * num_rows), 1)
    for start in corpus.offsets[:-1:stride].tolist():
        prefix = corpus.tokens[start : start + depth].tolist()
        if len(index.allowed_tokens(prefix)) > 1:
            inner.append(prefix)
    return (inner * num_rows)[:num_rows]


if __name__ == "__main__":
    run_command(main, Settings)
