"""The shipped DeepSpeed configurations, each with two real processes on the CPU.

Slow: every launch takes ten seconds and more, and the first compiles DeepSpeed's operations for
minutes, so TORCH_EXTENSIONS_DIR should outlive it.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file

from data_prep.make_scenes import Settings, main
from semcore.dataset import load_dataset
from semcore.files import write_json, write_jsonl
from semcore.identifiers.rows import make_row

ROOT = Path(__file__).resolve().parents[2]
STEPS, STOP_AT = 12, 6
CONFIGS = ("cpu_zero1", "cpu_zero2", "cpu_zero3", "cpu_zero3_offload")
SETTINGS = {
    "row_tokens": 96, "training.batch_size": 4, "training.rows_a_device": 2, "training.num_epochs": 60,
    "training.max_steps": STEPS, "training.learning_rate": 3e-3, "training.save_steps": STOP_AT,
    "training.gradient_checkpointing": "false", "training.bf16": "no", "held_out.image_share": 0,
}  # fmt: skip

pytestmark = pytest.mark.slow


class Launched(NamedTuple):
    """What a launch left: the run folder, and a report from each process (none of a killed one)."""

    run: Path
    reports: list[dict[str, Any]]

    def model(self) -> dict[str, torch.Tensor]:
        return load_file(self.run / "identifier_model" / "model.safetensors")


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
        launcher = ["-m", "accelerate.commands.accelerate_cli", "launch", "--config_file", f"ds_configs/{config}.yaml"]
        probe = ["tests/recipes/probe.py", str(reports), str(kill_at), "recipes/train_identifier.py"]
        code, output = execute([*(launcher if config else []), *probe, *words, *options])
        assert (code == 0) is (kill_at == 0), output
        return Launched(where, [json.loads(path.read_text()) for path in sorted(reports.glob("*.json"))])

    return run


@pytest.fixture(scope="module")
def whole(launch) -> Callable[[str], Launched]:
    """One uninterrupted training a configuration."""
    return cache(lambda config: launch(config))


def new_run(run: Path, data: Path) -> Path:
    images = load_dataset(data).images
    t2i = [make_row(r.image_id, r.split, n % 2, ["circle", f"number{n}"]) for n, r in enumerate(images)]
    i2t = [make_row(s.sentence_id, r.split, 0, s.text.split()[-2:]) for r in images for s in r.sentences]
    write_jsonl(run / "identifiers" / "t2i.jsonl", t2i)
    write_jsonl(run / "identifiers" / "i2t.jsonl", i2t)
    write_json(run / "identifiers" / "cluster_words.json", {"clusters": [{"words": ["red"]}, {"words": []}]})
    return run


def execute(arguments: list[str]) -> tuple[int, str]:
    environment = {name: value for name, value in os.environ.items() if name != "ACCELERATE_USE_CPU"}
    environment |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with subprocess.Popen(
        [sys.executable, *arguments], cwd=ROOT, env=environment, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as process:  # fmt: skip
        try:
            output = process.communicate(timeout=900)[0]
            return process.returncode, output
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.parametrize("config", CONFIGS)
def test_two_processes_really_share_the_work(whole, tiny_checkpoint_folder, config):
    run, reports = whole(config)
    stage = int(config.removeprefix("cpu_zero")[0])
    assert [report["world_size"] for report in reports] == [2, 2]
    assert {report["engine"] for report in reports} == {"DeepSpeedEngine"}
    assert {report["stage"] for report in reports} == {stage}
    assert {report["optimizer"] for report in reports} == {"DeepSpeedCPUAdam" if "offload" in config else "AdamW"}
    assert all(len(report["seen"]) == STEPS for report in reports)
    assert all(mine != other for mine, other in zip(*(report["seen"] for report in reports), strict=True))
    trained = reports[0]["all_elements"]
    assert all(0.5 * trained <= report["own_elements"] < 0.55 * trained for report in reports)

    losses = reports[0]["losses"]
    assert len(losses) == STEPS
    assert losses[-1] < 0.9 * losses[0]
    assert losses == reports[1]["losses"]

    entry = json.loads((run / "manifest.json").read_text())["stages"]["train_identifier"]
    expected = {"engine": "deepspeed", "zero_stage": stage, "num_processes": 2, "steps": STEPS, "finished": True}
    assert {key: entry[key] for key in expected} == expected

    before, after = load_file(tiny_checkpoint_folder / "model.safetensors"), whole(config).model()
    moved = {name for name, weight in before.items() if not torch.equal(after[name][: len(weight)], weight)}
    assert any("layers.0.mlp.down_proj" in name for name in moved)
    assert all("language_model" in name for name in moved)


@pytest.mark.parametrize("config", CONFIGS)
def test_a_killed_training_ends_like_a_whole_one(launch, whole, config):
    killed = launch(config, kill_at=STOP_AT)
    assert killed.reports == []
    assert (killed.run / "identifier_model" / "checkpoints" / f"checkpoint-{STOP_AT}").is_dir()
    resumed = launch(config, go_on=killed)
    assert len(resumed.reports[0]["seen"]) == STEPS - STOP_AT
    assert resumed.reports[0]["losses"] == pytest.approx(whole(config).reports[0]["losses"], abs=1e-4)
    expected = whole(config).model()
    for name, weight in resumed.model().items():
        torch.testing.assert_close(weight, expected[name], atol=1e-4, rtol=1e-3, msg=name)


def test_one_process_and_two_learn_the_same(launch, whole):
    one = launch(None, "--training.rows_a_device", "4").reports
    assert [(report["world_size"], report["engine"]) for report in one] == [(1, "InternVLForConditionalGeneration")]
    assert one[0]["losses"] == pytest.approx(whole("cpu_zero1").reports[0]["losses"], abs=1e-3)


def test_adapters_train_under_zero3(launch):
    run, reports = launch("cpu_zero3", "--lora.rank", "4", "--training.learning_rate", "2e-2")
    assert reports[0]["losses"][-1] < reports[0]["losses"][0]
    adapter = load_file(run / "identifier_model" / "adapter_model.safetensors")
    assert all(weight.abs().max() > 0 for name, weight in adapter.items() if "lora_B" in name)
    assert any("trainable_tokens" in name for name in adapter)


def test_half_precision_trains_under_zero2(launch):
    losses = launch("cpu_zero2", "--training.bf16", "yes").reports[0]["losses"]
    assert losses[-1] < 0.9 * losses[0]
