"""Counts of what an import read and what it left out, by one rule for all importers.

Every input is counted: rows of a table, images, sentences, files of a folder. What is left out has a
kind, a reason and a line in skipped.jsonl, and the last lines of a command say "left out N of M" of each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from data_prep.clean_sentences import printable

# kind -> what it is one of, and how several are called
KINDS = {
    "cells": ("rows", "rows with another number of cells than the first line"),
    "no_image": ("rows", "rows without an image"),
    "no_sentence": ("rows", "rows without a sentence"),
    "leads_out": ("rows", "rows whose image lies outside of the folder"),
    "split": ("rows", "rows with an unknown split, or a second one for their image"),
    "repeated": ("rows", "rows that repeat an image"),
    "apart": ("rows", "rows that do not follow the others of their image"),
    "malformed": ("rows", "rows that cannot be read"),
    "missing": ("images", "missing images"),
    "unreadable": ("images", "unreadable images"),
    "no_sentences": ("images", "images without sentences"),
    "outside": ("images", "images outside of the folders of the splits"),
    "empty_sentence": ("sentences", "empty sentences"),
    "null_sentence": ("sentences", "sentences that are null"),
    "no_text": ("sentences", "sentences that are no text"),
    "other_file": ("files", "files of other kinds"),
    "stray_text": ("files", "text files without an image of their name"),
    "unreadable_text": ("files", "text files that cannot be read"),
    "hidden": ("files", "hidden images"),
    "link": ("files", "links that lead nowhere or to folders already read"),
}
UNITS = ("rows", "files", "images", "sentences")


class BadRow(Exception):
    """The reason why a row is left out; `kind` is a key of `KINDS`."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


@dataclass
class Findings:
    """Record of what an import read, left out and changed.

    Attributes:
        skipped: inputs that were left out: "file", "kind", "reason".
        seen: how many of each of `UNITS` were read, left out or not.
        cleaned: how many sentences were changed or remarkable, by `data_prep.clean_sentences.WORDS`.
        notes: sentences that a reader of the scores should know.
    """

    skipped: list[dict[str, str]] = field(default_factory=list)
    seen: Counter[str] = field(default_factory=Counter)
    cleaned: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    def skip(self, file: str, kind: str, reason: str) -> None:
        """Record an input that is left out, and why; the caller counts it in `seen`."""
        self.skipped.append({"file": printable(file), "kind": kind, "reason": printable(reason)})

    def forget(self) -> None:
        """Clear the record, for a second pass."""
        for own in (self.skipped, self.seen, self.cleaned, self.notes):
            own.clear()

    def num_of(self, kind: str) -> int:
        """Return how many of a kind were left out so far."""
        return sum(entry["kind"] == kind for entry in self.skipped)

    def note(self, sentence: str) -> None:
        """Add a sentence to the notes, once."""
        if sentence not in self.notes:
            self.notes.append(sentence)


def left_out_lines(about: Mapping[str, Any], listed: str) -> Iterator[str]:
    """Yield "left out N of M ..." for all units of which something was left out, else one line that says so.

    Args:
        about: the content of dataset.json.
        listed: the file that names what was left out.

    >>> about = {"seen": {"rows": 9, "images": 4}, "skipped": {"cells": 2}}
    >>> list(left_out_lines(about, "skipped.jsonl"))
    ['left out 2 of 9 rows: 2 rows with another number of cells than the first line; listed in skipped.jsonl']
    >>> list(left_out_lines({**about, "skipped": {}}, "skipped.jsonl"))
    ['left out 0 of 4 images']
    """
    seen, whole = about.get("seen", {}), True
    for unit in UNITS:
        kinds = {kind: count for kind, count in about["skipped"].items() if KINDS[kind][0] == unit}
        if kinds:
            whole = False
            words = ", ".join(f"{count} {KINDS[kind][1]}" for kind, count in sorted(kinds.items()))
            number = sum(kinds.values())
            yield f"left out {number} of {seen.get(unit, number)} {unit}: {words}; listed in {listed}"
    if whole and seen:
        yield f"left out 0 of {seen['images']} images"
