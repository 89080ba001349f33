"""Counts of a run's corpus: what is searched, what was added and removed, and the size of the index."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from semcore.data.corpus_changes import CorpusChanges, read_changes
from semcore.data.dataset import Dataset, load_dataset
from semcore.data.directions import Direction
from semcore.data.items_and_queries import read_items
from semcore.data.run_folder import RunFolder
from semcore.retrieval.corpus import added_items, searched_items
from semcore.retrieval.saved_index import SavedIndexes


@dataclass(frozen=True)
class DirectionStats:
    """Counts of one direction's items.

    Attributes:
        num_items: that are searched.
        num_added: of them, those that were added.
        num_removed: the dataset's items that are no longer searched.
        num_identifiers: different ones among the items that are searched.
        num_shared: items whose identifier another one has too.
        index_bytes: of the saved index; None where nobody has searched yet.
    """

    num_items: int
    num_added: int
    num_removed: int
    num_identifiers: int
    num_shared: int
    index_bytes: int | None


@dataclass(frozen=True)
class CorpusStats:
    """Counts of a run's corpus.

    Attributes:
        num_changes: additions and removals since the identifiers were made.
        directions: the counts of each direction.
    """

    num_changes: int
    directions: dict[Direction, DirectionStats]


def corpus_stats(run: RunFolder, data: Path | None = None) -> CorpusStats:
    """Count what a run searches.

    Args:
        run: the run folder; its identifiers have to be made.
        data: present path of the dataset; by default the one in the run's manifest.

    Raises:
        UserError: there are no identifiers, or the dataset is missing.
    """
    dataset, changes = load_dataset(data or run.data_folder()), read_changes(run)
    return CorpusStats(changes.number, {direction: _stats(run, dataset, direction, changes) for direction in Direction})


def _stats(run: RunFolder, dataset: Dataset, direction: Direction, changes: CorpusChanges) -> DirectionStats:
    items = searched_items(run, dataset, direction, None, changes)
    num_added = len(added_items(run, direction, changes))
    counts = Counter(item.identifier for item in items)
    return DirectionStats(
        num_items=len(items),
        num_added=num_added,
        num_removed=len(read_items(run, dataset, direction)) - (len(items) - num_added),
        num_identifiers=len(counts),
        num_shared=sum(number for number in counts.values() if number > 1),
        index_bytes=SavedIndexes(run, f"{direction}-all").nbytes,
    )
