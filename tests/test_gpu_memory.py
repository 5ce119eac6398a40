"""benchmarks/gpu_memory.py: what it reads, and what it says where there is nothing to read."""

from __future__ import annotations

import argparse
from pathlib import Path

import common
import gpu_memory
import pytest
import torch
from gpu_scripts import ORIGIN, call

pytestmark = pytest.mark.usefixtures("elsewhere")


def test_memory_is_of_one_more_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(common, "gpu_origin", lambda device: ORIGIN)
    monkeypatch.setattr(common, "describe_gpu", lambda origin: "")
    monkeypatch.setattr(gpu_memory, "ask", lambda task, rows: {"bytes": 10**9 + 300 * rows, "estimate": 200})
    words = ("--tasks", "IsaacAnt", "--rows", 64, 16, "--results", tmp_path)
    assert call(gpu_memory, monkeypatch, *words) == 0
    (row,) = common.read("gpu_memory", tmp_path)
    assert (row["task"], row["rows"]) == ("IsaacAnt", "16 64")
    assert (row["bytes_per_world"], row["estimated_bytes_per_world"]) == ("300", "200")


def test_memory_in_use_is_read_before_and_after_training() -> None:
    readings = iter([1000, 5000])
    settings = argparse.Namespace(tasks=["IsaacCartpole"], rows=[4], device="cpu")
    found = gpu_memory.measure(settings, lambda: next(readings))
    assert found["bytes"] == 4000 and 1000 < found["estimate"] < 100_000


def test_memory_without_a_gpu_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert call(gpu_memory, monkeypatch, "--results", tmp_path) == 1
    assert capsys.readouterr().err == "gpu_memory.py measures the memory of a GPU, and this torch sees none.\n"
    assert not list(tmp_path.glob("*.csv"))
