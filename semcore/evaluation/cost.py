"""Cost of a search: seconds, memory and throughput, against the width of the beam and the size of the corpus.

Larger corpora are made by repetition: every copy of an item has an id of its own and stands under another cluster, as
long as there are clusters left, so that the prefix tree grows with the corpus. Their hits mean nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from semcore.data.identifier_files import cluster_token
from semcore.data.items_and_queries import draw_queries
from semcore.decoding import IdentifierIndex, constrained_beam_search
from semcore.models.checkpoint import Checkpoint
from semcore.models.session import ModelSession
from semcore.retrieval.batch import SplitKey, SplitView, WorkDir
from semcore.retrieval.corpus import identifier_tokens
from semcore.retrieval.generator import query_inputs
from semcore.runtime.hardware import peak_memory_bytes

BEAMS = (1, 5, 10, 20, 50)
SIZES = (1_000, 10_000, 100_000)
NUM_QUERIES = 32  # ours: a few seconds a row
SAMPLE_S = 0.005


class Setting(NamedTuple):
    """A row of the table: how many items, searched with how many beams."""

    num_items: int
    num_beams: int


def settings_of(num_items: int, num_beams: int) -> list[Setting]:
    """Return what is measured: all widths of the beam on the corpus as it is, larger corpora with the usual width."""
    widths = [Setting(num_items, width) for width in sorted({*BEAMS, num_beams})]
    return widths + [Setting(size, num_beams) for size in SIZES if size > num_items]


def measure_cost(
    session: ModelSession, key: SplitKey, view: SplitView, work_dir: WorkDir, *, num_beams: int, batch_size: int
) -> list[dict[str, Any]]:
    """Return one row a setting, for `NUM_QUERIES` random queries of a view.

    Args:
        session: the generator.
        key: the view's key.
        view: items and queries.
        work_dir: keeps finished rows.
        num_beams: the usual width of the beam.
        batch_size: queries searched at once.

    Returns:
        Rows with "num_items", "num_identifiers", "num_beams", "num_queries", "index_bytes", "index_s" (to build it),
        "seconds_a_query" (the query read, searched, in batches), "queries_a_second", "peak_memory_bytes" (the most that
        was held while it searched: on a GPU of its memory, else of the process, the model included).
    """
    contents = sorted(set(draw_queries(view.queries, NUM_QUERIES).contents.values()), key=lambda c: (len(c), c))
    if key.direction.queries_are_images:
        session.features.add(contents, progress=work_dir.progress)
    sequences = _sequences(session, key, view)

    def work(chunk: list[Setting]) -> list[Any]:
        return [_measure(session, key, contents, sequences, Setting(*setting), batch_size) for setting in chunk]

    settings = settings_of(len(view.items), num_beams)
    return work_dir.run(f"cost {key.direction} {key.split}", settings, 1, work, "setting")


def repeated(
    sequences: Sequence[Sequence[int]], clusters: Sequence[int], num_items: int
) -> tuple[list[list[int]], list[str]]:
    """Return so many sequences with ids: the given ones over and over, every round under the next cluster.

    Args:
        sequences: one an item; the first token of each may be a cluster's.
        clusters: tokens of the clusters; may be empty.
        num_items: how many.

    >>> repeated([[7, 1], [8, 1]], [7, 8], 4)
    ([[7, 1], [8, 1], [8, 1], [7, 1]], ['0', '1', '2', '3'])
    """
    place = {token: number for number, token in enumerate(clusters)}
    rows = []
    for number in range(num_items):
        first, *rest = sequences[number % len(sequences)]
        if first in place:
            first = clusters[(place[first] + number // len(sequences)) % len(clusters)]
        rows.append([first, *rest])
    return rows, [str(number) for number in range(num_items)]


def _measure(
    session: ModelSession,
    key: SplitKey,
    contents: Sequence[str],
    sequences: Sequence[Sequence[int]],
    setting: Setting,
    batch_size: int,
) -> dict[str, Any]:
    checkpoint = session.checkpoint
    started = time.perf_counter()
    rows, ids = repeated(sequences, _clusters(checkpoint, sequences), setting.num_items)
    index = IdentifierIndex.from_sequences(rows, ids).to(checkpoint.device)
    index_s = time.perf_counter() - started
    num_identifiers = len(set(map(tuple, rows)))
    del rows, ids

    def search() -> None:
        for start in range(0, len(contents), batch_size):
            inputs = query_inputs(session, key.direction, contents[start : start + batch_size])
            constrained_beam_search(checkpoint.model, inputs, index, num_beams=setting.num_beams)

    search()  # the first one loads what later ones find
    started = time.perf_counter()
    search()
    seconds = time.perf_counter() - started
    return {
        "num_items": setting.num_items,
        "num_identifiers": num_identifiers,
        "num_beams": setting.num_beams,
        "num_queries": len(contents),
        "index_bytes": index.nbytes,
        "index_s": index_s,
        "seconds_a_query": seconds / len(contents),
        "queries_a_second": len(contents) / seconds,
        "peak_memory_bytes": most_memory_of(search, checkpoint.device),
    }


def most_memory_of(work: Callable[[], None], device: torch.device) -> int:
    """Run some work and return the most bytes that were held: of a GPU's memory, else resident in this process."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        work()
        return torch.cuda.max_memory_allocated(device)
    most, done = [_resident_bytes()], threading.Event()

    def sample() -> None:
        while not done.wait(SAMPLE_S):
            most.append(max(most.pop(), _resident_bytes()))

    sampler = threading.Thread(target=sample, daemon=True)
    sampler.start()
    try:
        work()
    finally:
        done.set()
        sampler.join()
    return max(most[0], _resident_bytes())


def _resident_bytes() -> int:
    """Return the bytes this process holds now; where the system does not say, the most it has held."""
    path = Path("/proc/self/status")
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return peak_memory_bytes()


def _sequences(session: ModelSession, key: SplitKey, view: SplitView) -> list[list[int]]:
    texts = [text for item in view.items.values() for text in item.identifiers]
    tokens = {text: identifier_tokens(session, key.direction, text) for text in dict.fromkeys(texts)}
    return [tokens[text] for text in texts]


def _clusters(checkpoint: Checkpoint, sequences: Sequence[Sequence[int]]) -> list[int]:
    """Return the tokens of all clusters of the model; none where identifiers do not begin with one."""
    vocabulary = checkpoint.tokenizer.get_vocab()
    found: list[int] = []
    while (token := vocabulary.get(cluster_token(len(found)))) is not None:
        found.append(token)
    return found if any(own[0] in set(found) for own in sequences) else []
