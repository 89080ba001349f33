"""Options that exclude each other are refused before anything is loaded, with a sentence that names the alternative."""

from pathlib import Path

import pytest

from semcore.runtime.errors import UserError
from semcore.training import option_checks
from semcore.training.launcher import CONFIG_VARIABLE
from semcore.training.option_checks import check_losses, check_mode, is_offloaded
from semcore.training.settings import LoraSettings, TrainingSettings, VerifierTrainingSettings

CONFIGS = Path(__file__).parents[3] / "ds_configs"
USUAL = {"optim": "adamw_torch_fused", "dtype": "auto", "device_map": None, "report_to": "none"}


@pytest.fixture
def launch(monkeypatch):
    """Pretend that a launcher has started this process with a DeepSpeed configuration, or without one."""
    monkeypatch.delenv("ACCELERATE_USE_DEEPSPEED", raising=False)
    monkeypatch.setattr("semcore.models.quantization.find_spec", lambda name: name)

    def pretend(config: str | None, num_processes: int = 2) -> None:
        if config is not None:
            monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
            monkeypatch.setenv(CONFIG_VARIABLE, str(CONFIGS / f"{config}.json"))
        monkeypatch.setenv("WORLD_SIZE", str(num_processes))

    return pretend


@pytest.mark.parametrize("config", [None, "zero1", "zero2", "cpu_zero2"])
def test_what_goes_together(launch, config):
    launch(config)
    check_mode(0, "none", False, **USUAL)
    check_mode(16, "none", True, **{**USUAL, "dtype": "bfloat16"})
    check_mode(16, "nf4", True, **{**USUAL, "optim": "paged_adamw_8bit"})
    check_mode(0, "none", True, **USUAL, attention_loss=1.0, gradient_checkpointing=True)


def test_what_goes_together_under_zero3(launch):
    launch("zero3")
    check_mode(16, "none", True, **{**USUAL, "optim": "adamw_8bit"})
    check_mode(0, "none", True, **{**USUAL, "dtype": "bfloat16"})
    check_mode(0, "none", True, **USUAL, attention_loss=1.0, gradient_checkpointing=False)
    check_mode(0, "none", True, **USUAL, attention_loss=0.0, gradient_checkpointing=True)
    launch("zero3_offload")
    check_mode(16, "none", True, **USUAL)


@pytest.mark.parametrize(
    ("config", "lora_rank", "quantization", "changed", "sentence"),
    [
        ("zero3", 16, "nf4", {}, "weights in four bits cannot be shared out by ZeRO-3: launch with ds_configs/zero2"),
        ("zero3_offload", 0, "none", {"optim": "adamw_8bit"}, "and would leave adamw_8bit out: launch with ds_con"),
        (None, 0, "none", {"dtype": "bfloat16"}, "weights in bfloat16 lose small steps: train them with DeepSpeed"),
        ("zero1", 0, "none", {"device_map": "auto"}, "--training.device-map auto spreads one process over several"),
        (None, 0, "none", {"device_map": "auto"}, "several processes: start the recipe with python instead of"),
        ("zero3", 0, "none", {"attention_loss": 1.0, "gradient_checkpointing": True}, "--training.attention-loss 1.0 "),
        (None, 0, "none", {"report_to": "nowhere"}, "--training.report-to nowhere is not installed, or no library"),
    ],
)
def test_what_does_not(launch, config, lora_rank, quantization, changed, sentence):
    launch(config)
    with pytest.raises(UserError, match=sentence):
        check_mode(lora_rank, quantization, True, **{**USUAL, **changed})


def test_one_process_may_be_spread(launch):
    launch(None, num_processes=1)
    check_mode(0, "none", True, **{**USUAL, "device_map": "auto"})


def test_a_library_that_is_not_there(launch, monkeypatch):
    launch(None)
    monkeypatch.setattr("semcore.models.quantization.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"--lora.quantization nf4 needs the library bitsandbytes; get it with: pip in"):
        check_mode(16, "nf4", True, **USUAL)
    with pytest.raises(UserError, match="--training.optim adamw_8bit needs the library bitsandbytes"):
        check_mode(0, "none", True, **{**USUAL, "optim": "adamw_8bit"})


def test_several_reports(launch, monkeypatch):
    launch(None)
    monkeypatch.setattr(option_checks, "get_available_reporting_integrations", lambda: ["wandb"])
    check_mode(0, "none", True, **{**USUAL, "report_to": "wandb, none"})
    with pytest.raises(UserError, match=r"--training.report-to mlflow is not installed.*; installed: wandb"):
        check_mode(0, "none", True, **{**USUAL, "report_to": "wandb, mlflow"})


@pytest.mark.parametrize("config", ["zero1", "zero3", "zero3_offload", "cpu_zero3_offload"])
def test_offload_is_read_from_the_launchers_file(launch, config):
    launch(config)
    assert is_offloaded() is ("offload" in config)


def test_adapters_train_the_text_model_only(launch):
    launch(None)
    with pytest.raises(UserError, match="--lora.rank trains the text model only"):
        check_mode(16, "none", False, **USUAL)


def test_settings_refuse_by_themselves():
    with pytest.raises(UserError, match="--lora.quantization nf4 .*--lora.rank"):
        LoraSettings(quantization="nf4")
    with pytest.raises(UserError, match="--lora.alpha .*1.* found 0"):
        LoraSettings(rank=4, alpha=0)
    with pytest.raises(UserError, match="flash_attention_2 takes no mask, .*; give sdpa or eager"):
        TrainingSettings(attn_implementation="flash_attention_2")
    with pytest.raises(UserError, match="--training.attention-loss .*0.*found -1"):
        VerifierTrainingSettings(attention_loss=-1.0)


def test_a_fusion_has_no_gradients_where_zero3_recomputes(launch):
    launch("zero3")
    with pytest.raises(UserError, match="--losses.fusion layers gets no gradients where ZeRO-3 recomputes activations"):
        check_losses(0, 0, "layers", 0, {"gradient_checkpointing": True})
    check_losses(0, 0, "layers", 0, {"gradient_checkpointing": False})
    check_losses(0.1, 0.1, "none", 0, {"gradient_checkpointing": True})
    launch("zero2")
    check_losses(0, 0, "layers", 0, {"gradient_checkpointing": True})
