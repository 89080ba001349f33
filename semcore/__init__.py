"""SemCORE: generative cross-modal retrieval of images and sentences, by generated identifiers and verification."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from semcore.runtime.errors import UserError

if TYPE_CHECKING:
    from semcore.retrieval.retriever import Retriever

__version__ = "0.1.0"
__all__ = ["Retriever", "UserError", "__version__"]

# Where bitsandbytes is installed, peft imports it, and on a CPU it warns of a kernel that it does without.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)


def __getattr__(name: str) -> Any:
    """Import `Retriever` at first use, so that reading a run folder needs no torch."""
    if name != "Retriever":
        raise AttributeError(f"module 'semcore' has no attribute {name!r}")
    from semcore.retrieval.retriever import Retriever

    return Retriever
