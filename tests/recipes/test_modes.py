"""Every other way to train, with two real processes on the CPU: what moves, what is saved, how it goes on.

Full fine-tuning under each DeepSpeed configuration is in test_deepspeed.py.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.recipes.conftest import STEPS, STOP_AT, Launched

LORA = ("--lora.rank", "4", "--lora.dropout", "0", "--training.learning-rate", "2e-2")
RECOMPUTED = ("--training.gradient-checkpointing", "true")
QLORA = (*LORA, "--lora.quantization", "nf4", *RECOMPUTED)
EIGHT_BITS = ("--training.optim", "adamw_8bit")
MODES: dict[str, tuple[str, tuple[str, ...]]] = {
    "LoRA, DDP": ("ddp", (*LORA, *RECOMPUTED)),
    "LoRA, ZeRO-3": ("cpu_zero3", (*LORA, *RECOMPUTED)),
    "QLoRA, ZeRO-2": ("cpu_zero2", QLORA),
    "8-bit AdamW, ZeRO-2": ("cpu_zero2", EIGHT_BITS),
}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def whole(launch) -> Callable[[str], Launched]:
    """One uninterrupted training a mode."""

    def run(mode: str) -> Launched:
        config, options = MODES[mode]
        return launch(config, *options)

    return cache(run)


@pytest.fixture(autouse=True)
def _installed(request: Any) -> None:
    if any(word in str(request.node.callspec.params.get("mode", "")) for word in ("QLoRA", "8-bit")):
        pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")


@pytest.mark.parametrize("mode", MODES)
def test_two_processes_learn_what_they_should_and_nothing_else(whole, tiny_checkpoint_folder, mode):
    run, reports = whole(mode)
    assert [report["world_size"] for report in reports] == [2, 2]
    assert all(mine != other for mine, other in zip(*(report["seen"] for report in reports), strict=True))
    losses = reports[0]["losses"]
    assert len(losses) == STEPS
    assert losses[-1] < 0.95 * losses[0]
    assert losses == reports[1]["losses"]
    assert whole(mode).loss_after_reload() == pytest.approx(reports[0]["last_loss"], abs=1e-5)
    if "LoRA" in mode:
        saved = whole(mode).adapter()
        assert all(weight.abs().max() > 0 for name, weight in saved.items() if "lora_B" in name)
        assert any("trainable_tokens" in name for name in saved)
        assert all("lora_" in name or "trainable_tokens" in name for name in saved)
        assert not (run / "identifier_model" / "model.safetensors").exists()
    else:
        before, after = load_file(tiny_checkpoint_folder / "model.safetensors"), whole(mode).model()
        moved = {name for name, weight in before.items() if not torch.equal(after[name][: len(weight)], weight)}
        assert moved
        assert all("language_model" in name for name in moved)
        assert all("torch.uint8" in report["moments"] for report in reports)


@pytest.mark.parametrize("mode", ["LoRA, ZeRO-3", "QLoRA, ZeRO-2", "8-bit AdamW, ZeRO-2"])
def test_a_killed_training_ends_like_a_whole_one(launch, whole, mode):
    config, options = MODES[mode]
    resumed = launch(config, *options, go_on=whole(mode).as_killed())
    assert len(resumed.reports[0]["seen"]) == STEPS - STOP_AT
    assert resumed.reports[0]["losses"] == pytest.approx(whole(mode).reports[0]["losses"], abs=1e-4)
    expected = whole(mode).adapter() if "LoRA" in mode else whole(mode).model()
    for name, weight in (resumed.adapter() if "LoRA" in mode else resumed.model()).items():
        torch.testing.assert_close(weight, expected[name], atol=1e-3, rtol=1e-2, msg=name)


@pytest.mark.parametrize("mode", ["LoRA, DDP", "LoRA, ZeRO-3", "QLoRA, ZeRO-2"])
def test_one_process_and_two_learn_the_same(alone, whole, mode):
    assert alone(MODES[mode][1]).reports[0]["losses"] == pytest.approx(whole(mode).reports[0]["losses"], abs=1e-3)


@pytest.fixture(scope="module")
def alone(launch) -> Callable[[tuple[str, ...]], Launched]:
    """The same training in one process."""
    return cache(lambda options: launch(None, *options, "--training.micro-batch-size", "4"))
