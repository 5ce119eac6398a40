"""Training over ranks through mpirun: one writer, one display, and one rank's trouble ends all."""

from __future__ import annotations

import subprocess
import textwrap
from pathlib import Path

from commands import ROLLOUT, TINY, Result, files, finish, progress, spawn, succeed
from ranks import MPIRUN, needs_mpirun, run

from ppo_and_friends.checkpoint import read_state

pytestmark = needs_mpirun

FAULTY = """
    import os
    import numpy as np
    from gymnasium.envs.classic_control import CartPoleEnv
    from ppo_and_friends.config import Experiment
    from ppo_and_friends.vector.gym_vec import GymEnv

    class Faulty(CartPoleEnv):
        count = 0

        def step(self, action):
            self.count += 1
            observation, *rest = super().step(action)
            if os.environ["PMI_RANK"] == "1" and self.count == 70:
                {fault}
            return observation, *rest

    task = Experiment(env=GymEnv(id="Faulty", factory=Faulty))
"""


def ranks(count: int, *words: object, **extra: str) -> Result:
    return finish(spawn(*words, before=(MPIRUN, "-n", count), **extra))


def test_ranks_train_resume_and_test_as_one(tmp_path: Path) -> None:
    words = ("-e", "Pendulum", *TINY, "--state_path", tmp_path, "--save_every", 1)
    result = ranks(2, *words, "--num_timesteps", 3 * ROLLOUT)  # of which one rollout only seeds the normalisers
    assert (result.code, result.err) == (0, "")
    for text in ("2 ranks of 2 rows", "100%", "Done: 192 timesteps"):
        assert result.out.count(text) == 1, result.out
    directory = tmp_path / "Pendulum"
    assert progress(directory) == [1, 2]
    state = read_state(directory)
    assert (state["size"], len(state["ranks"])) == (2, 2)
    assert len({name for name in files(directory) if "tfevents" in name}) == 1

    result = ranks(3, *words, "--max_iterations", 4)
    assert (result.code, result.err) == (0, "")
    assert result.out.count("Resumed Pendulum at iteration 2, 192 timesteps.") == 1
    assert result.out.count("It was trained on 2 ranks x 2 rows: the rows start anew.") == 1
    state = read_state(directory)
    assert state["size"] == 3 and state["shared"]["iteration"] == 4
    assert progress(directory) == [1, 2, 3, 4]

    before = files(directory)
    short = ("--evaluation.max_episode_steps", 20, "--num_test_runs", 10, "--save_test_scores")
    result = ranks(2, "-e", "Pendulum", "--state_path", tmp_path, *short)
    assert (result.code, result.err) == (0, "")
    assert result.out.count("10 episodes") == 1
    assert len((directory / "test_scores.csv").read_text().splitlines()) == 1 + 10
    after = files(directory)
    assert {name: after[name] for name in before} == before
    assert "Resumed Pendulum" in succeed(*words, "--max_iterations", 5)  # and one process goes on


def test_one_word_for_all_ranks_where_nothing_can_run(tmp_path: Path) -> None:
    result = ranks(2, "-e", "CartPole", "--num_test_runs", 1, "--state_path", tmp_path)
    assert result.code != 0 and result.out == "" and "Traceback" not in result.err
    assert result.err.count("There is no saved state") == 1


def test_an_environment_that_fails_on_one_rank_ends_all(tmp_path: Path) -> None:
    fault = "observation = np.full_like(observation, np.nan)"
    (tmp_path / "faulty.py").write_text(textwrap.dedent(FAULTY).replace("{fault}", fault))
    words = ("-e", f"{tmp_path / 'faulty.py'}:task", *TINY, "--state_path", tmp_path, "--save_every", 1)
    result = ranks(2, *words)
    assert result.code not in (0, None)
    named = "rank 1: error: Faulty, row {row}, step"
    assert any(result.err.count(named.format(row=row)) == 1 for row in (0, 1)), result.err
    assert "observation is not finite" in result.err and "Traceback" not in result.err
    state = read_state(tmp_path / "task")
    steps = ROLLOUT // (2 * 2)  # the first of these only seed the normalisers
    assert state["shared"]["iteration"] == 70 // steps - 1  # every iteration before the fault


def test_a_callback_on_one_rank_stops_all(tmp_path: Path) -> None:
    body = f"""
        from ppo_and_friends import registry
        from ppo_and_friends.config import RunConfig
        from ppo_and_friends.ppo import PPO
        def main(comm):
            def callback(ppo, metrics):
                return comm.rank == 1 and metrics["iteration"] == 3
            run = RunConfig(state_path={str(tmp_path)!r})
            ppo = PPO(registry.build("CartPole"), run, comm).learn(callback)
            print(f"rank {{comm.rank}} stopped at iteration {{ppo.iteration}}", flush=True)
            return ppo.exit_code
    """
    result = run(2, body)
    assert (result.returncode, result.stderr) == (0, "")
    assert all(result.stdout.count(f"rank {rank} stopped at iteration 3") == 1 for rank in range(2))
    assert result.stdout.count("Stopped at") == 1
    assert read_state(tmp_path / "CartPole")["shared"]["iteration"] == 3


def test_processes_are_gone_after_a_failure(tmp_path: Path) -> None:
    """Nothing of an aborted job stays behind: the lock of its directory is free."""
    (tmp_path / "faulty.py").write_text(textwrap.dedent(FAULTY).replace("{fault}", "os._exit(9)"))
    words = ("-e", f"{tmp_path / 'faulty.py'}:task", *TINY, "--state_path", tmp_path)
    assert ranks(2, *words).code != 0
    holders = subprocess.run(["pgrep", "-f", str(tmp_path / "faulty.py")], capture_output=True, text=True)
    assert holders.stdout == ""
