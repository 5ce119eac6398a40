"""An interpreter with a stand-in for Isaac Gym, and one line to take a step in it.

`ISAACGYM_TEST_PYTHON` names another interpreter with torch and NumPy, an old one for preference, to run the stand-in.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch

from ppo_and_friends.types import Step
from ppo_and_friends.vector.base import VecEnv
from ppo_and_friends.vector.isaacgym.client import IsaacGymEnv, IsaacGymVec

STANDIN = Path(__file__).with_name("isaacgym_standin")
PYTHON = os.environ.get("ISAACGYM_TEST_PYTHON", sys.executable)
FAIL, BAD_NUMBER, RAISE, DIE = 1, 5, 6, 7  # as in the stand-in


def interpreter(folder: Path, *setting: str, path: Path = STANDIN) -> str:
    """A program that runs Python with the packages in `path`, and the environment variables NAME=VALUE."""
    script = folder / "python"
    exports = " ".join(f"'{item}'" for item in (f"PYTHONPATH={path}", *setting))
    script.write_text(f'#!/bin/sh\nexport {exports}\nexec {PYTHON} "$@"\n')
    script.chmod(0o755)
    return str(script)


def vector(python: str, task: str = "Ant", rows: int = 3, device: str = "cpu", **settings) -> IsaacGymVec:
    return IsaacGymEnv(task, python, device, **settings).make(rows)


def take(env: VecEnv, *second: float) -> Step:
    """One step: the first actions are 1, 2, 3, ... and the second ones are given."""
    first = torch.arange(1.0, len(second) + 1)
    return env.step((torch.stack([first, torch.tensor(second)], 1),))[0]
