from pathlib import Path

import pytest
import yaml

from semcore.files import read_json

ROOT = Path(__file__).resolve().parents[2]
LAUNCHERS = sorted((ROOT / "ds_configs").glob("*.yaml"))


def test_there_are_all_of_them():
    stages = ("zero1", "zero2", "zero3", "zero3_offload")
    assert [path.stem for path in LAUNCHERS] == sorted([*stages, *(f"cpu_{stage}" for stage in stages)])


@pytest.mark.parametrize("path", LAUNCHERS, ids=lambda path: path.stem)
def test_a_launcher_names_its_deepspeed_file(path):
    launcher = yaml.safe_load(path.read_text())
    assert launcher["distributed_type"] == "DEEPSPEED"
    assert "use_cpu" not in launcher, "it would replace DeepSpeed by DDP without a word"
    assert launcher["deepspeed_config"]["deepspeed_config_file"] == f"ds_configs/{path.stem}.json"
    assert launcher["num_processes"] >= 2


@pytest.mark.parametrize("path", LAUNCHERS, ids=lambda path: path.stem)
def test_a_deepspeed_file_does_what_its_name_says(path):
    config = read_json(path.with_suffix(".json"))
    zero = config["zero_optimization"]
    assert zero["stage"] == int(path.stem.removeprefix("cpu_").removeprefix("zero")[0])
    assert ("offload_optimizer" in zero) == path.stem.endswith("offload")
    assert zero["stage"] < 3 or zero["stage3_gather_16bit_weights_on_model_save"]
    # Only "auto" notices processes that each believe to be alone.
    assert config["train_batch_size"] == "auto"
