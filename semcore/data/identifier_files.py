"""Format of identifiers, and the files that hold them.

RUN/identifiers/t2i.jsonl, i2t.jsonl     one row per item, all splits
RUN/identifiers/cluster_words.json       the words that characterise each cluster
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NotRequired, TypedDict

from semcore.runtime.errors import UserError
from semcore.runtime.files import read_json, read_numbered_jsonl
from semcore.runtime.long_lists import kept
from semcore.runtime.typed_commands import data_command

CLUSTER_WORDS = "cluster_words.json"
MAX_CLUSTERS = 2**31
NO_CLUSTER = -1
"""The global id of an identifier that has none (paper, Table 3: "w/o global ID")."""


class IdentifierRow(TypedDict):
    """One item's identifier, as a line of t2i.jsonl or i2t.jsonl."""

    item_id: str
    split: str
    global_id: int
    lexical_id: list[str]
    identifier: str
    codes: NotRequired[list[int]]
    """The codes behind the cluster, level by level, of schemes that write codes."""
    more: NotRequired[list[str]]
    """Further identifiers of the same item."""


REQUIRED = tuple(key for key in IdentifierRow.__annotations__ if key not in ("codes", "more"))


def cluster_token(global_id: int) -> str:
    """Return the new token of a cluster.

    >>> cluster_token(17)
    '<|cluster_17|>'
    """
    return f"<|cluster_{global_id}|>"


def identifier_text(global_id: int, lexical_id: Sequence[str]) -> str:
    """Return the text the model generates: cluster token, then the keywords with single spaces.

    There is no space after the cluster token: InternVL's tokenizer would make a separate token of it.
    With `NO_CLUSTER` the text is the keywords alone.

    >>> identifier_text(17, ["dog", "frisbee"])
    '<|cluster_17|>dog frisbee'
    >>> identifier_text(17, [])
    '<|cluster_17|>'
    >>> identifier_text(NO_CLUSTER, ["dog", "frisbee"])
    'dog frisbee'
    """
    cluster = "" if global_id == NO_CLUSTER else cluster_token(global_id)
    return cluster + " ".join(lexical_id)


def make_row(item_id: str, split: str, global_id: int, lexical_id: Sequence[str]) -> IdentifierRow:
    """Return an item's row."""
    return {
        "item_id": item_id,
        "split": split,
        "global_id": global_id,
        "lexical_id": list(lexical_id),
        "identifier": identifier_text(global_id, lexical_id),
    }


def code_row(
    item_id: str, split: str, global_id: int, codes: Sequence[int], identifiers: Sequence[str]
) -> IdentifierRow:
    """Return the row of an item whose identifier is codes.

    Args:
        item_id: the item.
        split: its split.
        global_id: its cluster, or `NO_CLUSTER`.
        codes: the codes behind the cluster, level by level.
        identifiers: the texts that the model may generate for it, the best first.
    """
    row = make_row(item_id, split, global_id, [])
    row |= {"identifier": identifiers[0], "codes": list(codes)}
    return with_more(row, identifiers[1:])


def with_more(row: IdentifierRow, identifiers: Sequence[str]) -> IdentifierRow:
    """Return a row with further identifiers of its item; those that it has already are left out."""
    more = [text for text in dict.fromkeys(identifiers) if text != row["identifier"]]
    return {**row, "more": more} if more else row


def all_identifiers(row: IdentifierRow) -> list[str]:
    """Return every identifier of an item, the best first."""
    return [row["identifier"], *row.get("more", ())]


def units_of(row: IdentifierRow) -> list[str]:
    """Return what stands behind the cluster, or alone: keywords, or the tokens of codes.

    >>> units_of(code_row("a", "test", 17, [4, 2], ["<|cluster_17|><|code_0_4|><|code_1_2|>"]))
    ['<|code_0_4|>', '<|code_1_2|>']
    """
    if "codes" not in row:
        return row["lexical_id"]
    tokens = [f"<|{name}|>" for name in row["identifier"].removeprefix("<|").removesuffix("|>").split("|><|")]
    return [token for token in tokens if token != cluster_token(row["global_id"])]


def identifier_parts(row: IdentifierRow) -> tuple[str, ...]:
    """Return the units of an identifier: its cluster token, and its keywords or the tokens of its codes.

    >>> identifier_parts(make_row("a", "test", 17, ["dog", "frisbee"]))
    ('<|cluster_17|>', 'dog', 'frisbee')
    """
    cluster = () if row["global_id"] == NO_CLUSTER else (cluster_token(row["global_id"]),)
    return (*cluster, *units_of(row))


def read_identifiers(folder: Path | str, direction: str, split: str | None = None) -> Sequence[IdentifierRow]:
    """Read the identifiers of one direction's items; many of them stay on the disk (`semcore.runtime.long_lists`).

    Args:
        folder: RUN/identifiers.
        direction: "t2i" (the items are images) or "i2t" (the items are sentences).
        split: "train", "val" or "test"; all three by default.

    Raises:
        UserError: the file is missing, or a line lacks a field.
    """
    path = Path(folder) / f"{direction}.jsonl"
    if not path.is_file():
        again = data_command("identifiers", "--run", path.parent.parent)
        raise UserError(f"there is no {path}; make it with `{again}`")
    return kept(_rows(path, split))


def _rows(path: Path, split: str | None) -> Iterator[IdentifierRow]:
    for number, row in read_numbered_jsonl(path):
        missing = [key for key in REQUIRED if key not in row]
        if missing:
            raise UserError(f"{path}, line {number}: {' and '.join(missing)} missing")
        if wrong := [key for key in IdentifierRow.__annotations__ if key in row and not _is_of_type(key, row[key])]:
            raise UserError(
                f"{path}, line {number}: {wrong[0]} is not what it should be, found {str(row[wrong[0]])[:60]!r}"
            )
        if split is None or row["split"] == split:
            yield IdentifierRow(**{key: row[key] for key in IdentifierRow.__annotations__ if key in row})  # type: ignore[typeddict-item]


def _is_of_type(key: str, value: object) -> bool:
    """Return whether a value of a row is what the field holds."""
    if key == "global_id":
        return type(value) is int and NO_CLUSTER <= value < MAX_CLUSTERS
    if key in ("lexical_id", "codes", "more"):
        kind = int if key == "codes" else str
        return isinstance(value, list) and all(type(entry) is kind for entry in value)
    return isinstance(value, str)


def read_cluster_words(folder: Path | str) -> list[list[str]]:
    """Return each cluster's words of greatest TF-IDF weight, best first; the position is the global id.

    For identifiers without a global id the list is empty.

    Args:
        folder: RUN/identifiers.

    Raises:
        UserError: the file is missing or broken.
    """
    path = Path(folder) / CLUSTER_WORDS
    if not path.is_file():
        again = data_command("identifiers", "--run", path.parent.parent)
        raise UserError(f"there is no {path}; make it with `{again}`")
    try:
        return [list(cluster["words"]) for cluster in read_json(path)["clusters"]]
    except (KeyError, TypeError):
        raise UserError(f"{path} holds no clusters; delete {path.parent} and make the identifiers again") from None
