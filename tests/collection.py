"""Collection of the tests: the modules that are looked through for doctests, processes, and what shares one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
LAUNCHES = "launches"
"""Group of the tests whose commands launch processes at accelerate's own port, one after the other therefore."""
MOST_PROCESSES = 4  # every one imports the libraries and makes fixtures for itself


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Return the number of processes that `-n auto` starts: one for each core that this one may use."""
    return min(len(os.sched_getaffinity(0)), MOST_PROCESSES)


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave out a package's module without examples: pytest imports what it looks through, in each of its processes."""
    if collection_path.suffix != ".py" or TESTS in collection_path.parents:
        return None
    return True if ">>>" not in collection_path.read_text(encoding="utf-8") else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Make the tests of a file a group, for what they share, unless they are of another; the longest group begins.

    Groups matter where xdist deals out by them, `--dist loadgroup`: a group stays in one process.
    """
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.nodeid.partition("::")[0]))
    items.sort(key=lambda item: not any(LAUNCHES in mark.args for mark in item.iter_markers("xdist_group")))
