"""Which engine a run gets, keeps and may be tested on; what a machine without a GPU says. The GPU is played by Warp's
CPU backend."""

from __future__ import annotations

import dataclasses
import json
import shlex
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from commands import ROLLOUT, TINY, files, refuse, succeed
from toys import experiment
from worlds import gpu, no_gpu

from environments.tasks.inverted_pendulum import InvertedPendulum
from ppo_and_friends import simulator
from ppo_and_friends.checkpoint import StateDirectory, read_state
from ppo_and_friends.comm import SoloComm
from ppo_and_friends.config import RunConfig
from ppo_and_friends.errors import UserError
from ppo_and_friends.ppo import PPO
from ppo_and_friends.vector.gym_vec import GymEnv
from ppo_and_friends.vector.sim.device_env import DeviceTaskEnv
from ppo_and_friends.vector.sim.task_env import SimEnv
from ppo_and_friends.vector.sim.warp_gpu import WarpSim
from ppo_and_friends.vector.sim.warp_limits import Limits

POLE = ("-e", "InvertedPendulum", *TINY)
NAME = "InvertedPendulum"
FURTHER = 4 * ROLLOUT  # one of them only seeds the moments


def trained(path: Path, *words: Any) -> None:
    succeed(*POLE, "--num_timesteps", ROLLOUT, "--state_path", path, *words)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """State paths of a run on each engine."""
    paths = {engine: tmp_path_factory.mktemp(engine) for engine in ("cpu", "warp")}
    trained(paths["cpu"], "--simulator", "cpu")
    with pytest.MonkeyPatch.context() as patch:
        gpu(patch)
        trained(paths["warp"], "--simulator", "warp")
    return paths


@pytest.fixture(params=["cpu", "warp"])
def run(request: pytest.FixtureRequest, runs: dict[str, Path], tmp_path: Path) -> tuple[str, Path]:
    """An engine, and a copy of the state path of a run on it."""
    return request.param, copied(runs, request.param, tmp_path)


def copied(runs: dict[str, Path], engine: str, tmp_path: Path) -> Path:
    shutil.copytree(runs[engine], tmp_path / "states")
    return tmp_path / "states"


class Ranks(SoloComm):
    def __init__(self) -> None:
        super().__init__()
        self.size = 2


