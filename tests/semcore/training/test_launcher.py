import pytest

from semcore.runtime.errors import UserError
from semcore.runtime.settings import option
from semcore.training.launcher import CONFIG_VARIABLE, computes_bf16, engine_facts, find_deepspeed_config, zero_stage
from semcore.training.settings import LoraSettings, TrainingSettings


def test_without_a_launcher(monkeypatch):
    monkeypatch.delenv("ACCELERATE_USE_DEEPSPEED", raising=False)
    monkeypatch.setenv(CONFIG_VARIABLE, "ds_configs/zero3.json")  # left over from elsewhere
    assert zero_stage() is None
    assert engine_facts() == {"engine": "none", "num_processes": 1}


def test_two_processes_without_deepspeed(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert engine_facts() == {"engine": "ddp", "num_processes": 2}


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_the_stage_is_read_from_the_file_the_launcher_named(monkeypatch, tmp_path, stage):
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv(CONFIG_VARIABLE, f"ds_configs/cpu_zero{stage}.json")
    monkeypatch.chdir(tmp_path)  # the name is relative to another folder
    find_deepspeed_config()
    assert engine_facts() == {"engine": "deepspeed", "zero_stage": stage, "num_processes": 2}


def test_a_missing_deepspeed_file_is_named(monkeypatch):
    monkeypatch.setenv(CONFIG_VARIABLE, "elsewhere/nothing.json")
    with pytest.raises(
        UserError, match="there is no DeepSpeed configuration elsewhere/nothing.json; `semcore init DIR`"
    ):
        find_deepspeed_config()


def test_half_precision_on_request():
    assert computes_bf16("yes")
    assert not computes_bf16("no")


@pytest.mark.parametrize(
    ("wrong", "least"),
    [
        ({"batch_size": 0}, "1"), ({"max_steps": -1}, "1"), ({"learning_rate": 0.0}, "0"),
        ({"learning_rate": float("nan")}, "0"), ({"warmup_ratio": 1.0}, "0 to below 1"), ({"weight_decay": -0.1}, "0"),
        ({"seed": -1}, "0 to 4294967295"),
    ],
)  # fmt: skip
def test_settings_out_of_range(wrong, least):
    ((name, value),) = wrong.items()
    with pytest.raises(UserError, match=f"^{option(f'training.{name}')} .* {least}.* found {value}$"):
        TrainingSettings(**wrong)


def test_lora_settings_out_of_range():
    with pytest.raises(UserError, match="--lora.rank .*0.* found -1"):
        LoraSettings(rank=-1)
    with pytest.raises(UserError, match="--lora.dropout .*0 .*1.* found 2"):
        LoraSettings(dropout=2)
