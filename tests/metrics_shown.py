"""Metrics of an iteration whose display is known, and a clock to show them by."""

from __future__ import annotations

import time

import pytest

NAN, NONE = float("nan"), float("-inf")
METRICS = {
    "episodes": 30,
    "mean_return": 12.345,
    "mean_length": 7.0,
    "kl": 0.0123456,
    "entropy": 0.5,
    "clip_fraction": 0.1,
    "lr": 3e-4,
    "explained_variance": NAN,
}


def metrics(iteration: int, **more: float) -> dict[str, float]:
    return {"iteration": iteration, "timesteps": 100 * iteration, **METRICS, **more}


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
