"""The script of the GPU rows: what it measures, that it goes on after a kill, and its rehearsal on a CPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.roofline import Decoder, Roofline, least_search_s

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("generation-text", "generation-image", "constraint", "verification", "training")
STUB = """#!/bin/bash
echo "$@" >> {log}
[ "$4" = benchmarks.{broken} ] && exit 3
while [ "$1" != --json ]; do shift; done
echo "{{}}" > "$2"
"""


def run(out: Path, python: Path | str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ROOT / "benchmarks" / "gpu.sh", out],
        env={**os.environ, "PYTHON": str(python), "OMP_NUM_THREADS": "1", **environment},
        capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip


def stub(folder: Path, broken: str = "none") -> Path:
    """Return a Python that writes empty results, except for one module."""
    path = folder / "python"
    path.write_text(STUB.format(log=folder / "log", broken=broken))
    path.chmod(0o755)
    return path


def test_it_says_how_it_is_called(tmp_path: Path) -> None:
    done = subprocess.run([ROOT / "benchmarks" / "gpu.sh"], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stderr.startswith("benchmarks/gpu.sh OUT [WHEELS]")


def test_what_is_measured_is_not_measured_again_and_a_failure_ends_nothing(tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run(out, stub(tmp_path, broken="index"))
    assert done.returncode == 1 and "not measured: constraint; the same command tries these again" in done.stderr
    assert sorted(path.stem for path in out.iterdir()) == sorted(set(NAMES) - {"constraint"})
    (tmp_path / "log").unlink()
    done = run(out, stub(tmp_path))
    assert done.returncode == 0 and done.stdout.count("measured already") == 4
    assert len((tmp_path / "log").read_text().splitlines()) == 1


def test_the_limits_are_eight_minutes_together() -> None:
    script = (ROOT / "benchmarks" / "gpu.sh").read_text()
    real = script.partition("\nelse\n")[2]
    limits = [int(line.split()[2]) for line in real.splitlines() if line.strip().startswith("measure ")]
    assert len(limits) == len(NAMES) and sum(limits) <= 480


def test_a_search_takes_what_its_products_or_its_weights_take() -> None:
    decoder = Decoder(body=1000, head=500)
    shape: Any = {"num_queries": 2, "prompt_tokens": 10, "num_beams": 3, "mean_length": 5.0}
    computing = Roofline(operations_per_s=1.0, bytes_per_s=1e12, itemsize=2)
    # 10 + 3 * 4 tokens through the body, and 1 + 3 * 4 through the head; two operations a weight, two queries.
    assert least_search_s(computing, decoder, **shape, whole_vocabulary=True) == 2 * 2 * (22 * 1000 + 13 * 500)
    assert least_search_s(computing, decoder, **shape, whole_vocabulary=False) == 2 * 2 * 22 * 1000
    reading = Roofline(operations_per_s=1e12, bytes_per_s=1.0, itemsize=2)
    assert least_search_s(reading, decoder, **shape, whole_vocabulary=True) == 1500 * 5 * 2


def test_a_decoder_has_the_weights_that_its_model_has() -> None:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
        vocab_size=100, tie_word_embeddings=False,
    )  # fmt: skip
    model = Qwen2ForCausalLM(config)
    matrices = {name: own.numel() for name, own in model.named_parameters() if own.dim() == 2}
    layers = sum(number for name, number in matrices.items() if ".layers." in name)
    assert Decoder.of(model) == Decoder(layers, matrices["lm_head.weight"])
    assert model.dtype == torch.float32


@pytest.mark.slow
def test_it_is_rehearsed_on_a_cpu(tmp_path: Path) -> None:
    done = run(tmp_path, sys.executable, REHEARSE="1")
    assert done.returncode == 0, done.stderr
    rows = {name: json.loads((tmp_path / f"{name}.json").read_text())["rows"] for name in NAMES}
    for name in ("generation-text", "generation-image", "verification", "training"):
        assert "% of the roofline" in rows[name][0]["note"]
    for name in ("generation-text", "generation-image", "verification"):
        assert "bfloat16" in rows[name][0]["note"] and "float32" in rows[name][0]["note"]
