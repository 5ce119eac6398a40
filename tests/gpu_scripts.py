"""The scripts for GPUs in benchmarks/, called as their command lines call them."""

from __future__ import annotations

import sys
from typing import Any

import common
import pytest

ORIGIN = dict.fromkeys(common.GPU_ORIGIN, "x")


def call(module: Any, monkeypatch: pytest.MonkeyPatch, *words: Any) -> int:
    """The exit code of a script with these words."""
    monkeypatch.setattr(sys, "argv", [module.__name__, *map(str, words)])
    return module.main()
