"""Long sequences with few bytes an entry in memory: entries in a temporary file, or whole numbers in flat arrays.

A dictionary or a small object takes half a kilobyte and more, so a list of a million of them a gigabyte at each stage.
Up to `IN_MEMORY` entries everything here returns plain lists and dictionaries; above, entries lie in a file without a
name, which ends with the process (in TMPDIR), and eight bytes of memory say where each begins.
"""

from __future__ import annotations

import marshal
import os
import tempfile
from abc import abstractmethod
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from itertools import chain, islice
from pathlib import Path
from typing import Any, Generic, TypeVar, cast, overload

import numpy as np

from semcore.runtime.files import writing_to

IN_MEMORY = 20_000  # ours: some 20 MB of small objects
_BLOCK_BYTES = 1 << 20
_PLAIN = 2  # marshal's format without references between objects: three times as fast to write

T = TypeVar("T")
S = TypeVar("S")


def kept(
    entries: Iterable[T], encode: Callable[[T], Any] | None = None, decode: Callable[[Any], T] | None = None
) -> Sequence[T]:
    """Return entries as a list, or those of a long iterable as a sequence on the disk.

    Args:
        entries: of one kind; read once.
        encode: turns an entry into plain data (numbers, texts, tuples, lists, dictionaries); by default it is such.
        decode: the other way.

    Raises:
        UserError: the disk of temporary files is full.
    """
    entries = iter(entries)
    head = list(islice(entries, IN_MEMORY + 1))
    if len(head) <= IN_MEMORY:
        return head
    return Spilled(chain(head, entries), encode or _same, decode or _same)


def are_many(entries: Sized) -> bool:
    """Tell whether there are more entries than lists and dictionaries are made of."""
    return len(entries) > IN_MEMORY


def _same(entry: Any) -> Any:
    return entry


class LongSequence(Sequence[T]):
    """A sequence whose slices are views of it; each kind says how long it is, and which entry stands at a place."""

    @abstractmethod
    def _at(self, place: int) -> T:
        """Return the entry of a place from 0 on."""

    def _cut(self, part: slice) -> Sequence[T]:
        return Chosen(self, range(len(self))[part])

    @overload
    def __getitem__(self, key: int) -> T: ...
    @overload
    def __getitem__(self, key: slice) -> Sequence[T]: ...
    def __getitem__(self, key: int | slice) -> T | Sequence[T]:
        return self._cut(key) if isinstance(key, slice) else self._at(range(len(self))[key])


class Spilled(LongSequence[T]):
    """Entries in a temporary file, decoded on access; other threads and forked processes may read along."""

    def __init__(self, entries: Iterable[T], encode: Callable[[T], Any], decode: Callable[[Any], T]):
        self._decode, self._starts = decode, array("q", [0])
        with writing_to(Path(tempfile.gettempdir())):
            self._file = tempfile.TemporaryFile(prefix="semcore-")  # noqa: SIM115
            end = 0
            for entry in entries:
                content = marshal.dumps(encode(entry), _PLAIN)
                self._file.write(content)
                end += len(content)
                self._starts.append(end)
            self._file.flush()

    def __len__(self) -> int:
        return len(self._starts) - 1

    def _at(self, place: int) -> T:
        start = self._starts[place]
        return self._decode(marshal.loads(os.pread(self._file.fileno(), self._starts[place + 1] - start, start)))

    def __iter__(self) -> Iterator[T]:
        first, number = 0, len(self)
        while first < number:
            last = first + 1
            while last < number and self._starts[last + 1] - self._starts[first] <= _BLOCK_BYTES:
                last += 1
            start = self._starts[first]
            block = memoryview(os.pread(self._file.fileno(), self._starts[last] - start, start))
            for place in range(first, last):
                content = block[self._starts[place] - start : self._starts[place + 1] - start]
                yield self._decode(marshal.loads(content))
            first = last


class Chosen(LongSequence[T]):
    """Some entries of a sequence, by their places."""

    def __init__(self, source: Sequence[T], places: Sequence[int] | np.ndarray):
        self._source, self._places = source, places

    def __len__(self) -> int:
        return len(self._places)

    def _at(self, place: int) -> T:
        return self._source[int(self._places[place])]

    def _cut(self, part: slice) -> Sequence[T]:
        return Chosen(self._source, self._places[part])

    def __iter__(self) -> Iterator[T]:
        return (self._source[int(place)] for place in self._places)


class Viewed(LongSequence[S], Generic[T, S]):
    """What a function makes of each entry of a sequence, computed on access."""

    def __init__(self, source: Sequence[T], function: Callable[[T], S]):
        self._source, self._function = source, function

    def __len__(self) -> int:
        return len(self._source)

    def _at(self, place: int) -> S:
        return self._function(self._source[place])

    def _cut(self, part: slice) -> Sequence[S]:
        return Viewed(self._source[part], self._function)

    def __iter__(self) -> Iterator[S]:
        return map(self._function, self._source)


