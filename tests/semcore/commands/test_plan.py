"""`semcore plan`, typed as a user types it; no model is there."""

from __future__ import annotations

import json
import re
import shlex
from functools import partial
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
GUIDE = (ROOT / "docs" / "guides" / "flickr30k.md").read_text(encoding="utf-8")
FULL = str(ROOT / "recipes" / "configs" / "flickr30k_internvl2_5-1b_full.yaml")
UNVERIFIED = str(ROOT / "recipes" / "configs" / "flickr30k_internvl2_5-1b_full_without_verification.yaml")
EXAMPLES = re.findall(r"^```sh\n(semcore plan .*)\n```\n\n```text\n([^`]*)```", GUIDE, flags=re.MULTILINE)


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, semcore: Any) -> Any:
    """Run `semcore plan ARGUMENTS` where no model is; return exit code, output and errors."""
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    monkeypatch.chdir(tmp_path)
    return partial(semcore, "plan")


def facts(plan: Any, *arguments: str) -> list[dict[str, Any]]:
    code, out, _ = plan("--json", *arguments)
    assert code == 0
    return json.loads(out)


@pytest.mark.parametrize(("command", "told"), EXAMPLES)
def test_the_guide_shows_what_is_printed(plan: Any, command: str, told: str) -> None:
    code, out, _ = plan(*shlex.split(command)[2:])
    assert code == 0
    assert told in out


def test_the_guide_has_the_papers_machine_and_eight_h100() -> None:
    machines = [re.findall(r"--gpus (\d+) --gpu-memory (\d+)", command) for command, _ in EXAMPLES]
    assert machines == [[("2", "48")], [("8", "80")]]


def test_does_not_fit_is_an_answer(plan: Any) -> None:
    code, out, _ = plan("--config", UNVERIFIED, "--model", "InternVL2_5-1B", "--gpus", "2", "--gpu-memory", "2")
    assert code == 0
    assert out.count("does not fit") == 5
    assert "does not fit: take more GPUs, or larger ones, or train with LoRA (lora.rank: 16)\n" in out
    (only,) = facts(plan, "--config", UNVERIFIED, "--model", "InternVL2_5-1B", "--gpu-memory", "2")
    assert only["suggested"] is None
    assert not any(option["fits"] for option in only["zero"].values())


def test_a_packed_base_and_moments_in_eight_bits_are_planned(plan: Any) -> None:
    section = "{model: {base: InternVL2_5-8B}, lora: {rank: 16, quantization: nf4}, training: {optim: adamw_8bit}}"
    Path("x.yaml").write_text(f"train_identifier: {section}\n")
    code, out, _ = plan("--config", "x.yaml", "--gpus", "1", "--gpu-memory", "24")
    assert code == 0
    assert "(LoRA of rank 16 on a base in nf4, adamw_8bit)\n" in out
    assert "zero2" in out and "zero3" not in out
    (packed,) = facts(plan, "--config", "x.yaml", "--gpu-memory", "24")
    Path("x.yaml").write_text(f"train_identifier: {section.replace('nf4', 'none')}\n")
    (plain,) = facts(plan, "--config", "x.yaml", "--gpu-memory", "24")
    assert packed["zero"]["zero1"]["bytes"]["weights"] < 0.42 * plain["zero"]["zero1"]["bytes"]["weights"]
    assert packed["suggested"] is not None
    _, out, _ = plan("--config", "x.yaml", "--gpu-memory", "8")
    assert out.endswith("does not fit: take more GPUs, or larger ones, or pack the base into four bits "
                        "(lora.quantization: nf4)\nsteps: give --num-images or --data\n")  # fmt: skip


def test_both_trainings_are_planned(plan: Any) -> None:
    first, second = facts(plan, "--config", FULL, "--model", "InternVL2_5-1B", "--gpus", "2")
    assert (first["stage"], second["stage"]) == ("train_identifier", "train_verifier")
    assert first["parameters"]["total"] - second["parameters"]["total"] == 2 * 128 * 896  # a row a cluster, head untied
    assert second["row_tokens"] > 10 * 256  # ten candidates
    assert first["num_steps"] is None and first["seconds"] is None


