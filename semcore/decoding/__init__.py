"""Constrained search over identifiers: token ids in, token ids and scores out."""

from semcore.decoding.beam_search import SearchResult, constrained_beam_search
from semcore.decoding.exhaustive import exhaustive_search
from semcore.decoding.index import IdentifierIndex
from semcore.decoding.prior import estimate_priors
from semcore.decoding.prior_correction import correction_of
from semcore.decoding.transformers_engine import generate_with_transformers

__all__ = [
    "IdentifierIndex",
    "SearchResult",
    "constrained_beam_search",
    "correction_of",
    "estimate_priors",
    "exhaustive_search",
    "generate_with_transformers",
]
