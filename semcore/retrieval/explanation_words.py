"""Words of an explanation: the cluster's and the identifier's keywords, and which of them a query says."""

from __future__ import annotations

import re
from typing import Any

from semcore.data.identifier_files import read_cluster_words
from semcore.data.run_folder import RunFolder
from semcore.identifiers.words import split_words
from semcore.runtime.errors import UserError

_CLUSTER = re.compile(r"<\|cluster_(\d+)\|>")


def cluster_of(identifier: str, run: RunFolder, query: str | None) -> dict[str, Any] | None:
    """Return the cluster of an identifier and its words; None where it has none.

    Args:
        identifier: as the model writes it.
        run: holds the words of the clusters; without them there are none.
        query: the sentence that was searched with; None for an image.
    """
    found = _CLUSTER.match(identifier)
    if found is None:
        return None
    global_id = int(found[1])
    try:
        words = read_cluster_words(run / "identifiers")
    except UserError:  # identifiers that were made elsewhere come without
        words = []
    own = words[global_id] if global_id < len(words) else []
    said = None if query is None else [word for word in own if says(query, word)]
    return {"token": found[0], "global_id": global_id, "words": own, "words_in_query": said}


def keywords_of(keywords: str, query: str | None) -> list[dict[str, Any]]:
    """Return the words of a lexical id, and for each whether a sentence says it; None for an image."""
    return [{"keyword": word, "in_query": None if query is None else says(query, word)} for word in keywords.split()]


def says(sentence: str, keyword: str) -> bool:
    """Tell whether a sentence has a keyword, by the words that keywords are taken from.

    >>> says("A dog's frisbee, red.", "frisbee"), says("a reddish dog", "red"), says("the living room", "living room")
    (True, False, True)
    """
    words = split_words(sentence.lower())
    wanted = split_words(keyword.lower())
    if not wanted:  # a digit or a letter alone is no word for KeyBERT
        return keyword.lower() in sentence.lower().split()
    return any(words[start : start + len(wanted)] == wanted for start in range(len(words) - len(wanted) + 1))
