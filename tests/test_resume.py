"""The same command again: a run goes on where it ended, exactly where it can, and says what is not as it was."""

from __future__ import annotations

import csv
import re
import textwrap
from pathlib import Path

import pytest
from commands import (
    CART,
    EVALUATED,
    ROLLOUT,
    TINY,
    call,
    kept,
    printed_command,
    progress,
    refuse,
    succeed,
    timeless,
    unlike,
)

from ppo_and_friends.checkpoint import read_state
from ppo_and_friends.serialize import read_config


def test_a_larger_total_resumes(path: Path) -> None:
    out = succeed(*CART, *EVALUATED, "--num_timesteps", 6 * ROLLOUT, "--state_path", path)
    assert f"Resumed CartPole at iteration 4, {4 * ROLLOUT} timesteps.\n" in out and "anew" not in out
    assert progress(path / "CartPole") == [1, 2, 3, 4, 5, 6]
    assert read_state(path / "CartPole")["shared"]["timesteps"] == 6 * ROLLOUT


def test_already_there_prints_the_command_that_goes_on(path: Path) -> None:
    before = kept(path)
    out = succeed(*CART, *EVALUATED, "--num_timesteps", 3 * ROLLOUT, "--state_path", path)
    assert f"CartPole is trained to {4 * ROLLOUT} timesteps already" in out
    assert kept(path) == before
    assert f"Done: {8 * ROLLOUT} timesteps" in succeed(*printed_command(out))


def test_a_limit_of_iterations_that_is_reached_says_so(path: Path) -> None:
    out = succeed(*CART, "--num_timesteps", 99 * ROLLOUT, "--max_iterations", 4, "--state_path", path)
    assert "4 iterations already" in out
    assert "Done" in succeed(*printed_command(out), "--num_timesteps", 5 * ROLLOUT)


def test_the_command_of_a_stopped_run_keeps_its_settings(tmp_path: Path) -> None:
    """Whoever overrode a setting can go on with the printed command as it stands."""
    words = (*CART, "--ppo.gamma", 0.5, "--num_timesteps", 3 * ROLLOUT, "--state_path", tmp_path)
    succeed(*words, "--max_iterations", 1)
    out = succeed(*words, "--max_iterations", 1)
    assert f"Done: {3 * ROLLOUT} timesteps" in succeed(*printed_command(out))


def test_settings_say_the_seed_that_a_resumed_run_keeps(tmp_path: Path) -> None:
    for seed in (7, 8):
        succeed(*CART, "--random_seed", seed, "--max_iterations", seed, "--state_path", tmp_path)
        assert read_config(str(tmp_path / "CartPole" / "config.json"))[2] == 7


def test_changed_settings_need_consent(path: Path) -> None:
    before = kept(path)
    words = (*CART, *EVALUATED, "--num_timesteps", 5 * ROLLOUT, "--state_path", path, "--ppo.gamma", 0.9)
    message = refuse(*words)
    assert "ppo.gamma: 0.98 -> 0.9" in message and "--accept_changes" in message
    assert kept(path) == before
    out = succeed(*words, "--accept_changes")
    assert "Changed: ppo.gamma: 0.98 -> 0.9" in out and progress(path / "CartPole") == [1, 2, 3, 4, 5]


def test_seconds_go_on_where_a_run_is_resumed(tmp_path: Path) -> None:
    for iterations in (6, 7):
        succeed(*CART, "--max_iterations", iterations, "--state_path", tmp_path)
    with open(tmp_path / "CartPole" / "progress.csv", newline="") as file:
        seconds = [float(row["seconds"]) for row in csv.DictReader(file)]
    assert len(seconds) == 7 and seconds == sorted(seconds)


def test_a_resumed_run_may_compile_or_not(path: Path) -> None:
    words = (*CART, *EVALUATED, "--num_timesteps", 4 * ROLLOUT, "--state_path", path, "--compile")
    assert "Resumed" in succeed(*words, "auto")


