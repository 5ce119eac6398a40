"""MuJoCo reads MUJOCO_GL once, when it is first imported: whichever test does that, it must find a way to draw. torch reads
the number of its threads likewise: the tests' networks are small, and where cores are busy threads wait for each other.
Below, the run that tests of the command line begin from."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from ppo_and_friends.vector.sim.task_env import choose_gl_backend

choose_gl_backend()

import shutil
from pathlib import Path

import pytest
from commands import CART, EVALUATED, ROLLOUT, succeed


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state path with CartPole trained for four iterations."""
    path = tmp_path_factory.mktemp("trained")
    succeed(*CART, *EVALUATED, "--num_timesteps", 4 * ROLLOUT, "--save_every", 1, "--state_path", path)
    return path


@pytest.fixture
def path(trained: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    shutil.copytree(trained, tmp_path / "states")
    return tmp_path / "states"


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working directory of the test's own: MuJoCo writes its warnings to a file there."""
    monkeypatch.chdir(tmp_path)
