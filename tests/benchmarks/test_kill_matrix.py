"""The kill matrix: its comparison, its kills, and the cheap stages of it for real."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import pytest
from tqdm import tqdm

from benchmarks import kill_matrix
from benchmarks.faults.comparison import differences, half_written
from benchmarks.faults.processes import Moment, run
from benchmarks.faults.stages import all_stages
from semcore.decoding import IdentifierIndex
from semcore.runtime.errors import UserError
from semcore.runtime.files import sha256_of, write_json

CHEAP = ["draw-scenes", "import-karpathy", "import-folder", "import-csv"]


def test_what_was_measured_is_not_compared_and_all_else_is(tmp_path: Path) -> None:
    for name, seconds, loss in (("a", 1.5, 2), ("b", 7.25, 2), ("c", 1.5, 3)):
        folder = tmp_path / name
        (folder / "logs").mkdir(parents=True)
        (folder / "manifest.json").write_text(json.dumps({"stages": {"x": {"seconds": seconds, "loss": loss}}}))
        (folder / "rows.jsonl").write_text(json.dumps({"time": seconds}) + "\n")
        scores = f"| R@1 | seconds |\n|--:|--:|\n| 70.0 | {seconds} |\n\n"
        parts = f"\n## Seconds of the evaluation\n\n| | |\n|:--|:--|\n| search | {seconds} |\n"
        (folder / "report.md").write_text(f"{scores}| caption | {seconds} s | 1.2 GB |\n{parts}")
        cells = f"\n<td>70.0</td>\n<td>{seconds}</td>\n\n</tr>"
        parts = f"<summary>Seconds of the evaluation</summary>\n<tr><td>{seconds}</td></tr></table>"
        (folder / "report.html").write_text(f"<th>seconds</th></tr></thead><tr>{cells}</table>{parts}")
        (folder / ".lock").write_text(name)
        (folder / "logs" / "log").write_text(name)
    assert differences(tmp_path / "a", tmp_path / "b") == []
    assert differences(tmp_path / "a", tmp_path / "c") == ["differs: manifest.json (stages.x.loss: 2, 3)"]
    for name, old, new in (("report.md", "| 70.0", "| 70.5"), ("report.html", "<td>70.0", "<td>70.5")):
        path = tmp_path / "b" / name
        path.write_text(path.read_text().replace(old, new))
    (tmp_path / "b" / ".x.tmp").write_text("")
    (tmp_path / "b" / "rows.jsonl").unlink()
    assert differences(tmp_path / "a", tmp_path / "b") == [
        "missing: rows.jsonl", "left behind: .x.tmp",
        "differs: report.html (1: <td>70.0</td>, <td>70.5</td>)",
        "differs: report.md (2: | 70.0 |_, | 70.5 |_)",
    ]  # fmt: skip


def test_an_index_is_compared_by_what_is_found_in_it(tmp_path: Path) -> None:
    """One that has been changed has entries that nothing leads to; its record has the hash of the file beside it."""
    sequences = [[number, 9] for number in range(1, 6)]
    changed = IdentifierIndex.from_sequences(sequences, list("abcde"))
    changed.remove(["e"])
    indexes = {
        "changed": changed,
        "new": IdentifierIndex.from_sequences(sequences[:4], list("abcd")),
        "other": IdentifierIndex.from_sequences(sequences[:4], list("abce")),
    }
    for name, index in indexes.items():
        path = tmp_path / name / "identifiers.safetensors"
        path.parent.mkdir()
        index.save(path)
        write_json(path.with_name("index.json"), {"key": "k", "sha256": sha256_of(path)})
    assert len({(tmp_path / name / "identifiers.safetensors").read_bytes() for name in indexes}) == 3
    assert differences(tmp_path / "changed", tmp_path / "new") == []
    assert differences(tmp_path / "changed", tmp_path / "other") == [
        "differs: identifiers.safetensors (other identifiers)"
    ]
    write_json(tmp_path / "new" / "index.json", {"key": "k", "sha256": "0"})
    assert differences(tmp_path / "changed", tmp_path / "new") == ["differs: index.json (sha256: True, False)"]


def test_links_are_compared_by_where_they_lead(tmp_path: Path) -> None:
    for name, target in (("a", "../full/features"), ("b", "../full/features"), ("c", "../other")):
        (tmp_path / name / "full" / "features").mkdir(parents=True)
        (tmp_path / name / "beams").mkdir()
        (tmp_path / name / "beams" / "features").symlink_to(target)
    assert differences(tmp_path / "a", tmp_path / "b") == []
    assert differences(tmp_path / "a", tmp_path / "c") == ["differs: beams/features (link)"]


def test_half_a_file_under_its_final_name_is_found(tmp_path: Path) -> None:
    (tmp_path / "whole.json").write_text("{}")
    (tmp_path / "half.json").write_text('{"a"')
    (tmp_path / "half.jsonl").write_text('{"a": 1}\n{"a"')
    (tmp_path / "half.safetensors").write_bytes(b"\x10")
    (tmp_path / ".work.json").write_text("{")
    assert sorted(half_written(tmp_path)) == ["half.json", "half.jsonl", "half.safetensors"]


PARENT = """
import pathlib, subprocess, sys, time
place = pathlib.Path(sys.argv[1])
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
(place / "child").write_text(str(child.pid))
time.sleep(60)
"""


def test_a_kill_takes_what_was_started_with_it(tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    ended = run(["-c", PARENT, str(place)], os.environ, place, tmp_path / "log", Moment(changes=1))
    assert ended.code is None
    deadline = time.monotonic() + 10
    child = int((place / "child").read_text() or 0)
    while child and is_running(child):
        assert time.monotonic() < deadline


def is_running(process_id: int) -> bool:
    """Return whether there is such a process, and not only its exit code."""
    try:
        return "Z" not in Path(f"/proc/{process_id}/stat").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_forked_command_ends_like_one_that_was_started(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("import sys; print('said', sys.argv[1:]); sys.exit(int(sys.argv[1]))")
    for forked in (False, True):
        ended = run([str(script), "2"], os.environ, tmp_path, tmp_path / "log", forked=forked)
        assert (ended.code, ended.output) == (2, "said ['2']\n"), forked


def test_a_forked_command_needs_no_lock_that_a_killed_one_may_have(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("from tqdm import tqdm; print(sum(tqdm([1, 2])))")
    with tqdm.get_lock():
        ended = run([str(script)], os.environ, tmp_path, tmp_path / "log", Moment(seconds=30), forked=True)
    assert ended.code == 0 and ended.output.endswith("3\n")


def test_every_stage_stands_behind_the_one_that_it_needs() -> None:
    met = {""}
    for name, stage in all_stages().items():
        assert stage.needs in met, name
        met.add(name)
    with pytest.raises(UserError, match="there is no stage 'captions'; did you mean caption"):
        kill_matrix.Settings(Path("x"), stages=["captions"])


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the matrix looks into /proc")
def test_the_cheap_stages_survive_everything(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    settings = kill_matrix.Settings(
        tmp_path, CHEAP, kills=4, full=2, json=tmp_path / "rows.json", table=tmp_path / "table.md"
    )
    kill_matrix.main(settings)
    rows = json.loads((tmp_path / "rows.json").read_text())["rows"]
    assert {row["name"].partition(",")[0] for row in rows} == set(CHEAP)
    assert [(row["name"], row["note"]) for row in rows if row["ours"]] == []
    assert all(row["note"].startswith("4 kills") for row in rows if row["name"].endswith("killed"))
    assert "| draw-scenes | 4 kills" in (tmp_path / "table.md").read_text()
