"""SemCORE: retrieval between pictures and sentences by generating identifiers, then verifying them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from semcore.retriever import Retriever

__version__ = "0.1.0"
__all__ = ["Retriever", "__version__"]


def __getattr__(name: str) -> Any:
    """Import `Retriever` at first use, so that reading a run folder needs no torch."""
    if name != "Retriever":
        raise AttributeError(f"module 'semcore' has no attribute {name!r}")
    from semcore.retriever import Retriever

    return Retriever
