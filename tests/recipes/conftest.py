"""Recipes launched as a user launches them, with two real processes under a probe."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file

from data_prep.make_scenes import Settings, main
from semcore.data.dataset import load_dataset
from semcore.data.identifier_files import make_row
from semcore.models.checkpoint import load_checkpoint
from semcore.runtime.files import write_json, write_jsonl
from tests.recipes.warm_python import warm_python

ROOT = Path(__file__).resolve().parents[2]
STEPS, STOP_AT = 12, 6
SETTINGS = {
    "row_tokens": 96, "training.batch_size": 4, "training.micro_batch_size": 2, "training.num_epochs": 60,
    "training.max_steps": STEPS, "training.learning_rate": 3e-3, "training.save_steps": STOP_AT,
    "training.gradient_checkpointing": "false", "training.bf16": "no", "held_out.image_fraction": 0,
}  # fmt: skip
# Any free port: other tests launch at the same time.
ACCELERATE = ("-m", "accelerate.commands.accelerate_cli", "launch", "--main_process_port", "0")


class Launched(NamedTuple):
    """What a launch left: the run folder, and a report from each process (none of a killed one)."""

    run: Path
    reports: list[dict[str, Any]]

    def as_killed(self) -> Launched:
        """Return the run as a kill at step `STOP_AT` would have left it; it can go on from there."""
        return Launched(self.run.with_name(f"{self.run.name}-kept"), [])

    def model(self) -> dict[str, torch.Tensor]:
        return load_file(self.run / "identifier_model" / "model.safetensors")

    def adapter(self) -> dict[str, torch.Tensor]:
        return load_file(self.run / "identifier_model" / "adapter_model.safetensors")

    def loss_after_reload(self) -> float:
        """Return the loss of what was saved, on the batch whose loss the processes reported last."""
        batch = torch.load(self.run / "reports0" / "batch.pt", weights_only=False)
        with torch.no_grad():
            return load_checkpoint(self.run / "identifier_model").model(**batch).loss.item()


Launch = Callable[..., Launched]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("scenes") / "data"
    main(Settings(folder, train=6, val=1, test=1))
    return folder


@pytest.fixture(scope="module")
def launch(data, tiny_checkpoint_folder, tmp_path_factory) -> Launch:
    """Launch the recipe under the probe, in a fresh run folder or in that of an earlier launch."""
    folder = tmp_path_factory.mktemp("launches")

    def run(config: str | None, *options: str, kill_at: int = 0, go_on: Launched | None = None) -> Launched:
        where = go_on.run if go_on else new_run(folder / f"run{len(list(folder.iterdir()))}", data)
        reports = where / f"reports{kill_at}"
        places = {"model.base": tiny_checkpoint_folder, "data": data, "run": where}
        words = [word for key, value in {**places, **SETTINGS}.items() for word in (f"--{key}", str(value))]
        launcher = [*ACCELERATE, "--config_file", f"ds_configs/{config}.yaml"]
        if config == "ddp":
            launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "--"]
        probe = ["tests/recipes/probe.py", str(reports), str(kill_at or -STOP_AT), "recipes/train_identifier.py"]
        code, output = execute([*(launcher if config else []), *probe, *words, *options])
        assert (code == 0) is (kill_at == 0), output
        return Launched(where, [json.loads(path.read_text()) for path in sorted(reports.glob("*.json"))])

    return run


def new_run(run: Path, data: Path) -> Path:
    """Make a run folder with identifiers."""
    images = load_dataset(data).images
    t2i = [make_row(r.image_id, r.split, n % 2, ["circle", f"number{n}"]) for n, r in enumerate(images)]
    i2t = [make_row(s.sentence_id, r.split, 0, s.text.split()[-2:]) for r in images for s in r.sentences]
    write_jsonl(run / "identifiers" / "t2i.jsonl", t2i)
    write_jsonl(run / "identifiers" / "i2t.jsonl", i2t)
    write_json(run / "identifiers" / "cluster_words.json", {"clusters": [{"words": ["red"]}, {"words": []}]})
    return run


def start(arguments: Sequence[str]) -> subprocess.Popen[str]:
    """Start Python, with its imports done, in the environment of a user's terminal, as far as tests allow."""
    environment = {name: value for name, value in os.environ.items() if name != "ACCELERATE_USE_CPU"}
    environment |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    environment |= {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    environment |= {"PYTHON_EXEC": str(warm_python())}  # a launcher's processes
    return subprocess.Popen(
        [str(warm_python()), *arguments], cwd=ROOT, env=environment, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def execute(arguments: Sequence[str]) -> tuple[int, str]:
    with start(arguments) as process:
        try:
            output = process.communicate(timeout=900)[0]
            return process.returncode, output
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
