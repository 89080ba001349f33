"""The shipped DeepSpeed configurations, each with two real processes on the CPU.

Slow: every launch takes some seconds, and the first compiles DeepSpeed's operations for minutes, so
TORCH_EXTENSIONS_DIR should outlive it.
"""

import json
from collections.abc import Callable
from functools import cache

import pytest
import torch
from safetensors.torch import load_file

from tests.recipes.conftest import STEPS, STOP_AT, Launched

CONFIGS = ("cpu_zero1", "cpu_zero2", "cpu_zero3", "cpu_zero3_offload")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def whole(launch) -> Callable[[str], Launched]:
    """One uninterrupted training a configuration."""
    return cache(lambda config: launch(config))


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
    assert whole(config).loss_after_reload() == pytest.approx(reports[0]["last_loss"], abs=1e-5)


@pytest.mark.parametrize("config", CONFIGS[1:])  # ZeRO-1 shares out less of the same than ZeRO-2
def test_a_killed_training_ends_like_a_whole_one(launch, whole, config):
    """One is really killed; the others go on from what a kill would have left, which spares a launch."""
    killed = launch(config, kill_at=STOP_AT) if config == "cpu_zero2" else whole(config).as_killed()
    assert killed.reports == []
    assert (killed.run / "identifier_model" / "checkpoints" / f"checkpoint-{STOP_AT}").is_dir()
    resumed = launch(config, go_on=killed)
    assert len(resumed.reports[0]["seen"]) == STEPS - STOP_AT
    assert resumed.reports[0]["losses"] == pytest.approx(whole(config).reports[0]["losses"], abs=1e-4)
    expected = whole(config).model()
    for name, weight in resumed.model().items():
        torch.testing.assert_close(weight, expected[name], atol=1e-4, rtol=1e-3, msg=name)


def test_one_process_and_two_learn_the_same(launch, whole):
    one = launch(None, "--training.micro-batch-size", "4").reports
    assert [(report["world_size"], report["engine"]) for report in one] == [(1, "InternVLForConditionalGeneration")]
    assert one[0]["losses"] == pytest.approx(whole("cpu_zero1").reports[0]["losses"], abs=1e-3)


def test_half_precision_trains_under_zero2(launch):
    losses = launch("cpu_zero2", "--training.bf16", "yes").reports[0]["losses"]
    assert losses[-1] < 0.9 * losses[0]
