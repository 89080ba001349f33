"""Captions and evaluations shared between two real processes are those of one; two machines train as one.

Slow: every launch takes some seconds.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from data_prep import caption
from semcore.commands.evaluate import EvaluateSettings
from semcore.commands.evaluate import main as evaluate
from semcore.runtime.files import read_json
from tests.recipes.conftest import start
from tests.run_fixtures import SearchableRun

LAUNCHER = ("--config_file", "ds_configs/cpu_zero2.yaml", "--num_processes", "2")
FOUND = [
    f"{direction}/{name}"
    for direction in ("t2i", "i2t")
    for name in ("run.generated.trec", "run.verified.trec", "qrels.trec", "per_query.jsonl")
]

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Compute here as in the processes that are started, on one thread: more would add up in another order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def accelerate(*words: object) -> subprocess.Popen[str]:
    """Start an accelerate launcher."""
    return start(["-m", "accelerate.commands.accelerate_cli", "launch", *map(str, words)])


def wait(*processes: subprocess.Popen[str]) -> list[str]:
    """Wait for launchers that are to succeed, and return what they printed."""
    try:
        outputs = [process.communicate(timeout=300)[0] for process in processes]
    finally:
        for process in processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    assert [process.returncode for process in processes] == [0] * len(processes), "\n".join(outputs)
    return outputs


def free_port() -> int:
    with socket.socket() as open_socket:
        open_socket.bind(("127.0.0.1", 0))
        return int(open_socket.getsockname()[1])


def test_captions_of_two_processes_are_those_of_one(finished_training: SearchableRun, tmp_path: Path) -> None:
    asked = {"data": finished_training.data, "model": str(finished_training.base), "batch_size": 4}
    caption.main(caption.Settings(run=tmp_path / "one", max_new_tokens=12, dtype="float32", **asked))  # type: ignore[arg-type]
    options = [word for name, value in asked.items() for word in (f"--{name}", value)]
    options += ["--run", tmp_path / "two", "--max-new-tokens", 12, "--dtype", "float32"]
    [output] = wait(accelerate(*LAUNCHER, "--main_process_port", free_port(), "-m", "data_prep.caption", *options))
    assert output.count("next: python -m data_prep.identifiers") == 1
    for name in ("captions.jsonl", "captions.stats.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert read_json(tmp_path / "two" / "manifest.json")["stages"]["caption"]["num_processes"] == 2


def test_an_evaluation_of_two_processes_is_that_of_one(finished_training: SearchableRun, tmp_path: Path) -> None:
    for name in ("one", "two"):
        shutil.copytree(finished_training.run, tmp_path / name)
    asked = {"verifier": "both", "num_beams": 8, "num_candidates": 5, "batch_size": 4, "dtype": "float32"}
    evaluate(EvaluateSettings(tmp_path / "one", device="cpu", num_order_queries=0, **asked))  # type: ignore[arg-type]
    options = [word for name, value in asked.items() for word in (f"--{name}", value)]
    options += ["--run", tmp_path / "two", "--device", "cpu", "--num-order-queries", 0]
    wait(accelerate(*LAUNCHER, "--main_process_port", free_port(), "recipes/evaluate.py", *options))
    for name in FOUND:
        assert (tmp_path / "one" / name).read_text() == (tmp_path / "two" / name).read_text()
    one, two = (read_json(tmp_path / name / "metrics.json") for name in ("one", "two"))
    assert {key: one[key] for key in one if key != "seconds"} == {key: two[key] for key in two if key != "seconds"}


def test_two_machines_train_one_model(finished_training: SearchableRun, tmp_path: Path) -> None:
    """Two launchers of one process each, as two machines have them, that meet at an address."""
    run, port = tmp_path / "run", free_port()
    shutil.copytree(finished_training.run / "identifiers", run / "identifiers")
    (run / "identifiers" / "cluster_words.json").write_text(
        '{"clusters": [{"words": []}, {"words": []}, {"words": []}]}'
    )
    options = ["--data", finished_training.data, "--run", run, "--model.base", finished_training.base]
    options += ["--training.max-steps", 2, "--training.batch-size", 4, "--training.micro-batch-size", 2]
    two = ["--config_file", "ds_configs/zero1_2nodes.yaml", "--num_machines", 2, "--num_processes", 2]
    meet = ["--main_process_ip", "127.0.0.1", "--main_process_port", port, "recipes/train_identifier.py"]
    outputs = wait(*(accelerate(*two, "--machine_rank", rank, *meet, *options) for rank in (0, 1)))
    entry = read_json(run / "manifest.json")["stages"]["train_identifier"]
    expected = {"engine": "deepspeed", "zero_stage": 1, "num_processes": 2, "steps": 2, "finished": True}
    assert {key: entry[key] for key in expected} == expected
    assert [output.count("next: python -m data_prep.candidates") for output in outputs] == [1, 0]
