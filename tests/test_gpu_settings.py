"""Launchers with other settings for runs that a GPU simulates: who gets them, and who keeps which."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from commands import refuse, succeed
from worlds import gpu, no_gpu

from environments.settings import net
from ppo_and_friends import registry, simulator
from ppo_and_friends.checkpoint import read_state
from ppo_and_friends.comm import SoloComm
from ppo_and_friends.config import PPOConfig, RunConfig
from ppo_and_friends.next_command import settings_flags

NAME = "InvertedPendulum"


@pytest.fixture(autouse=True)
def other_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pendulum's launcher has such for a GPU: other layers, and rows that are enough for it."""
    monkeypatch.setattr(simulator, "WORTH", 6)
    on_gpu = dataclasses.replace(registry.build(NAME), envs_per_proc=6, net=net(5, 5))
    monkeypatch.setitem(registry._launchers_on_gpu, NAME, lambda: on_gpu)


SMALL = ("-e", NAME, "--ppo.minibatches", 2, "--ppo.epochs", 1, "--ppo.steps_total", 48, "--evaluation.every", 0)


def test_new_runs_on_a_gpu_have_its_settings_and_keep_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = (*SMALL, "--state_path", tmp_path, "--num_timesteps")
    with monkeypatch.context() as patch:
        gpu(patch)
        begun = succeed(*words, 48)
    assert begun.startswith(f"# {NAME} with its settings for a GPU (those for a CPU: --simulator cpu)")
    assert "of 6 rows" in begun
    own = registry.build_on_gpu(NAME)
    assert own is not None and settings_flags(NAME, own, RunConfig()) == ()
    state = read_state(tmp_path / NAME)
    assert (state["simulator"], state["config"]["net"]["actor"]["hidden"]) == ("warp", [5, 5])
    no_gpu(monkeypatch)
    assert "--simulator warp needs a GPU" in refuse(*words, 480)
    assert "2 episodes" in succeed("-e", NAME, "--state_path", tmp_path, "--num_test_runs", 2)
    gpu(monkeypatch)
    assert "Resumed" in succeed(*words, 480)


def test_runs_on_the_cpu_have_its_settings_and_keep_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = (*SMALL, "--state_path", tmp_path, "--num_timesteps")
    no_gpu(monkeypatch)
    succeed(*words, 48)
    gpu(monkeypatch)
    assert "for a GPU" not in succeed(*words, 480)
    assert read_state(tmp_path / NAME)["simulator"] == "cpu"


@pytest.mark.parametrize("words", [("--simulator", "cpu"), ("--device", "cpu"), ("--envs_per_proc", 5), ("--test",)])
def test_what_is_asked_for_decides_the_settings(words: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    gpu(monkeypatch)
    assert "--net.actor.hidden 5 5" in succeed("-e", NAME, "--print_config")
    assert "--net.actor.hidden 64 64" in succeed("-e", NAME, "--print_config", *words)


def test_weights_are_taken_with_the_settings_that_they_were_trained_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = (*SMALL, "--state_path", tmp_path, "--num_timesteps", 48)
    succeed(*words, "--simulator", "cpu")
    with monkeypatch.context() as patch:
        gpu(patch)
        begun = succeed(*words, "--name", "second", "--init_from", tmp_path / NAME)
        succeed(*words, "--name", "third")  # on the GPU
    assert "Starting from the weights" in begun and "for a GPU" not in begun
    no_gpu(monkeypatch)
    said = refuse(*words, "--name", "third", "--num_timesteps", 96)
    remedy = said.partition("with ")[2].rstrip(".\n").replace("NEW", "fourth").split()
    assert "Starting from the weights" in succeed(*words, *remedy)
    assert read_state(tmp_path / "fourth")["config"]["net"]["actor"]["hidden"] == [5, 5]


def test_rank_0_decides_for_all(tmp_path: Path) -> None:
    """The others need not see its disk, nor have looked for a GPU yet."""

    class Second(SoloComm):
        rank, size = 1, 2

        def broadcast_bytes(self, data: bytes | None) -> bytes:
            return b"yes"

    run = RunConfig(state_path=str(tmp_path))
    assert simulator.takes_gpu(registry.build(NAME), lambda: registry.build(NAME), run, Second())


def test_flags_need_suit_only_the_settings_that_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rollouts of 6 rows have room for that many minibatches on the GPU, and not on the CPU; and the reverse."""
    words = (*SMALL, "--state_path", tmp_path, "--num_timesteps", 48)
    large = dataclasses.replace(registry.build(NAME), envs_per_proc=6, ppo=PPOConfig(steps_per_row=64))
    monkeypatch.setitem(registry._launchers_on_gpu, NAME, lambda: large)
    refuse(*words, "--ppo.minibatches", 100)
    with monkeypatch.context() as patch:
        gpu(patch)
        succeed(*words, "--ppo.minibatches", 100)
    small = dataclasses.replace(large, ppo=PPOConfig(steps_per_row=1, minibatches=1))
    monkeypatch.setitem(registry._launchers_on_gpu, NAME, lambda: small)
    succeed(*words, "--ppo.minibatches", 20, "--name", "cpu")
