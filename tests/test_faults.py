"""Killed at any moment, a run leaves a state that loads, and goes on from it."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from commands import FAILURE_LIMIT, ROLLOUT, TINY, call, kept, progress, spawn, succeed, wait_for

from ppo_and_friends import cli
from ppo_and_friends.checkpoint import read_state

KILLS = 12
# a rollout and its update take about as long as a save, so that many kills land inside saves
WORDS = ("-e", "CartPole", *TINY, "--ppo.epochs", 1, "--save_every", 1, "--evaluation.every", 100_000,
         "--evaluation.episodes", 1, "--evaluation.max_episode_steps", 5,
         "--num_timesteps", 100_000 * ROLLOUT, "--state_path")  # fmt: skip


def forked(work: Callable[[], int]) -> int:
    """Run `work` in a copy of this process, which has imported everything already; returns its id."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        torch.set_num_threads(1)  # a fork has none of its parent's threads
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        code = work()
    finally:
        os._exit(code)


def saved(directory: Path) -> tuple[int, int]:
    """(iteration, timesteps) of the last state that counts; (-1, -1) while there is none."""
    if not (directory / "manifest.json").exists():
        return -1, -1
    shared = read_state(directory)["shared"]
    return shared["iteration"], shared["timesteps"]


def one_more(directory: Path, before: tuple[int, int]) -> None:
    """Wait until a state later than `before` counts."""
    deadline = time.monotonic() + FAILURE_LIMIT
    while saved(directory) <= before:
        assert time.monotonic() < deadline, f"no state after {before}"
        time.sleep(0.01)


def test_a_run_killed_at_random_moments_always_goes_on(tmp_path: Path) -> None:
    directory = tmp_path / "CartPole"
    chance = random.Random(5)
    succeed(*WORDS, tmp_path / "warm", "--max_iterations", 1)  # imports what a first run imports
    reached = [(-1, -1)]
    for index in range(KILLS):
        child = forked(lambda: cli.main([str(word) for word in (*WORDS, tmp_path)]))
        if index % 2:  # on a slow machine too, every second kill meets saving rather than starting
            one_more(directory, reached[-1])
        time.sleep(chance.uniform(0.0, 0.5))  # the moment is what is tried
        os.kill(child, signal.SIGKILL)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL, "the run ended by itself"
        reached.append(saved(directory))
    assert reached == sorted(reached) and len(set(reached)) > KILLS // 2, reached
    iteration, timesteps = reached[-1]
    out = succeed(*WORDS, tmp_path, "--max_iterations", iteration + 2)
    assert f"at iteration {iteration}, {timesteps} timesteps" in out
    assert progress(directory) == list(range(1, iteration + 3))
    manifest = json.loads((directory / "manifest.json").read_text())
    states = {file.name for file in directory.glob("state-*.pt")}  # a kill before a commit leaves one more
    assert states >= {*manifest["states"]} and all(read_state(directory / name) for name in states)
    assert not list(directory.glob("*.tmp"))


def test_a_killed_process_frees_its_directory(tmp_path: Path) -> None:
    words = ("-e", "CartPole", *TINY, "--state_path", tmp_path)
    child = spawn(*words, "--num_timesteps", 10**9)
    try:
        wait_for(child, "steps/s")
        result = call(*words)
        assert result.code == 2 and f"is in use by process {child.pid}" in result.err
    finally:
        child.kill()
        child.communicate()
    assert "at iteration 0, 0 timesteps" in succeed(*words, "--num_timesteps", ROLLOUT)


@pytest.fixture
def small_disk() -> object:
    """No file may grow beyond so many bytes, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_keeps_what_was_saved(tmp_path: Path, small_disk: Callable[[int], None]) -> None:
    words = ("-e", "CartPole", *TINY, "--state_path", tmp_path, "--num_timesteps")
    succeed(*words, ROLLOUT)
    before = kept(tmp_path)
    size = max(len(content) for name, content in before.items() if name.endswith(".pt"))
    small_disk(1 << 10)
    result = call(*words, 3 * ROLLOUT)
    assert result.code == 2 and "cannot be written" in result.err and "Traceback" not in result.err
    assert kept(tmp_path) == before
    small_disk(size - 1)
    result = call(*words, 3 * ROLLOUT)
    assert result.code == 2 and "make room there, then run again" in result.err and "Traceback" not in result.err
    small_disk(resource.RLIM_INFINITY)
    assert f"Resumed CartPole at iteration 1, {ROLLOUT} timesteps" in succeed(*words, 2 * ROLLOUT)
    assert progress(tmp_path / "CartPole") == [1, 2]
