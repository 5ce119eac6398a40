"""--simulator isaacgym: a launcher on Isaac Gym's own task, from training to a picture, with a stand-in for it."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import TINY, files, progress, refuse, succeed
from isaacgym_toys import interpreter
from PIL import Image
from ranks import ROOT

from ppo_and_friends import registry, simulator
from ppo_and_friends.checkpoint import read_state
from ppo_and_friends.comm import SoloComm
from ppo_and_friends.config import RunConfig
from ppo_and_friends.errors import UserError
from ppo_and_friends.ppo import PPO
from ppo_and_friends.vector.isaacgym.original import TASKS, Original

NAME = "IsaacCartpole"
SMALL = ("-e", NAME, *TINY, "--ppo.steps_per_row", 8, "--device", "cpu", "--num_timesteps", 10_000)
ON_IT = ("--simulator", "isaacgym")


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    return interpreter(tmp_path_factory.mktemp("isaacgym"))


@pytest.fixture(scope="module")
def trained(python: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The state path of a run of two iterations with an evaluation, and what it printed."""
    path = tmp_path_factory.mktemp("states")
    evaluation = ("--evaluation.every", 700, "--evaluation.episodes", 3)
    words = ("--max_iterations", 2, *evaluation, "--state_path", path, *ON_IT, "--isaacgym_python", python)
    return path, succeed(*SMALL, *words)


def read_rows(file: Path) -> list[dict[str, str]]:
    with open(file, newline="") as lines:
        return list(csv.DictReader(lines))


def test_training(trained: tuple[Path, str]) -> None:
    path, out = trained
    assert "Cartpole (isaacgymenvs) on Isaac Gym under Python 3." in out
    state = read_state(path / NAME)
    assert progress(path / NAME) == [1, 2] and state["simulator"] == "isaacgym"
    assert "isaacgym_python" not in str(state["config"])
    assert [float(row["evaluation_length"]) for row in read_rows(path / NAME / "progress.csv")] == [3, 3]


def test_resuming_keeps_it_and_takes_another_interpreter(
    trained: tuple[Path, str], python: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(trained[0] / NAME, tmp_path / NAME)
    further = (*SMALL, "--max_iterations", 3, "--state_path", tmp_path)
    monkeypatch.delenv("ISAACGYM_PYTHON", raising=False)
    before = files(tmp_path)
    assert "none was named: add --isaacgym_python PATH" in refuse(*further)
    said = refuse(*further, "--simulator", "cpu")
    assert "with --simulator isaacgym, and cannot go on with cpu" in said
    assert files(tmp_path) == before
    monkeypatch.setenv("ISAACGYM_PYTHON", interpreter(tmp_path))
    out = succeed(*further)
    assert f"Resumed {NAME} at iteration 2" in out and "Isaac Gym" in out and "Changed" not in out
    assert progress(tmp_path / NAME) == [1, 2, 3]


def test_its_policy_is_tested_on_it_and_filmed(trained: tuple[Path, str], python: str) -> None:
    test = ("-e", NAME, "--state_path", trained[0], "--device", "cpu", "--isaacgym_python", python)
    out = succeed(*test, "--render_gif")
    assert "on Isaac Gym" in out and "1 episode" in out
    with Image.open(out.split("GIF: ")[1].strip()) as gif:
        assert gif.size == (4, 2) and gif.info["duration"] == 50  # three equal pictures at 60 a second


def test_its_policy_is_tested_on_mujoco_where_that_is_asked_for(trained: tuple[Path, str]) -> None:
    path, _ = trained
    test = ("-e", NAME, "--state_path", path, "--num_test_runs", 2)
    assert "on mujoco.batch" in succeed(*test, "--simulator", "cpu")
    assert PPO.load(path / NAME).predict(np.zeros(4)).shape == (1,)


def test_its_task_must_look_like_the_launchers(python: str, tmp_path: Path) -> None:
    said = refuse("-e", "IsaacAnt", *TINY, "--device", "cpu", "--state_path", tmp_path, *ON_IT, "--isaacgym_python", python)  # fmt: skip
    assert "Ant has observations of 3 (critic 3) and 2 actions, but its launcher observations of 60 (critic 60)" in said
    assert not files(tmp_path)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("-e", "Ant"), "Isaac Gym has no task of Ant, only those of IsaacCartpole, "),
        (("-e", "IsaacCrazyflie"), "Isaac Gym has no task of IsaacCrazyflie, only those of"),
        (("-e", NAME), "none was named: add --isaacgym_python PATH"),
        (("-e", NAME, "--isaacgym_python", "/no/python"), "--isaacgym_python is '/no/python', but there is no such"),
        (("-e", NAME, "--env.fall_cost", -1), "leave out env.task.fall_cost: -2.0 -> -1.0"),
    ],
)
def test_what_cannot_be_is_said_before_training(
    words: tuple[Any, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ISAACGYM_PYTHON", raising=False)
    assert message in refuse(*words, *TINY, "--state_path", tmp_path, *ON_IT)
    assert not files(tmp_path)


def test_interpreter_of_the_environment_variable_is_named_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISAACGYM_PYTHON", "/no/python")
    said = refuse("-e", NAME, *TINY, "--state_path", tmp_path, *ON_IT)
    assert "ISAACGYM_PYTHON is '/no/python'" in said and "--isaacgym_python" not in said


def test_each_rank_simulates_on_its_own_gpu(python: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    ranks = SoloComm()
    ranks.size = 4
    experiment = simulator.with_simulator(registry.build(NAME), "isaacgym")

    def chosen(comm: SoloComm, **options: Any) -> str:
        run = RunConfig(test=True, isaacgym_python=python, **options)
        config = simulator.choose_simulator(experiment, run, comm)
        assert isinstance(config, Original)
        return config.env.device

    with pytest.raises(UserError, match="--simulator isaacgym with 4 ranks: add --allow_mpi_gpu"):
        chosen(ranks)
    monkeypatch.setenv("OMPI_COMM_WORLD_LOCAL_RANK", "3")
    assert chosen(ranks, allow_mpi_gpu=True) == "cuda:1"
    monkeypatch.delenv("OMPI_COMM_WORLD_LOCAL_RANK")
    assert chosen(SoloComm()) == "cuda:0" and chosen(SoloComm(), device="cuda:1") == "cuda:1"
    assert chosen(SoloComm(), device="cpu") == chosen(ranks, device="cpu") == "cpu"


def test_every_task_of_isaac_gym_has_a_launcher() -> None:
    for name, task in TASKS.items():
        assert registry.build(name).env.task.name.startswith(task.removesuffix("OpenAI_FF"))


def test_example_is_for_a_task_without_one() -> None:
    assert registry.build(f"{ROOT}/examples/isaac_gym.py:FrankaCabinet").env.task not in TASKS.values()
