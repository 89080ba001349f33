"""Hashes of large files are cached, and never used after the content has changed."""

import os
from pathlib import Path

import pytest

from semcore.runtime import fingerprints
from semcore.runtime.errors import UserError
from semcore.runtime.files import sha256_of
from semcore.runtime.fingerprints import cache_folder, file_fingerprint, fingerprint


@pytest.fixture
def hashed(monkeypatch, tmp_path) -> list[str]:
    """Every file counts as large and as settled; returns the names of the files that were hashed."""
    names: list[str] = []

    def count(path: Path) -> str:
        names.append(path.name)
        return sha256_of(path)

    monkeypatch.setattr(fingerprints, "LARGE_BYTES", 1)
    monkeypatch.setattr(fingerprints, "_memory", {})
    monkeypatch.setattr(fingerprints, "SETTLED_NS", -1)
    monkeypatch.setattr(fingerprints, "sha256_of", count)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return names


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("first")
    return path


def test_a_large_file_is_hashed_once(hashed, file):
    assert file_fingerprint(file) == file_fingerprint(file) == sha256_of(file)
    fingerprints._memory.clear()  # another process
    assert file_fingerprint(file) == sha256_of(file)
    assert hashed == ["rows.jsonl"]


def test_a_changed_file_is_hashed_again_though_size_and_time_are_the_old_ones(hashed, file):
    first, status = file_fingerprint(file), file.stat()
    file.write_text("other")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert file_fingerprint(file) == sha256_of(file) != first


def test_what_was_written_just_now_is_not_remembered(hashed, file, monkeypatch):
    monkeypatch.setattr(fingerprints, "SETTLED_NS", 10**12)
    assert file_fingerprint(file) == file_fingerprint(file)
    assert hashed == ["rows.jsonl"] * 2


def test_small_files_leave_no_trace(hashed, file, monkeypatch):
    monkeypatch.setattr(fingerprints, "LARGE_BYTES", 100)
    file_fingerprint(file)
    assert not cache_folder().exists()


def test_a_cache_that_cannot_be_used_costs_time_only(hashed, file):
    cache_folder().parent.mkdir(parents=True)
    cache_folder().write_text("no folder")
    assert file_fingerprint(file) == file_fingerprint(file) == sha256_of(file)


def test_a_checkpoint_is_known_by_content_wherever_it_lies(hashed, base, tmp_path):
    first = fingerprint(base)
    assert fingerprint(base) == first
    moved = base.rename(tmp_path / "moved")
    assert fingerprint(moved) == first
    (moved / "README.md").write_text("says nothing of the weights")
    assert fingerprint(moved) == first
    with (moved / "model.safetensors").open("r+b") as weights:
        weights.seek(-1, os.SEEK_END)
        weights.write(b"x")
    assert fingerprint(moved) != first


def test_a_file_that_is_not_there_is_named(file):
    file.unlink()
    with pytest.raises(UserError, match="rows.jsonl"):
        file_fingerprint(file)
