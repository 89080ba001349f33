"""Precision that a device multiplies natively."""

from __future__ import annotations

import pytest

from semcore.runtime.native_precision import native_dtype


def test_bfloat16_only_where_the_processor_multiplies_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("semcore.runtime.native_precision.cpu_flags", lambda: {"avx512_bf16", "avx2"})
    assert native_dtype("cpu") == "bfloat16"
    monkeypatch.setattr("semcore.runtime.native_precision.cpu_flags", lambda: {"avx2"})
    assert native_dtype("cpu") == "float32"
