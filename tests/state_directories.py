"""State directories with states whose every number is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ppo_and_friends.checkpoint import StateDirectory
from ppo_and_friends.manifest import Manifest


def state(iteration: int) -> dict[str, Any]:
    return {"iteration": iteration, "weights": torch.full((50,), float(iteration)), "nested": {"list": [1, (2.5, "a")]}}


def opened(path: Path, clobber: bool = False) -> StateDirectory:
    directory = StateDirectory(path)
    directory.open({"lr": 1.0}, {"command": "python"}, clobber=clobber)
    return directory


def run(path: Path, iterations: range, best: int = -1, clobber: bool = False) -> None:
    with opened(path, clobber) as directory:
        for iteration in iterations:
            directory.save(state(iteration), iteration, best=iteration == best)


def states(path: Path) -> list[Path]:
    return sorted(path.glob("state-*.pt"))


def unlisted(path: Path) -> set[str]:
    """State files that the manifest does not list, and what tells of saves that are under way."""
    manifest = Manifest.read(path)
    marks = {file.name for file in path.glob(".*") if file.name != ".lock"}
    return {file.name for file in states(path)} - {*manifest.states, manifest.best} | marks


def iteration_of(loaded: dict[str, Any] | None) -> int:
    assert loaded is not None
    assert (loaded["weights"] == loaded["iteration"]).all()
    return loaded["iteration"]


def old_run(path: Path) -> None:
    run(path, range(10, 15), best=11)
    (path / "progress.csv").write_text("old")
    (path / "tensorboard").mkdir()
    (path / "tensorboard" / "events").write_text("old")
    (path / "notes.txt").write_text("the user's own")
