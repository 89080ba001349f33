"""New tokens of a configuration's identifiers, counted before there are any."""

from __future__ import annotations

from pathlib import Path

import pytest

from semcore.training.memory_plan.sections import DEPTHS, read_num_cluster_tokens


@pytest.mark.parametrize(
    ("identifiers", "num_tokens"),
    [
        ("{}", 128),
        ("{num_clusters: 4}", 4),
        ("{global_id: false}", 0),
        ("{scheme: string}", 0),
        ("{scheme: caption}", 0),
        ("{scheme: vokens, quantizer: {num_codes: 64, num_levels: 3}}", 192),
        ("{scheme: vokens, quantizer: {num_codes: 64, kind: rq-vae, shared: true}}", 64),
        ("{scheme: coarse-fine, coarse: 16, quantizer: {num_codes: 16, num_levels: 2}}", 48),
        ("{scheme: hierarchical, branch: 6}", 6 * DEPTHS),
    ],
)
def test_every_scheme_brings_its_tokens(tmp_path: Path, identifiers: str, num_tokens: int) -> None:
    (tmp_path / "small.yaml").write_text(f"identifiers: {identifiers}\n")
    assert read_num_cluster_tokens(tmp_path / "small.yaml") == num_tokens
