"""Constrained search over identifiers: token ids in, token ids and scores out."""

from semcore.decoding.beam_search import SearchResult, constrained_beam_search
from semcore.decoding.exhaustive import exhaustive_search
from semcore.decoding.index import IdentifierIndex
from semcore.decoding.transformers_engine import generate_with_transformers

__all__ = [
    "IdentifierIndex",
    "SearchResult",
    "constrained_beam_search",
    "exhaustive_search",
    "generate_with_transformers",
]