class Joined(LongSequence[T]):
    """Two sequences, one behind the other."""

    def __init__(self, first: Sequence[T], second: Sequence[T]):
        self._first, self._second = first, second

    def __len__(self) -> int:
        return len(self._first) + len(self._second)

    def _at(self, place: int) -> T:
        middle = len(self._first)
        return self._first[place] if place < middle else self._second[place - middle]

    def __iter__(self) -> Iterator[T]:
        return chain(self._first, self._second)


def joined(first: Sequence[T], second: Sequence[T]) -> Sequence[T]:
    """Return two sequences, one behind the other: a list of few entries, a view of many."""
    both = Joined(first, second)
    return both if are_many(both) else list(both)


def chosen(entries: Sequence[T], wanted: Callable[[T], bool]) -> Sequence[T]:
    """Return the entries that are wanted: of a list as a list, else as a view of four bytes an entry."""
    if isinstance(entries, list):
        return [entry for entry in entries if wanted(entry)]
    return Chosen(entries, array("i", (place for place, entry in enumerate(entries) if wanted(entry))))


class Ragged(LongSequence[list[int]]):
    """Lists of whole numbers, end to end in one array."""

    def __init__(self, lists: Iterable[Iterable[int]]):
        self._values, self._ends = array("i"), array("q", [0])
        for own in lists:
            self._values.extend(own)
            self._ends.append(len(self._values))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def _at(self, place: int) -> list[int]:
        return self._values[self._ends[place] : self._ends[place + 1]].tolist()


def kept_numbers(lists: Iterable[list[int]]) -> Sequence[list[int]]:
    """Return lists of whole numbers below 2**31 as a list, or many of them as flat arrays."""
    lists = iter(lists)
    head = list(islice(lists, IN_MEMORY + 1))
    return head if len(head) <= IN_MEMORY else Ragged(chain(head, lists))


class Keyed(Mapping[str, S], Generic[T, S]):
    """A mapping made of a long sequence, with twelve bytes an entry: hashes of the keys, sorted, and their places."""

    def __init__(self, entries: Sequence[T], key: Callable[[T], str], value: Callable[[T], S]):
        self._entries, self._key, self._value = entries, key, value
        hashes = np.fromiter((hash(key(entry)) for entry in entries), np.int64, len(entries))
        order = np.argsort(hashes, kind="stable")
        self._hashes, self._order = hashes[order], order.astype(np.int32)

    def place(self, key: str) -> int | None:
        """Return the place of a key's entry; None if there is none."""
        wanted = hash(key)
        rank = int(np.searchsorted(self._hashes, wanted))
        while rank < len(self._hashes) and self._hashes[rank] == wanted:
            place = int(self._order[rank])
            if self._key(self._entries[place]) == key:
                return place
            rank += 1
        return None

    def __getitem__(self, key: str) -> S:
        place = self.place(key)
        if place is None:
            raise KeyError(key)
        return self._value(self._entries[place])

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self.place(key) is not None

    def __iter__(self) -> Iterator[str]:
        return map(self._key, self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def values(self) -> Any:
        """Return the values as a sequence, in the order of the entries."""
        return Viewed(self._entries, self._value)


@overload
def keyed(entries: Sequence[T], key: Callable[[T], str]) -> Mapping[str, T]: ...
@overload
def keyed(entries: Sequence[T], key: Callable[[T], str], value: Callable[[T], S]) -> Mapping[str, S]: ...
def keyed(entries: Sequence[T], key: Callable[[T], str], value: Callable[[T], Any] | None = None) -> Mapping[str, Any]:
    """Return key -> value of each entry, in their order; long ones as `Keyed`, and few as a dictionary.

    Args:
        entries: whose keys differ.
        key: of an entry.
        value: of an entry; the entry itself by default.
    """
    value = value or _same
    return Keyed(entries, key, value) if are_many(entries) else {key(entry): value(entry) for entry in entries}


def places(entries: Sequence[T], key: Callable[[T], str]) -> Callable[[str], int | None]:
    """Return a function that tells the place of a key's entry, None for keys that no entry has."""
    if are_many(entries):
        return Keyed(entries, key, _same).place
    return {key(entry): place for place, entry in enumerate(entries)}.get


def listed(values: Iterable[T]) -> Sequence[T]:
    """Return the values of a mapping as a sequence; those of `Keyed` as they are."""
    return cast("Sequence[T]", values) if isinstance(values, Sequence) else list(values)
