"""Structured natural-language identifiers: a cluster and a few keywords an item (paper, section 3.2).

What other rooms need is exported here and imports neither torch nor scikit-learn.
"""

from semcore.identifiers.rows import (
    DIRECTIONS,
    NO_CLUSTER,
    IdentifierRow,
    cluster_token,
    identifier_text,
    make_row,
    read_cluster_words,
    read_identifiers,
)

__all__ = [
    "DIRECTIONS",
    "NO_CLUSTER",
    "IdentifierRow",
    "cluster_token",
    "identifier_text",
    "make_row",
    "read_cluster_words",
    "read_identifiers",
]
