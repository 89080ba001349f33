"""The garbage collector, kept away from what a command imports: it looks through all of it again and again.

torch and transformers make some million objects that stay until a process ends. Looking for garbage among them takes a
second and a half of the three or four that their import takes, and another second at the end of the process.
"""

from __future__ import annotations

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Collect no garbage for a while: while modules are imported and models are loaded, which leave little behind."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def end_uncollected() -> None:
    """Let the process end without a last look for garbage; the system frees its memory anyway."""
    atexit.unregister(gc.freeze)
    atexit.register(gc.freeze)
