import os
import subprocess
import sys
from pathlib import Path

import pytest

from semcore.runtime.resumable import in_chunks, remove_work_folder, work_folder


class Squares:
    """Squares numbers, notes what it was given, and dies at one of them."""

    def __init__(self, dies_at=None):
        self.given, self.dies_at = [], dies_at

    def __call__(self, chunk):
        if self.dies_at in chunk:
            raise KeyboardInterrupt
        self.given += chunk
        return [number * number for number in chunk]


def test_results_stand_in_the_order_of_the_tasks(tmp_path):
    result = in_chunks(tmp_path / "work", "squares", range(7), 3, Squares())
    assert result.rows == [0, 1, 4, 9, 16, 25, 36]
    assert result.seconds > 0


def test_what_was_done_before_a_kill_is_not_done_again(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        in_chunks(tmp_path / "work", "squares", range(7), 3, Squares(dies_at=5))
    again = Squares()
    assert in_chunks(tmp_path / "work", "squares", range(7), 3, again).rows == [0, 1, 4, 9, 16, 25, 36]
    assert again.given == [3, 4, 5, 6]


def test_no_tasks(tmp_path):
    assert in_chunks(tmp_path / "work", "squares", [], 3, Squares()).rows == []


def test_work_must_answer_every_task(tmp_path):
    with pytest.raises(ValueError, match="1 results for 2 tasks in squares-00000.json"):
        in_chunks(tmp_path / "work", "squares", [1, 2], 2, lambda chunk: chunk[:1])


def test_a_job_with_another_key_begins_anew(tmp_path):
    in_chunks(work_folder(tmp_path, "caption", "old"), "squares", range(3), 3, Squares())
    again = Squares()
    in_chunks(work_folder(tmp_path, "caption", "new"), "squares", range(3), 3, again)
    assert again.given == [0, 1, 2]
    assert [path.name for path in (tmp_path / ".caption").iterdir()] == ["new"]


def test_a_finished_job_clears_away_its_own_chunks_only(tmp_path):
    (tmp_path / "captions.jsonl").write_text("kept")
    (tmp_path / ".evaluate").mkdir()
    in_chunks(work_folder(tmp_path, "caption", "key"), "squares", range(3), 3, Squares())
    remove_work_folder(tmp_path, "caption")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".evaluate", "captions.jsonl"]


def test_two_processes_share_the_chunks_and_see_all_results(tmp_path):
    code = (
        "import json, os, sys; from pathlib import Path; from semcore.runtime.resumable import in_chunks;"
        "work = lambda chunk: [[number, os.environ['RANK']] for number in chunk];"
        "print(json.dumps(in_chunks(Path(sys.argv[1]), 'shared', range(5), 1, work).rows))"
    )
    root = Path(__file__).resolve().parents[3]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / "work")],
            env={**os.environ, "RANK": rank, "WORLD_SIZE": "2", "PYTHONPATH": str(root)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in "01"
    ]
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    assert outputs[0] == outputs[1] == '[[0, "0"], [1, "1"], [2, "0"], [3, "1"], [4, "0"]]\n'
