from pathlib import Path

import pytest

from tests.semcore.report.small_run import write_run_folder


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """An evaluated run with hostile sentences in it."""
    return write_run_folder(tmp_path)
