"""The benchmark of lineage compares what it says, on both sides, and saves rows as the contract says."""

from __future__ import annotations

import json

from benchmarks.lineage import Settings, main
from semcore.runtime import fingerprints


def test_every_row_has_both_sides(searchable_run, tmp_path, monkeypatch):
    monkeypatch.setattr(fingerprints, "SETTLED_NS", 0)
    monkeypatch.setattr(fingerprints, "LARGE_BYTES", 1)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    main(Settings(run=searchable_run.run, json=tmp_path / "rows.json", gigabytes=1e-5, num_images=20, repeats=1))
    rows = {row["name"]: row for row in json.loads((tmp_path / "rows.json").read_text())["rows"]}
    assert list(rows) == [
        "base, first start", "base, later starts", "corpus as it was", "corpus with an item more", "semcore search",
        "semcore evaluate",
    ]  # fmt: skip
    assert all(row["ours"] > 0 for row in rows.values())
    assert fingerprints.LARGE_BYTES == 1
