"""Rank of this process among those that a launcher started."""

from __future__ import annotations

import logging
import os
import sys
from typing import NoReturn


def is_main_process() -> bool:
    """Return whether this process prints, locks and writes (rank 0, or no launcher at all)."""
    return int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0"))) == 0


def num_processes() -> int:
    """Return how many processes the launcher started; 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def process_rank() -> int:
    """Return the rank of this process; 0 without a launcher."""
    return int(os.environ.get("RANK", "0"))


def leave_at_once() -> NoReturn:
    """End this process with exit code 0, without the interpreter's own clearing up.

    DeepSpeed's ZeRO-3 never lets its process groups go, and a thread of theirs that asks for the interpreter while
    it shuts down ends the process with "terminate called without an active exception": of some thirty launches, two.
    """
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
