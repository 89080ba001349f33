import os
import subprocess
from pathlib import Path

import pytest
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import DistributedType
from accelerate.utils.launch import prepare_deepspeed_cmd_env

from semcore.runtime.files import read_json

ROOT = Path(__file__).resolve().parents[2]
LAUNCHERS = sorted((ROOT / "ds_configs").glob("*.yaml"))
NUM_PROCESSES = {"zero1_1gpu": 1, "zero1_2gpus": 2, "zero1_16gpus": 16, "zero1_2nodes": 16, "zero3_2nodes": 16}


def stage_of(path):
    """Return the name without the machine: zero1_2gpus is ZeRO-1."""
    return path.stem.split("_")[0] if path.stem in NUM_PROCESSES else path.stem


def test_there_are_all_of_them():
    stages = ("zero1", "zero2", "zero3", "zero3_offload")
    others = ["zero1_1gpu", "zero1_2gpus", "zero1_16gpus", "zero1_2nodes", "zero3_2nodes"]
    assert [path.stem for path in LAUNCHERS] == sorted([*stages, *(f"cpu_{stage}" for stage in stages), *others])


@pytest.mark.parametrize("path", LAUNCHERS, ids=lambda path: path.stem)
def test_a_launcher_names_its_deepspeed_file(path):
    launcher = yaml.safe_load(path.read_text())
    assert launcher["distributed_type"] == "DEEPSPEED"
    assert "use_cpu" not in launcher, "it would replace DeepSpeed by DDP without a word"
    assert launcher["deepspeed_config"]["deepspeed_config_file"] == f"ds_configs/{stage_of(path)}.json"
    assert launcher["num_processes"] == NUM_PROCESSES.get(path.stem, 2 if path.stem.startswith("cpu") else 8)


@pytest.fixture(autouse=True)
def free_ports(monkeypatch):
    """Nothing is launched here, so whoever else uses the port does not matter."""
    monkeypatch.setattr("accelerate.utils.launch.is_port_in_use", lambda port: False)


def accelerate_reads(*words):
    """Return what accelerate's own launcher makes of a command line, as far as the processes that it would start."""
    arguments = launch_command_parser().parse_args([*map(str, words), "recipes/train_identifier.py", "--run", "RUN"])
    arguments, launcher, _ = _validate_launch_command(arguments)
    arguments.deepspeed_fields_from_accelerate_config = ",".join(launcher.deepspeed_config)  # as launch_command does
    command, environment = prepare_deepspeed_cmd_env(arguments)
    return arguments, command, environment


@pytest.mark.parametrize("path", LAUNCHERS, ids=lambda path: path.stem)
def test_accelerate_reads_a_launcher(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    launcher = load_config_from_file(str(path))
    assert launcher.distributed_type == DistributedType.DEEPSPEED
    host = ["--main_process_ip", "127.0.0.1"] if launcher.num_machines > 1 else []
    arguments, command, environment = accelerate_reads("--config_file", path, *host)
    assert arguments.use_deepspeed and command is None  # no hostfile, no pdsh
    assert int(arguments.nproc_per_node) == launcher.num_processes // launcher.num_machines <= 16
    assert environment["ACCELERATE_USE_DEEPSPEED"] == "true"
    assert Path(environment["ACCELERATE_DEEPSPEED_CONFIG_FILE"]).is_file()


@pytest.mark.parametrize("rank", [0, 1, 3])
def test_several_machines_know_each_other(rank, monkeypatch):
    monkeypatch.chdir(ROOT)
    more = ["--num_machines", 4, "--num_processes", 32, "--machine_rank", rank, "--main_process_ip", "10.0.0.7"]
    arguments, command, _ = accelerate_reads("--config_file", "ds_configs/zero3_2nodes.yaml", *more)
    assert command is None
    assert (arguments.nnodes, arguments.nproc_per_node, arguments.node_rank) == ("4", "8", rank)
    assert (arguments.rdzv_backend, arguments.rdzv_endpoint) == ("static", "10.0.0.7:29500")


def test_slurm_starts_one_launcher_a_machine(tmp_path):
    """Run the script with a `srun` that starts its command once a machine, and look what accelerate is told."""
    programs = {
        "scontrol": "echo first; echo second",
        "srun": 'for n in 0 1; do SLURM_NODEID=$n "$@"; done',
        "accelerate": 'echo "$@"',
    }
    for name, text in programs.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / name).chmod(0o755)
    slurm = {"SLURM_JOB_NODELIST": "x", "SLURM_NNODES": "2", "SLURM_GPUS_ON_NODE": "4", "SLURM_JOB_ID": "10123"}
    words = ["recipes/train_identifier.py", "--run", "a run"]
    lines = subprocess.run(
        ["bash", "ds_configs/slurm.sbatch", *words], cwd=ROOT, capture_output=True, text=True, check=True,
        env={**os.environ, **slurm, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
    ).stdout.splitlines()  # fmt: skip
    assert lines == [
        f"launch --config_file ds_configs/zero1_2nodes.yaml --num_machines 2 --num_processes 8 --machine_rank {rank} "
        "--main_process_ip first --main_process_port 20123 recipes/train_identifier.py --run a run"
        for rank in (0, 1)
    ]


@pytest.mark.parametrize("path", sorted((ROOT / "ds_configs").glob("*.json")), ids=lambda path: path.stem)
def test_a_deepspeed_file_does_what_its_name_says(path):
    config = read_json(path)
    zero = config["zero_optimization"]
    assert zero["stage"] == int(path.stem.removeprefix("cpu_").removeprefix("zero")[0])
    assert ("offload_optimizer" in zero) == path.stem.endswith("offload")
    assert zero["stage"] < 3 or zero["stage3_gather_16bit_weights_on_model_save"]
    # Only "auto" notices processes that each believe to be alone.
    assert config["train_batch_size"] == "auto"
