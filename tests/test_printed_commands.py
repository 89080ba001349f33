"""Every command that is printed runs as it is printed: "next:" lines, one after the other, and those of errors."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from semcore.data.run_folder import RunFolder
from semcore.evaluation.per_query import read_per_query
from semcore.evaluation.trec import read_run
from semcore.report import write_report
from semcore.runtime import typed_commands
from semcore.runtime.errors import UserError
from semcore.runtime.files import read_json
from semcore.runtime.packaged_files import asset_folder
from semcore.runtime.typed_commands import evaluate_anew, launch_command
from semcore.verification.score_fusion import read_fusion_settings
from tests.collection import LAUNCHES
from tests.printed_commands import commands_of, execute, lines_in

ROOT = Path(__file__).resolve().parent.parent
TRAINING = {"max_steps": 2, "batch_size": 4, "gradient_checkpointing": False}
CONFIG = {
    "caption": {"keep_features": False},
    "identifiers": {"num_clusters": 2, "num_cluster_words": 1},
    "train_identifier": {"training": TRAINING, "row_tokens": 96},
    "candidates": {"num_candidates": 3, "num_beams": 4, "limit": 4},
    "train_verifier": {"training": TRAINING},
    "evaluate": {
        "num_beams": 4, "num_candidates": 3, "limit": 4, "num_val_queries": 2, "num_order_queries": 0,
        "ablations": False,
    },
}  # fmt: skip
BASE = asset_folder("scenes_base")
STAGES = ["caption", "identifiers", "train_identifier", "candidates", "train_verifier", "evaluate"]
Type = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A place whose name, like those of the dataset, the run and the configuration, a shell would take apart."""
    folder = tmp_path_factory.mktemp("a user's place")
    (folder / "tiny settings.yaml").write_text(yaml.safe_dump(CONFIG))
    return folder


