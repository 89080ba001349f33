from __future__ import annotations

import io
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from semcore.commands import quickstart
from semcore.commands.env import Missing
from semcore.commands.quickstart import QuickstartSettings, environment_of, main, plan, show_summary
from semcore.data.directions import Direction
from semcore.data.run_folder import RunFolder
from semcore.runtime.errors import UserError
from semcore.runtime.subprocesses import Step
from tests.collection import LAUNCHES

ROOT = Path(__file__).resolve().parents[3]
SCORES = {"R@1": 51.2, "R@5": 70.3, "R@10": 81.4, "rSum": 202.9, "MRR@10": 0.605}


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an empty config, a launcher of two processes and the DeepSpeed file it names; we are in it."""
    (tmp_path / "recipes" / "configs").mkdir(parents=True)
    (tmp_path / "recipes" / "configs" / "scenes.yaml").write_text("caption:\n")
    (tmp_path / "ds_configs").mkdir()
    launcher = {"num_processes": 2, "deepspeed_config": {"deepspeed_config_file": "ds_configs/cpu_zero2.json"}}
    (tmp_path / "ds_configs" / "cpu_zero2.yaml").write_text(yaml.safe_dump(launcher))
    (tmp_path / "ds_configs" / "cpu_zero2.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(quickstart, "missing_for_quickstart", list)
    return tmp_path


@pytest.fixture
def write_results(tiny_dataset: Path) -> Any:
    """Put what the stages leave into a run folder."""

    def write(run: Path) -> None:
        run.mkdir(exist_ok=True)
        (run / "data").symlink_to(tiny_dataset)
        better, worse = {**SCORES, "R@1": 64.9}, {**SCORES, "R@1": 60.1}
        metrics = {
            **{direction: {"generated": SCORES, "verified": better} for direction in ("t2i", "i2t")},
            "ceiling": {"t2i": {"R@1": 85.1}},
            "num_beams": 20,
            "verifier": "likelihood",
            "verifiers": {
                name: {"t2i": own, "i2t": own} for name, own in (("listwise", worse), ("likelihood", better))
            },
        }
        (run / "metrics.json").write_text(json.dumps(metrics))
        stage = {"seconds": 61.4, "peak_memory_bytes": 1_900_000_000, "num_processes": 2, "engine": "deepspeed"}
        training = {**stage, "zero_stage": 2, "steps": 300, "loss_first": 2.5, "loss_last": 0.75}
        (run / "manifest.json").write_text(json.dumps({"stages": {"caption": stage, "train_identifier": training}}))

    return write


def python(code: str) -> Step:
    return Step("a step", ["python", "-c", code])


def run_steps(monkeypatch: pytest.MonkeyPatch, out: Path, *steps: Step) -> int:
    monkeypatch.setattr(quickstart, "plan", lambda settings: list(steps))
    with pytest.raises(SystemExit) as left:
        main(QuickstartSettings(out))
    return int(left.value.code or 0)


def test_the_commands_are_those_a_user_types(workplace: Path) -> None:
    where = "--config recipes/configs/scenes.yaml --data out/data --run out"
    launch = "accelerate launch --config_file ds_configs/cpu_zero2.yaml"
    base = quickstart.asset_folder("scenes_base")
    assert [shlex.join(step.command) for step in plan(QuickstartSettings(Path("out"), seed=3, test=400))] == [
        "python -m data_prep.make_scenes --out out/data --train=2000 --val=200 --test=400 --seed 3",
        f"python -m data_prep.caption {where} --model {base}",
        f"python -m data_prep.identifiers {where} --seed 3",
        f"{launch} recipes/train_identifier.py {where} --model.base {base} --training.seed 3",
        f"python -m data_prep.candidates {where} --seed 3",
        f"{launch} recipes/train_verifier.py {where} --training.seed 3",
        f"{launch} recipes/evaluate.py {where}",
    ]


def test_one_direction_is_asked_for_where_it_is_trained(workplace: Path, write_results: Any) -> None:
    """Later stages follow the identifier model."""
    words = [step.command for step in plan(QuickstartSettings(Path("out"), directions=["t2i"]))]
    assert [number for number, own in enumerate(words) if "--directions" in own] == [3]
    assert words[3][-2:] == ["--directions", "[t2i]"]
    write_results(workplace / "run")
    metrics = json.loads((workplace / "run" / "metrics.json").read_text())
    for own in (metrics, *metrics["verifiers"].values()):
        own.pop("i2t")
    (workplace / "run" / "metrics.json").write_text(json.dumps(metrics))
    console = Console(record=True, width=200)
    show_summary(QuickstartSettings(workplace / "run"), console)
    printed = console.export_text()
    assert "text → image, generated" in printed and "image → text" not in printed


def test_elsewhere_the_package_gives_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = QuickstartSettings(Path("out"))
    command = plan(settings)[3].command
    paths = [Path(word) for word in command if word.endswith((".yaml", ".json", ".py"))]
    assert [path.name for path in paths] == ["cpu_zero2.yaml", "cpu_zero2.json", "train_identifier.py", "scenes.yaml"]
    assert all(path.is_absolute() and path.is_file() for path in paths)


def test_two_processes_share_the_cores(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(quickstart.os, "sched_getaffinity", lambda _: range(8))
    settings = QuickstartSettings(Path("out"))
    alone, launched = plan(settings)[1], plan(settings)[3]
    assert environment_of(launched, settings)["OMP_NUM_THREADS"] == "4"
    assert "OMP_NUM_THREADS" not in environment_of(alone, settings)
    assert environment_of(alone, settings)["HF_HUB_OFFLINE"] == "1"


def test_steps_run_in_order_and_are_shown(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], write_results: Any
) -> None:
    write_results(workplace / "out")
    monkeypatch.setattr(quickstart, "plan", lambda settings: [python("print('one')"), python("print('two')")])
    main(QuickstartSettings(Path("out")))
    out = capfd.readouterr().out
    order = ["1/2 a step", "$ python -c 'print('\"'\"'one", "\none\n", "2/2 a step", "\ntwo\n", "done in"]
    assert [text for text in order if text not in out] == []
    assert [out.index(text) for text in order] == sorted(out.index(text) for text in order)


def test_the_users_mistake_passes_through(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    never = python("import pathlib; pathlib.Path('never').touch()")
    code = "import sys; print('error: a sentence', file=sys.stderr); sys.exit(2)"
    assert run_steps(monkeypatch, Path("out"), python(code), never) == 2
    out, err = capfd.readouterr()
    assert err == "error: a sentence\n"
    assert "goes on" not in out
    assert not Path("never").exists()


def test_a_step_that_breaks_ends_the_quickstart(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run_steps(monkeypatch, Path("out"), python("raise SystemExit(1)")) == 1
    assert "a step: ended with exit code 1. The same quickstart command goes on" in " ".join(
        capfd.readouterr().out.split()
    )
    assert run_steps(monkeypatch, Path("out"), python("import os; os.kill(os.getpid(), 9)")) == 137
    assert "was stopped by SIGKILL" in capfd.readouterr().out


def test_a_second_quickstart_on_the_same_folder_is_refused(workplace: Path) -> None:
    with (
        RunFolder(workplace / "out").lock("quickstart"),
        pytest.raises(UserError, match=f"process {os.getpid()} is working on out; wait"),
    ):
        main(QuickstartSettings(Path("out")))


def test_too_little_space_is_said_before_anything_starts(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Usage = namedtuple("Usage", "total used free")
    monkeypatch.setattr(quickstart.shutil, "disk_usage", lambda path: Usage(0, 0, 10**8))
    with pytest.raises(UserError, match=r"the disk of out has 0\.1 GB free, and the quickstart needs 2\.1 GB; free"):
        main(QuickstartSettings(Path("out")))


def test_a_place_that_cannot_be_written_is_said(workplace: Path) -> None:
    (workplace / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        main(QuickstartSettings(workplace / "file"))


def test_a_missing_part_is_said(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part = Missing("accelerate", "the quickstart", "pip install accelerate")
    monkeypatch.setattr(quickstart, "missing_for_quickstart", lambda: [part])
    with pytest.raises(UserError) as caught:
        main(QuickstartSettings(Path("out")))
    assert str(caught.value) == (
        "accelerate is missing, which the quickstart needs; get it with: pip install accelerate"
    )


def test_a_config_that_is_not_there_is_said(workplace: Path) -> None:
    with pytest.raises(UserError, match=r"there is no file mine\.yaml"):
        main(QuickstartSettings(Path("out"), config=Path("mine.yaml")))
    assert not Path("out").exists()


def test_the_summary_shows_scores_costs_and_three_next_commands(workplace: Path, write_results: Any) -> None:
    write_results(workplace / "out")
    console = Console(file=io.StringIO(), width=140, highlight=False)
    show_summary(QuickstartSettings(Path("out")), console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    for row in (
        ("text → image, generated", "51.2", "70.3", "81.4", "202.9"),
        ("text → image, verified (listwise) ", "60.1", "70.3"),
        ("image → text, verified (likelihood) *", "64.9", "70.3"),
        ("text → image, ceiling", "85.1"),
        ("train_identifier", "61", "1.9 GB", "2", "deepspeed, ZeRO-2", "2.500 → 0.750 in 300 steps"),
    ):
        assert any(all(cell in line for cell in row) for line in text.splitlines()), row
    assert "semcore search --run out 'a " in text
    assert "out/report.html" in text
    assert "python -m data_prep.from_imagefolder" in text


STAGES = {"caption", "identifiers", "train_identifier", "candidates", "train_verifier", "evaluate"}


@pytest.mark.slow
@pytest.mark.xdist_group(LAUNCHES)
def test_the_whole_quickstart_survives_a_kill_and_finds_what_it_should(tmp_path: Path) -> None:
    """On a tenth of the scenes: killed within the first training it goes on, and a third time nothing is left to do.

    Settings are those shipped, but for fewer candidates to learn from and fewer queries in the analyses. Given up are
    the figures of 2,000 scenes, a quarter of an hour: `python -m benchmarks.quickstart` measures them and
    benchmarks/results/quickstart.json records them. Held here is that the right item is among ten far more often than
    by chance, and that verification brings it to the front.
    """
    config = yaml.safe_load((ROOT / "recipes" / "configs" / "scenes.yaml").read_text())
    config["train_identifier"]["training"]["save_steps"] = 40
    config["candidates"]["limit"] = 100
    fewer = ("num_ablation_queries", "num_no_match_queries", "num_retention_queries", "num_exhaustive_queries")
    config["evaluate"] |= {**dict.fromkeys(fewer, 20), "num_exhaustive_queries": 3}
    (tmp_path / "fewer.yaml").write_text(yaml.safe_dump(config))
    run = tmp_path / "run"
    command = [sys.executable, "-m", "semcore.commands.cli", "quickstart", "--out", "run"]
    command += ["--train=200", "--val=30", "--test=60", "--config", "fewer.yaml"]
    places = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    environment = {**os.environ, "PYTHONPATH": places}

    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None and not any(run.glob("identifier_model/checkpoints/checkpoint-*/complete.json")):
            time.sleep(0.1)
        process.send_signal(signal.SIGKILL)
    assert finished_stages(run) == {"caption", "identifiers"}
    wait_until_free(run)

    again = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr[-4000:]
    assert finished_stages(run) == STAGES
    manifest = json.loads((run / "manifest.json").read_text())
    for stage in ("train_identifier", "train_verifier"):
        entry = manifest["stages"][stage]
        assert (entry["engine"], entry["zero_stage"], entry["num_processes"]) == ("deepspeed", 2, 2)
    assert "Three things to try next" in again.stdout
    metrics = (run / "metrics.json").read_text()
    check_scores(json.loads(metrics))

    third = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert third.returncode == 0, third.stderr[-4000:]
    assert json.loads((run / "manifest.json").read_text())["stages"] == manifest["stages"]
    assert (run / "metrics.json").read_text() == metrics


def check_scores(metrics: dict[str, Any]) -> None:
    """Hold what a small quickstart finds among 60 images and their 300 sentences; chance finds one in six among ten.

    A hundred scenes gave 97 and 100 percent among ten; likelihood then lifted the first place by 21 and 10 points,
    where all 2,000 give 13 and 6.
    """
    for direction, least in ((Direction.T2I, 5), (Direction.I2T, -8)):  # 300 queries and 60
        generated, verified = metrics[direction]["generated"], metrics["verifiers"]["likelihood"][direction]
        assert generated["R@10"] > 70
        assert verified["R@1"] > generated["R@1"] + least
        [probed] = [own for own in metrics["order_bias"][direction] if own["model"] == "trained"]
        assert probed["rows"][0]["accuracy"] > 30, "letters are picked at chance: 10"
    assert metrics["t2i"]["verified"]["R@1"] > metrics["t2i"]["generated"]["R@1"] + 5


def wait_until_free(run: Path) -> None:
    """Wait until the processes of a killed command, which are told to end, have let go of the run."""
    end = time.monotonic() + 120
    while True:
        try:
            with RunFolder(run).lock():
                return
        except UserError:
            assert time.monotonic() < end, "a killed command goes on"
            time.sleep(0.2)


def finished_stages(run: Path) -> set[str]:
    path = run / "manifest.json"
    stages = json.loads(path.read_text())["stages"] if path.exists() else {}
    return {name for name, entry in stages.items() if entry.get("finished")}