def test_steps_and_time_follow_from_counts_and_speed(plan: Any) -> None:
    known = ("--config", FULL, "--model", "InternVL2_5-1B", "--gpus", "2", "--num-images", "29000")
    slow, _ = facts(plan, *known, "--tokens-per-second", "1000")
    fast, _ = facts(plan, *known, "--tokens-per-second", "2000")
    assert slow["num_steps"] == slow["num_rows"] * 5 // 8
    assert slow["seconds"] == 2 * fast["seconds"] > 0


def test_images_are_counted_in_a_dataset(plan: Any, tiny_dataset: Path) -> None:
    counted, _ = facts(plan, "--config", FULL, "--model", "InternVL2_5-1B", "--data", str(tiny_dataset))
    assert 0 < counted["num_rows"] < 1000


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ((), ["--config"]),
        (("--config", "no.yaml"), ["no.yaml"]),
        (("--config", FULL, "--model", "mine"), ["mine/config.json", "--model"]),
        (("--config", FULL, "--model", "nobody/nothing"), ["hf download nobody/nothing config.json"]),
        (("--config", FULL, "--gpus", "0"), ["--gpus", "1", "found 0"]),
        (("--config", FULL, "--gpu-memory", "0"), ["--gpu-memory", "found 0.0"]),
        (("--config", FULL, "--model", "InternVL2_5-1B", "--gpus", "3"), ["3 processes"]),
        (("--config", FULL, "--data", "d", "--num-images", "5"), ["--data", "--num-images"]),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(plan: Any, arguments: tuple[str, ...], parts: list[str]) -> None:
    code, out, err = plan(*arguments)
    assert (code, out) == (2, "")
    assert all(part in err for part in parts) and err.count("\n") == 1


@pytest.mark.parametrize(
    ("section", "parts"),
    [
        ("identifiers: 3", ["identifiers", "x.yaml", "3"]),
        ("identifiers: {num_clusters: many}", ["num_clusters", "'many'"]),
        ("train_identifier: {training: {batch: 8}}", ["'training.batch'", "train_identifier.training"]),
        ("train_indentifier: {}", ["'train_indentifier'", "x.yaml", "train_identifier?"]),
    ],
)
def test_a_mistake_in_the_file_is_one_sentence(plan: Any, section: str, parts: list[str]) -> None:
    Path("x.yaml").write_text(f"{section}\n")
    code, out, err = plan("--config", "x.yaml", "--model", "InternVL2_5-1B")
    assert (code, out) == (2, "")
    assert all(part in err for part in parts) and err.count("\n") == 1


def test_what_neighbouring_papers_add_is_planned(plan: Any) -> None:
    """R-Drop reads every row twice, captions ask, a set head and a fusion train, and a ranking stage follows."""
    known = ("--config", "x.yaml", "--model", "InternVL2_5-1B", "--gpus", "2", "--num-images", "1000")
    Path("x.yaml").write_text("train_identifier: {training: {batch_size: 8}}\n")
    (plain,) = facts(plan, *known)
    added = "losses: {rdrop: 0.15, dropout: 0.1, set_weight: 0.5, fusion: layers}, queries: {captions: train}"
    Path("x.yaml").write_text(f"train_identifier: {{{added}, training: {{batch_size: 8}}}}\ntrain_ranking:\n")
    first, ranking = facts(plan, *known)
    width, units, fused = 896, 128 + 8000, 3
    extra = units * (width + 1) + fused * width**2 + width + fused * (2 * width**2 + width) + 2
    assert first["parameters"]["total"] - plain["parameters"]["total"] == extra
    assert first["parameters"]["trained"] - plain["parameters"]["trained"] == extra
    assert first["num_rows"] > plain["num_rows"]
    zero2 = [own["zero"]["zero2"] for own in (plain, first)]
    bytes_a_row = [own["bytes"]["activations"] / own["micro_batch_size"] for own in zero2]
    assert bytes_a_row[1] > bytes_a_row[0]
    assert ranking["stage"] == "train_ranking"
    assert ranking["num_rows"] == 1000 * 4 + 900
    assert ranking["row_tokens"] == 40 + 20 + 256 + (5 + 10) * 10  # an image, five sentences and ten that are found
