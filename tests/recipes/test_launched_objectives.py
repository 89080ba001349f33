"""Trainings with all that neighbouring papers add, in two real processes under ZeRO-2 and ZeRO-3.

Resumed ones end like uninterrupted ones. Set head, R-Drop with dropout, layer fusion, captions and images of all splits
as queries: all in one training.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from semcore.data.dataset import load_dataset
from semcore.models.checkpoint import load_checkpoint
from semcore.models.extra_modules import WEIGHTS
from semcore.models.layer_fusion import find_layer_fusion
from semcore.models.set_head import find_set_head
from semcore.runtime.files import read_json, write_jsonl
from tests.recipes.conftest import ACCELERATE, STEPS, STOP_AT, Launched, execute, new_run
from tests.recipes.test_training_recipes import run_recipe

pytestmark = pytest.mark.slow

ALL = (
    "--losses.set-weight", "0.5", "--losses.rdrop", "0.15", "--losses.dropout", "0.1", "--losses.fusion", "layers",
    "--losses.temperature", "0.5", "--queries.captions", "all", "--queries.images", "all",
)  # fmt: skip
LORA = ("--lora.rank", "4", "--training.learning-rate", "2e-2")
MODES = {
    "ZeRO-2": ("cpu_zero2", ALL),
    "ZeRO-3": ("cpu_zero3", ALL),
    "LoRA, ZeRO-3": ("cpu_zero3", (*ALL, *LORA)),
}


@pytest.fixture(scope="module")
def whole(launch, data, tmp_path_factory) -> Callable[[str], Launched]:
    """One uninterrupted training a mode."""

    def run(mode: str) -> Launched:
        config, options = MODES[mode]
        folder = new_run(tmp_path_factory.mktemp("objectives") / "run", data)
        captions = [{"image_id": r.image_id, "caption": f"a scene, {r.image_id}"} for r in load_dataset(data).images]
        write_jsonl(folder / "captions.jsonl", captions)
        return launch(config, *options, go_on=Launched(folder, []))

    return cache(run)


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    folder = run / "identifier_model"
    files = [path for path in folder.iterdir() if path.suffix == ".safetensors"]
    assert len(files) == 2  # the checkpoint or the adapter, and the extra modules
    return {name: weight for path in files for name, weight in load_file(path).items()}


@pytest.mark.parametrize("mode", MODES)
def test_extra_modules_are_trained_and_saved_by_two_processes(whole, mode):
    run, reports = whole(mode)
    assert [report["world_size"] for report in reports] == [2, 2]
    losses = reports[0]["losses"]
    assert len(losses) == STEPS and losses == reports[1]["losses"]
    assert losses[-1] < 0.95 * losses[0]
    entry = read_json(run / "manifest.json")["stages"]["train_identifier"]
    assert "warnings" not in entry  # what is frozen stayed, what trains moved
    model = load_checkpoint(run / "identifier_model").model
    head, fusion = find_set_head(model), find_layer_fusion(model)
    assert head is not None and {"<|cluster_0|>", "circle"} <= set(head.units)
    assert head.linear.bias.abs().min() > 0
    assert fusion is not None and fusion.scales.abs().min() > 0


@pytest.mark.parametrize("mode", ["ZeRO-2", "ZeRO-3"])  # with LoRA: in one process, tests/semcore/training
def test_a_training_that_goes_on_ends_like_a_whole_one(launch, whole, mode):
    config, options = MODES[mode]
    resumed = launch(config, *options, go_on=whole(mode).as_killed())
    assert len(resumed.reports[0]["seen"]) == STEPS - STOP_AT
    assert resumed.reports[0]["losses"] == pytest.approx(whole(mode).reports[0]["losses"], abs=1e-4)
    expected = weights_of(whole(mode).run)
    found = weights_of(resumed.run)
    assert found.keys() == expected.keys() and (resumed.run / "identifier_model" / WEIGHTS).exists()
    for name, weight in found.items():
        torch.testing.assert_close(weight, expected[name], atol=1e-4, rtol=1e-3, msg=name)


RANKING = (
    "--ranking.rounds", "2", "--ranking.num-beams", "4", "--training.learning-rate", "3e-3",
    "--training.max-steps", "8", "--training.num-epochs", "60", "--training.batch-size", "4",
    "--training.micro-batch-size", "2", "--training.gradient-checkpointing", "false", "--training.bf16", "no",
    "--training.save-steps", "4",
)  # fmt: skip


@pytest.mark.parametrize("config", ["cpu_zero2", "cpu_zero3"])
def test_two_rounds_of_ranking_go_on_like_uninterrupted_ones(data, tiny_checkpoint_folder, tmp_path, config):
    """Another search with a whole model, and another training, in processes that have trained already."""
    run = new_run(tmp_path / "run", data)
    where = ("--data", data, "--run", run, "--training.max-steps", 1, "--training.batch-size", 4)
    run_recipe("train_identifier", "--model.base", tiny_checkpoint_folder, "--losses.fusion", "layers", *where)
    kept = run.with_name("run-kept")
    for number, own in enumerate((run, kept)):
        launcher = (*ACCELERATE, "--config_file", f"ds_configs/{config}.yaml")
        probe = ("tests/recipes/probe.py", str(own / f"reports{number}"), "-4", "recipes/train_ranking.py")
        code, output = execute([*launcher, *probe, "--data", str(data), "--run", str(own), *RANKING])
        assert code == 0, output
    first, second = (read_json(own / f"reports{number}" / "0.json") for number, own in enumerate((run, kept)))
    assert (first["world_size"], len(first["seen"]), len(second["seen"])) == (2, 8, 4)
    assert second["losses"] == pytest.approx(first["losses"], abs=1e-4)
    for name in ("round-1", "round-2"):
        texts = [(own / "ranking" / name / "t2i.jsonl").read_text() for own in (run, kept)]
        assert texts[0] == texts[1]
    for name in ("model.safetensors", WEIGHTS):
        expected = load_file(run / "ranked_model" / name)
        for key, weight in load_file(kept / "ranked_model" / name).items():
            torch.testing.assert_close(weight, expected[key], atol=1e-4, rtol=1e-3, msg=key)