@pytest.mark.parametrize(
    ("asked", "rows", "options", "comm", "chosen"),
    [
        ("auto", 1024, RunConfig(), SoloComm(), "warp"),
        ("auto", 1023, RunConfig(), SoloComm(), "cpu"),
        ("warp", 1, RunConfig(), SoloComm(), "warp"),
        ("cpu", 1024, RunConfig(), SoloComm(), "cpu"),
        ("auto", 1024, RunConfig(device="cpu"), SoloComm(), "cpu"),
        ("auto", 1024, RunConfig(test=True), SoloComm(), "cpu"),
        ("warp", 1024, RunConfig(test=True), SoloComm(), "warp"),
        ("auto", 1024, RunConfig(), Ranks(), "cpu"),
        ("auto", 1024, RunConfig(allow_mpi_gpu=True), Ranks(), "warp"),
    ],
)
def test_auto_is_the_gpus_for_many_rows_in_training(
    asked: Any,
    rows: int,
    options: RunConfig,
    comm: SoloComm,
    chosen: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    gpu(monkeypatch)
    config = dataclasses.replace(experiment(SimEnv(InvertedPendulum(), asked)), envs_per_proc=rows)
    assert simulator.choose_simulator(config, options, comm).simulator == chosen


def test_auto_is_the_cpus_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    no_gpu(monkeypatch)
    assert simulator.choose_simulator(experiment(SimEnv(InvertedPendulum())), None, SoloComm()).simulator == "cpu"


def test_environment_without_a_choice_is_left_alone() -> None:
    env = GymEnv("CartPole-v1")
    assert simulator.choose_simulator(experiment(env), None, SoloComm()) is env
    assert simulator.with_simulator(experiment(env), "cpu").env is env
    other: Any = SimpleNamespace(simulator="habitat")
    assert simulator.choose_simulator(experiment(other), None, SoloComm()) is other


def test_run_keeps_its_engine(run: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    engine, path = run
    gpu(monkeypatch)  # a GPU that came later changes nothing
    assert read_state(path / NAME)["simulator"] == engine
    out = succeed(*POLE, "--num_timesteps", FURTHER, "--state_path", path)
    assert f"Resumed {NAME}" in out and "anew" not in out and ("on test:" in out) == (engine == "warp")
    assert read_state(path / NAME)["simulator"] == engine


def test_another_engine_is_refused_with_the_remedy(run: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    engine, path = run
    other = {"cpu": "warp", "warp": "cpu"}[engine]
    gpu(monkeypatch)
    before = files(path)
    said = refuse(*POLE, "--num_timesteps", FURTHER, "--state_path", path, "--simulator", other)
    assert f"--simulator {engine}, and cannot go on with {other}" in said and "--name" in said and "--init_from" in said
    assert files(path) == before
    begun = succeed(*POLE, "--num_timesteps", ROLLOUT, "--state_path", path, "--simulator", other, "--name", "b", "--init_from", path / NAME)  # fmt: skip
    assert "Starting from the weights" in begun
    succeed(*POLE, "--num_timesteps", ROLLOUT, "--state_path", path, "--simulator", other, "--clobber")
    assert read_state(path / NAME)["simulator"] == read_state(path / "b")["simulator"] == other


def test_either_engine_tests_either_run(run: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    _, path = run
    test = (*POLE[:2], "--state_path", path, "--num_test_runs", 2)
    assert "2 episodes" in succeed(*test)  # without a GPU
    gpu(monkeypatch)
    assert "on mujoco.batch" in succeed(*test) and "on test:" in succeed(*test, "--simulator", "warp")


def test_policy_of_the_gpu_is_loaded_without_one(
    runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        gpu(patch)
        trained(tmp_path, "--simulator", "warp")
    no_gpu(monkeypatch)
    ppo = PPO.load(tmp_path / NAME)
    assert ppo.env.spec.engine.startswith("mujoco.batch") and ppo.predict([0.0] * 4).shape == (1,)


def test_gpu_run_cannot_go_on_without_a_gpu(
    runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_gpu(monkeypatch)
    said = refuse(*POLE, "--num_timesteps", FURTHER, "--state_path", copied(runs, "warp", tmp_path))
    assert "--simulator warp needs a GPU" in said
    remedy = shlex.split(said.partition("with ")[2].rstrip(".\n").replace("NEW", "new"))
    assert remedy[-2:] == ["--simulator", "cpu"]
    assert "Done" in succeed(*POLE, "--num_timesteps", ROLLOUT, "--state_path", tmp_path / "states", *remedy)


def test_limits_are_those_that_a_run_began_with(
    runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where they would be measured otherwise today."""
    gpu(monkeypatch)
    path = copied(runs, "warp", tmp_path)
    begun = read_state(path / NAME)["limits"]
    assert min(begun.values()) > 0
    asked: list[Limits] = []

    def other(model: Any, wanted: Limits, name: str) -> Limits:
        asked.append(wanted)
        return Limits(wanted.contacts or 64, wanted.constraints or 64)

    monkeypatch.setattr("ppo_and_friends.vector.sim.warp_gpu.choose_limits", other)
    words = (*POLE, "--state_path", path, "--num_timesteps")
    succeed(*words, FURTHER)
    assert {(sizes.contacts, sizes.constraints) for sizes in asked} == {tuple(begun.values())}
    saved = json.loads((path / NAME / "config.json").read_text())
    assert (saved["simulator"], saved["limits"]) == ("warp", begun)
    assert saved["experiment"]["env"]["max_contacts"] == 0  # as it was asked for
    succeed(*words, 2 * FURTHER, "--env.max_contacts", 48)
    assert read_state(path / NAME)["limits"] == begun | {"max_contacts": 48}
    assert json.loads((runs["cpu"] / NAME / "config.json").read_text())["simulator"] == "cpu"


def test_state_of_before_there_was_a_choice_is_the_cpus(
    runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An older state names no engine, and has no such settings."""
    path = copied(runs, "cpu", tmp_path)
    state = read_state(path / NAME)
    del state["simulator"]
    for name in ("simulator", "max_contacts", "max_constraints"):
        del state["config"]["env"][name]
    gpu(monkeypatch)
    with StateDirectory(path / NAME) as directory:
        directory.open({}, {})
        directory.save(state, 1)
    assert "Resumed" in succeed(*POLE, "--num_timesteps", FURTHER, "--state_path", path)
    assert read_state(path / NAME)["simulator"] == "cpu"


def test_gpu_of_a_rank_is_claimed_before_its_worlds_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    claimed: list[torch.device] = []
    monkeypatch.setattr(simulator, "obstacle", lambda: "")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", claimed.append)
    config, second = experiment(SimEnv(InvertedPendulum(), "warp")), Ranks()
    with pytest.raises(UserError, match="--simulator warp with 2 ranks: add --allow_mpi_gpu"):
        simulator.choose_simulator(config, RunConfig(test=True), second)
    monkeypatch.setenv("OMPI_COMM_WORLD_LOCAL_RANK", "3")
    simulator.choose_simulator(config, RunConfig(test=True, allow_mpi_gpu=True), second)
    monkeypatch.delenv("OMPI_COMM_WORLD_LOCAL_RANK")
    for device in ("cpu", "cuda", "cuda:1"):
        simulator.choose_simulator(config, RunConfig(test=True, device=device), SoloComm())
    assert [device.index for device in claimed] == [1, 0, 0, 1]


def test_settings_reach_the_gpus_worlds(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []

    def on_cpu(model: Any, rows: int, name: str, device: torch.device, limits: Limits) -> WarpSim:
        made.append((rows, device, limits))
        return WarpSim(model, rows, name, "cpu", limits)

    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr("ppo_and_friends.vector.sim.warp_gpu.WarpSim", on_cpu)
    env = SimEnv(InvertedPendulum(), "warp", max_contacts=12, max_constraints=20).make(3)
    assert isinstance(env, DeviceTaskEnv) and env.spec.engine.startswith("mujoco_warp")
    assert made == [(3, torch.device("cuda:1"), Limits(12, 20))]


def test_missing_package_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulator, "find_spec", lambda name: None)
    said = refuse(*POLE, "--state_path", tmp_path, "--simulator", "warp")
    assert '--simulator warp needs the package mujoco-warp: install it with pip install ".[gpu]"' in said
    assert not files(tmp_path)


def test_missing_gpu_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    no_gpu(monkeypatch)
    said = refuse(*POLE, "--state_path", tmp_path, "--simulator", "warp")
    assert f"--simulator warp needs a GPU, but torch {torch.__version__} sees none" in said
    assert not files(tmp_path)


@pytest.mark.parametrize(("driver", "found"), [((12, 2), "is for CUDA 12.2"), (None, "cannot be loaded")])
def test_old_driver_is_one_sentence(driver: Any, found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("warp.is_conditional_graph_supported", lambda: False)
    monkeypatch.setattr("warp.get_cuda_driver_version", lambda: driver)
    said = refuse(*POLE, "--state_path", tmp_path, "--simulator", "warp")
    assert f"CUDA 12.4 or newer, and this one {found}" in said


def test_engine_that_does_not_exist_and_environments_without_one(tmp_path: Path) -> None:
    assert "warp" in refuse(*POLE, "--state_path", tmp_path, "--simulator", "warped")
    refuse("-e", "CartPole", "--state_path", tmp_path, "--simulator", "warp")
    assert not files(tmp_path)
