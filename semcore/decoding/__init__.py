"""Identifiers that a model may generate, and the searches over them: token ids in, token ids and scores out."""

from semcore.decoding.index import IdentifierIndex
from semcore.decoding.result import SearchResult
from semcore.decoding.transformers_engine import generate_with_transformers

__all__ = ["IdentifierIndex", "SearchResult", "generate_with_transformers"]