@pytest.fixture
def type_in(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Type:
    """Run the commands of a line in the place, in this process, and return the exit code and what was printed."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr("semcore.identifiers.sentence_encoder.load_encoder", lambda name, device: _count_letters)

    def run(line: str, *more: str, **values: object) -> tuple[int, str]:
        code = 0
        for words in commands_of(line, **values):
            code = code or execute([*words, *(more if words[0] != "rm" else ())], monkeypatch)
        output = capsys.readouterr()
        return code, output.out + output.err

    return run


def _count_letters(texts: list[str]) -> np.ndarray:
    return np.array([[text.count(letter) for letter in "abcdefghijklmnopqrstuvwxyz"] for text in texts], np.float32)


def finished(run: Path) -> list[str]:
    return [name for name, entry in read_json(run / "manifest.json")["stages"].items() if entry["finished"]]


@pytest.fixture(scope="module")
def first_line() -> str:
    return "python -m data_prep.make_scenes --out 'data set' --train 12 --val 4 --test 6"


@pytest.fixture
def measured(type_in: Type, folder: Path, first_line: str) -> Path:
    """The run that one "next:" line after the other leads to; made once, and measured anew where a test breaks it.

    What is filled in is what is printed in capitals; the configuration that was given once is carried along.
    """
    run = folder / "a run"
    line = "" if run.exists() else first_line
    while line:
        more = ["--config", "tiny settings.yaml"] if "data_prep.caption" in line else []
        code, printed = type_in(line, *more, RUN="a run", CHECKPOINT=BASE, DATA="data set")
        assert code == 0, printed
        line = next(iter(lines_in(printed)), "")
    return run


def test_one_next_line_after_the_other_leads_to_a_measured_run(measured: Path) -> None:
    assert finished(measured) == STAGES
    settings = read_json(measured / "manifest.json")["stages"]["train_identifier"]["settings"]
    assert settings["model"]["base"] == str(BASE)


def test_the_verifier_in_blocks_is_followed_by_its_own_evaluation(type_in: Type, folder: Path, measured: Path) -> None:
    run = shutil.copytree(measured, folder / "another run")
    for name in ("verifier_model", "t2i", "i2t"):
        shutil.rmtree(run / name)
    (run / "metrics.json").unlink()
    line = launch_command("train_verifier.py", "--attention", "blocks", "--run", run, "--config", "tiny settings.yaml")
    code, printed = type_in(line)
    assert code == 0, printed
    (line,) = lines_in(printed)
    code, printed = type_in(line)
    assert code == 0, printed
    assert read_json(run / "metrics.json")["verifier"] == "blocks"


def test_what_the_errors_say_leads_there_too(type_in: Type, folder: Path, measured: Path) -> None:
    """From nothing: each refusal names the command that makes what is missing."""
    values = {"RUN": "third run", "CHECKPOINT": BASE, "DATA": "data set"}
    config, wanted = ["--config", "tiny settings.yaml"], ["semcore evaluate --run 'third run'"]
    typed = []
    while wanted:
        code, printed = type_in(wanted[-1], *config, **values)
        typed.append(wanted[-1])
        if code == 0:
            wanted.pop()
        else:
            assert code == 2, printed
            wanted += lines_in(printed)[:1]
            assert len(typed) < 30, typed
    assert finished(folder / "third run") == STAGES
    assert {line.split()[0] for line in typed} == {"semcore", "python", "accelerate"}


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("verification.json", read_fusion_settings), ("t2i/run.generated.trec", read_run),
        ("i2t/per_query.jsonl", read_per_query), ("metrics.json", lambda path: write_report(path.parent)),
    ],
)  # fmt: skip
def test_files_of_an_evaluation_that_are_broken_are_written_anew(
    type_in: Type, measured: Path, name: str, read: Callable[[Path], object]
) -> None:
    path = measured / name
    path.write_text("{}" if name.endswith(".json") else '{"query_id": "q"}\n')
    with pytest.raises(UserError) as error:
        read(path)
    (line,) = lines_in(str(error.value))
    code, printed = type_in(line)
    assert code == 0, printed
    assert read(path) is not None or name == "metrics.json"


def test_captions_from_elsewhere_ask_for_the_model_to_start_from(type_in: Type, folder: Path, measured: Path) -> None:
    """Brought in, or written by a server; the printed line has a place for it."""
    run = folder / "brought run"
    run.mkdir()
    shutil.copy(measured / "captions.jsonl", run / "captions.jsonl")
    where = "--data 'data set' --run 'brought run'"
    code, printed = type_in(f"python -m data_prep.identifiers --num-clusters 2 --num-cluster-words 1 {where}")
    assert code == 0, printed
    (line,) = lines_in(printed)
    assert "--model.base CHECKPOINT" in line
    code, printed = type_in(line.replace("--model.base CHECKPOINT", ""), "--check")
    assert (code, printed.count("\n")) == (2, 1)
    assert "--model.base" in printed and "captions.jsonl" in printed
    code, printed = type_in(line, "--check", "--row-tokens", "96", CHECKPOINT=BASE)
    assert code == 0, printed
    RunFolder(run).open_stage("caption", {"model": "a-name", "served": True}, {}, folder / "data set").finish()
    code, printed = type_in(line.replace("--model.base CHECKPOINT", ""), "--check")
    assert code == 2 and "--model.base" in printed


def test_a_configuration_that_names_the_base_needs_no_other(type_in: Type, folder: Path, measured: Path) -> None:
    config = {**CONFIG, "train_identifier": {"model": {"base": str(BASE)}}}
    (folder / "base.yaml").write_text(yaml.safe_dump(config))
    (folder / "configured run").mkdir()
    shutil.copy(measured / "captions.jsonl", folder / "configured run" / "captions.jsonl")
    where = "--data 'data set' --run 'configured run'"
    code, printed = type_in(f"python -m data_prep.identifiers --config base.yaml {where}")
    assert code == 0, printed
    (line,) = lines_in(printed)
    assert "CHECKPOINT" not in line
    code, printed = type_in(line, "--check", "--row-tokens", "96")
    assert code == 0, printed


def test_few_captions_are_given_few_clusters(type_in: Type, measured: Path) -> None:
    where = "--data 'data set' --run 'small run'"
    code, printed = type_in(f"python -m data_prep.caption {where} --model {asset_folder('scenes_base')}")
    assert code == 0, printed
    (line,) = lines_in(printed)
    assert "--num-clusters 1 " in line
    code, printed = type_in(line)
    assert code == 0, printed


def test_the_launcher_is_one_that_this_machine_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(typed_commands, "_num_gpus", lambda: 0)
    assert "--config_file ds_configs/cpu_zero2.yaml recipes/train_verifier.py" in launch_command("train_verifier.py")
    monkeypatch.setattr(typed_commands, "_num_gpus", lambda: 3)
    line = launch_command("train_verifier.py", "--run", Path("my run"))
    assert line == (
        "accelerate launch --config_file ds_configs/zero1.yaml --num_processes 3 recipes/train_verifier.py "
        "--run 'my run'"
    )


def test_without_recipes_here_the_package_gives_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The DeepSpeed file that the launcher's configuration names is then named by its whole path."""
    monkeypatch.chdir(tmp_path)
    ((*words,),) = commands_of(launch_command("train_identifier.py", "--run", "RUN"))
    files = [Path(word) for word in words if word.endswith((".yaml", ".json", ".py"))]
    assert [path.suffix for path in files] == [".yaml", ".json", ".py"]
    assert all(path.is_absolute() and path.is_file() for path in files)
    assert "--deepspeed_config_file" in words


def test_a_run_that_was_not_measured_needs_nothing_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert evaluate_anew(tmp_path / "my run") == "semcore evaluate --run 'my run'"
    (tmp_path / "my run").mkdir()
    for name in ("config.yaml", "metrics.json"):
        (tmp_path / "my run" / name).touch()
    assert evaluate_anew(tmp_path / "my run") == (
        "rm 'my run/metrics.json' && semcore evaluate --config 'my run/config.yaml' --run 'my run'"
    )


@pytest.mark.slow
@pytest.mark.xdist_group(LAUNCHES)
def test_next_lines_run_in_a_shell(tmp_path: Path, first_line: str) -> None:
    """Each a process of its own, trainings on two under the launcher, far from the source tree."""
    place = tmp_path / "a user's place"
    place.mkdir()
    (place / "tiny settings.yaml").write_text(yaml.safe_dump(CONFIG))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    environment |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    line, typed = first_line, []
    while line:
        if "data_prep.caption" in line:
            line = line.replace("RUN", "'a run'").replace("CHECKPOINT", str(BASE))
            line += " --config 'tiny settings.yaml'"
        done = subprocess.run(
            line, shell=True, cwd=place, env=environment, capture_output=True, text=True, timeout=900, check=False
        )
        assert done.returncode == 0, f"{line}\n{done.stderr[-3000:]}"
        typed.append(line)
        line = next(iter(lines_in(done.stdout)), "")
    assert json.loads((place / "a run" / "metrics.json").read_text())["t2i"]["verified"]
    assert sum(line.startswith("accelerate launch --config_file ") for line in typed) == 2