@pytest.mark.parametrize("name", ["CartPole", "HalfCheetah", "RecallCue", "RoomsICM"])
def test_resuming_is_exact(name: str, tmp_path: Path) -> None:
    """Four iterations at once, or two and two: the states are the same, bit for bit."""
    words = ("-e", name, *TINY, "--evaluation.every", 1000, "--evaluation.max_episode_steps", 5, "--state_path")
    succeed(*words, tmp_path / "whole", "--max_iterations", 4)
    for iterations in (2, 4):
        out = succeed(*words, tmp_path / "parts", "--max_iterations", iterations)
    assert "Resumed" in out and "anew" not in out
    assert unlike(timeless(tmp_path / "whole" / name), timeless(tmp_path / "parts" / name)) == []


def test_a_resumed_run_keeps_its_seed_and_says_so(tmp_path: Path) -> None:
    words = (*CART, "--state_path", tmp_path, "--random_seed")
    succeed(*words, 7, "--max_iterations", 1)
    assert "--random_seed 8 is for a new run: this one keeps its own, 7." in succeed(*words, 8, "--max_iterations", 2)
    assert "is for a new run" not in succeed(*words, 7, "--max_iterations", 3)


def test_where_the_environment_has_no_state_rows_start_anew(tmp_path: Path) -> None:
    words = ("-e", "LunarLander", *TINY, "--state_path", tmp_path, "--max_iterations")
    succeed(*words, 1)
    out = succeed(*words, 2)
    assert "at iteration 1" in out and "The environment cannot give its exact state: the rows start anew" in out


def test_where_settings_changed_rows_start_anew(tmp_path: Path) -> None:
    words = (*CART, "--state_path", tmp_path, "--max_iterations")
    succeed(*words, 1)
    assert "Settings changed: the rows start anew" in succeed(*words, 2, "--ppo.lr", "1e-4", "--accept_changes")


def test_friends_that_a_state_does_not_know(tmp_path: Path) -> None:
    """An add-on has many settings: some are named. Without add-ons, Rooms are RoomsICM's."""
    (tmp_path / "mine.py").write_text(
        "from pathlib import Path\n"
        "from environments.curiosity import rooms, rooms_icm\n"
        "task = lambda: rooms_icm() if Path(__file__).with_name('curious').exists() else rooms()\n"
    )
    words = ("-e", f"{tmp_path / 'mine.py'}:task", *TINY, "--state_path", tmp_path, "--max_iterations")
    succeed(*words, 1)
    (tmp_path / "curious").touch()
    message = refuse(*words, 2)
    assert "addons.0.weight: absent -> " in message and message.count(" -> ") == 4
    assert re.search(r"; and \d+ more\): give", message)


def test_a_state_that_learned_nothing_says_so(tmp_path: Path) -> None:
    """What a run leaves that ends before its first iteration does."""
    body = """
        from pathlib import Path
        from gymnasium.envs.classic_control import CartPoleEnv
        from ppo_and_friends.config import Experiment
        from ppo_and_friends.vector.gym_vec import GymEnv

        class Needy(CartPoleEnv):
            def step(self, action):
                Path(__file__).with_name("needed").stat()
                return super().step(action)

        task = Experiment(env=GymEnv(id="Needy", factory=Needy))
    """
    (tmp_path / "mine.py").write_text(textwrap.dedent(body))
    words = ("-e", f"{tmp_path / 'mine.py'}:task", *TINY, "--state_path", tmp_path)
    assert "FileNotFoundError" in call(*words).err
    (tmp_path / "needed").touch()
    said = f"The state in {tmp_path / 'task'} is untrained: its run ended before the first iteration did.\n"
    assert said in succeed(*words, "--num_test_runs", 1)
    assert said in succeed(*words, "--name", "new", "--init_from", tmp_path / "task", "--max_iterations", 1)
    assert "untrained" not in succeed(*words, "--name", "new", "--num_test_runs", 1)
