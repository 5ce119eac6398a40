"""Stopping a training run from outside: what is saved, how it ends, and that it goes on from there."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest
from commands import TINY, finish, progress, spawn, succeed, wait_for
from ranks import MPIRUN, OPEN_LIBRARY, OPEN_MPIRUN, needs_mpirun, needs_open_mpi

from ppo_and_friends.checkpoint import read_state

ENDLESS = ("-e", "CartPole", *TINY, "--num_timesteps", 10**9, "--state_path")
CODES = {signal.SIGTERM: 143, signal.SIGINT: 130}


def check_stopped(out: str, path: Path) -> None:
    """The run saved where it says it stopped, and goes on from there."""
    stopped = re.search(r"Stopped at (\d+) timesteps and saved. To go on: ", out)
    assert stopped is not None, out
    shared = read_state(path / "CartPole")["shared"]
    assert shared["timesteps"] == int(stopped[1]) > 0
    more = succeed(*ENDLESS, path, "--max_iterations", shared["iteration"] + 1)
    assert f"Resumed CartPole at iteration {shared['iteration']}, {shared['timesteps']} timesteps." in more
    assert read_state(path / "CartPole")["shared"]["iteration"] == shared["iteration"] + 1


def test_a_signal_saves_and_ends_a_run_alone(tmp_path: Path) -> None:
    child = spawn(*ENDLESS, tmp_path)
    wait_for(child, "steps/s")
    child.send_signal(signal.SIGINT)
    result = finish(child)
    assert (result.code, result.err) == (130, "")
    check_stopped(result.out, tmp_path)


@needs_mpirun
@pytest.mark.parametrize("number", CODES)
def test_a_signal_to_mpirun_saves_and_ends_all_ranks(number: signal.Signals, tmp_path: Path) -> None:
    evaluated = ("--evaluation.every", 10**6, "--evaluation.episodes", 2)
    child = spawn(*ENDLESS, tmp_path, *evaluated, before=(MPIRUN, "-n", 2))
    wait_for(child, "evaluation at")  # which all ranks took part in: none is in its first iteration
    child.send_signal(number)
    result = finish(child)
    assert result.code == CODES[number], result
    assert result.out.count("Stopped at") == 1
    check_stopped(result.out, tmp_path)


@needs_open_mpi
def test_open_mpi_leaves_a_state_that_loads(tmp_path: Path) -> None:
    """Its mpirun may kill the ranks before they have saved: then the last state stands."""
    launcher = (OPEN_MPIRUN, "--allow-run-as-root", "--oversubscribe", "-n", 2)
    child = spawn(*ENDLESS, tmp_path, "--save_every", 1, before=launcher, MPI4PY_LIBMPI=str(OPEN_LIBRARY))
    wait_for(child, "2 ranks of 2 rows")
    wait_for(child, "steps/s")
    child.send_signal(signal.SIGTERM)
    result = finish(child)
    assert result.code != 0 and "2 ranks of 2 rows" not in result.out, "both ranks speak"
    iteration = read_state(tmp_path / "CartPole")["shared"]["iteration"]
    assert progress(tmp_path / "CartPole")[:iteration] == [*range(1, iteration + 1)]
    more = succeed(*ENDLESS, tmp_path, "--max_iterations", iteration + 1)
    assert f"Resumed CartPole at iteration {iteration}," in more


COMPILER = """#!/bin/sh
# Compiles neither code nor the headers before it, and tells the test when it is asked to.
for word; do case "$word" in *.cpp|c++-header) echo compiling > {pipe}; exec cat {never};; esac; done
exec g++ "$@"
"""


@pytest.mark.parametrize(
    ("number", "ranks", "group"),
    [
        (signal.SIGINT, 1, True),
        pytest.param(signal.SIGTERM, 2, False, marks=needs_mpirun),
    ],
)
def test_a_signal_while_the_update_is_compiled_ends_the_run(
    number: signal.Signals, ranks: int, group: bool, tmp_path: Path
) -> None:
    """To the process alone, which waits for its compiler, or to its group: then the compiler fails by it too."""
    pipe, never, compiler = (tmp_path / name for name in ("pipe", "never", "compiler"))
    os.mkfifo(pipe)
    os.mkfifo(never)
    compiler.write_text(COMPILER.format(pipe=pipe, never=never))
    compiler.chmod(0o755)
    extra = {"CXX": str(compiler), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    before = ("setsid", MPIRUN, "-n", ranks) if ranks > 1 else ("setsid",)
    child = spawn(*ENDLESS, tmp_path, "--compile", "on", before=before, **extra)
    held = os.open(never, os.O_RDWR)  # nobody writes to it
    try:
        assert pipe.read_text() == "compiling\n"
        (os.killpg if group else os.kill)(child.pid, number)
        result = finish(child)
    finally:
        os.close(held)
    assert result.code == CODES[number], result
    assert result.err.count(f"{number.name} came before the first iteration had ended") == 1
    assert "is not compiled" not in result.out and "Traceback" not in result.err
    assert read_state(tmp_path / "CartPole")["shared"]["iteration"] == 0


def test_a_second_interrupt_ends_at_once(tmp_path: Path) -> None:
    """In the middle of a step, where the first one is not seen."""
    (tmp_path / "slow.py").write_text(
        "import threading\n"
        "from ppo_and_friends import signals\n"
        "from ppo_and_friends.config import Experiment\n"
        "from ppo_and_friends.vector.gym_vec import GymEnv\n"
        "from gymnasium.envs.classic_control import CartPoleEnv\n"
        "class Stuck(CartPoleEnv):\n"
        "    count = 0\n"
        "    def step(self, action):\n"
        "        self.count += 1\n"
        "        if self.count < 200:\n"
        "            return super().step(action)\n"
        "        print('stuck', flush=True)\n"
        "        while not signals._active.wanted:\n"
        "            threading.Event().wait(0.01)\n"
        "        print('asked', flush=True)\n"
        "        threading.Event().wait()\n"
        "slow = Experiment(env=GymEnv(id='Stuck', factory=Stuck))\n"
    )
    child = spawn("-e", f"{tmp_path / 'slow.py'}:slow", *TINY, "--state_path", tmp_path)
    wait_for(child, "stuck")
    child.send_signal(signal.SIGINT)
    wait_for(child, "asked")
    child.send_signal(signal.SIGINT)
    result = finish(child)
    assert result.code == 130 and result.err.count("\n") == 1 and "interrupted twice" in result.err
    assert read_state(tmp_path / "slow")["shared"]["iteration"] == 0
