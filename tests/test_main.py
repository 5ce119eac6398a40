"""What a user types, through the real command line: train, start over, test, film."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import (
    CART,
    EVALUATED,
    ROLLOUT,
    TINY,
    call,
    files,
    finish,
    printed_command,
    progress,
    refuse,
    spawn,
    succeed,
    timeless,
    unlike,
)
from PIL import Image
from ranks import ROOT

from ppo_and_friends.checkpoint import StateDirectory, read_state
from ppo_and_friends.config import RunConfig
from ppo_and_friends.registry import build

SHORT = ("--envs_per_proc", 2, "--evaluation.max_episode_steps", 30)


def test_a_run_ends_with_the_command_that_evaluates_it(tmp_path: Path) -> None:
    (tmp_path / "mpi4py.py").write_text("raise ImportError('one process needs none')")
    words = (*CART, "--num_timesteps", 2 * ROLLOUT, "--state_path", tmp_path)
    result = finish(spawn(*words, PYTHONPATH=str(tmp_path)))
    assert (result.code, result.err) == (0, "")
    first, *progress_lines, last = result.out.splitlines()
    assert re.fullmatch(
        r"CartPole-v1 on gymnasium in process: device cpu, 1 rank of 2 rows and \d+ threads? each", first
    )
    assert any(line.startswith("100% 128/128 steps") for line in progress_lines)
    assert last.startswith(f"Done: 128 timesteps. To evaluate: python {ROOT / 'main.py'} -e CartPole")
    assert "20 episodes" in succeed(*printed_command(result.out), *SHORT)


def test_a_run_writes_its_settings_provenance_progress_and_events(trained: Path) -> None:
    names = {name.partition(".out")[0] for name in files(trained / "CartPole")}
    assert {"config.json", "provenance.json", "progress.csv", "manifest.json", "tensorboard/events"} <= names
    assert progress(trained / "CartPole") == [1, 2, 3, 4]
    assert "evaluation_return" in (trained / "CartPole" / "progress.csv").read_text().splitlines()[0]
    assert "main" not in json.loads((trained / "CartPole" / "config.json").read_text())["environment"]


def test_clobber_starts_over(path: Path) -> None:
    old = set(files(path / "CartPole"))
    out = succeed(*CART, "--num_timesteps", ROLLOUT, "--clobber", "--state_path", path)
    assert "Resumed" not in out and progress(path / "CartPole") == [1]
    states = {name for name in old if name.startswith("state-")}
    assert states and not states & set(files(path / "CartPole"))
    assert read_state(path / "CartPole")["shared"]["iteration"] == 1


def test_clobber_keeps_the_old_state_until_the_new_run_has_saved(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = files(path / "CartPole")
    real = StateDirectory.save
    seen: list[set[str]] = []

    def save(self: StateDirectory, *arguments: Any, **keywords: Any) -> Path:
        seen.append(set(files(path / "CartPole")))
        return real(self, *arguments, **keywords)

    monkeypatch.setattr(StateDirectory, "save", save)
    succeed(*CART, "--num_timesteps", ROLLOUT, "--clobber", "--state_path", path)
    assert set(before) <= seen[0] and not {name for name in before if name.startswith("state-")} & seen[1]


def test_a_test_plays_exactly_so_many_episodes_and_moves_nothing(path: Path) -> None:
    before = files(path)
    words = ("-e", "CartPole", *SHORT, "--envs_per_proc", 3, "--state_path", path, "--num_test_runs", 7)
    out = succeed(*words)
    assert "7 episodes" in out and "return" in out and "length" in out
    assert files(path) == before
    assert succeed(*words, "--ppo.lr", 0.1) == out  # nor does learning's settings' change matter
    assert succeed(*words, "--test_explore") != out
    assert succeed(*words, "--test_explore", "--random_seed", 3) != succeed(*words, "--test_explore")
    assert "The seed of this test is --random_seed " in succeed(*words, "--random_seed", -1)
    assert files(path) == before


def test_test_scores_are_saved(path: Path) -> None:
    before = files(path)
    for _ in range(2):
        out = succeed("-e", "CartPole", *SHORT, "--state_path", path, "--num_test_runs", 5, "--save_test_scores")
        table, summary = (Path(word) for word in out.partition("Scores: ")[2].split())
        assert len(table.read_text().splitlines()) == 1 + 5
        assert json.loads(summary.read_text())["episodes"] == 5
    after = files(path)
    assert {name: after[name] for name in before} == before and len(after) == len(before) + 4


def test_a_random_policy_needs_no_state_and_writes_none(tmp_path: Path) -> None:
    out = succeed("-e", "CartPole", "--random_policy", "--num_test_runs", 5, "--state_path", tmp_path / "none")
    assert "5 episodes" in out and not (tmp_path / "none").exists()


def test_a_gif_of_the_first_episode(path: Path) -> None:
    headless = ("env", *(f"--unset={name}" for name in ("SDL_VIDEODRIVER", "DISPLAY", "WAYLAND_DISPLAY", "MUJOCO_GL")))
    words = ("-e", "CartPole", *SHORT, "--state_path", path, "--num_test_runs", 2, "--render_gif")
    result = finish(spawn(*words, before=headless))
    assert result.code == 0, result.err
    file = Path(result.out.partition("GIF: ")[2].strip())
    assert file.is_relative_to(path / "CartPole")
    with Image.open(file) as gif:
        assert gif.n_frames > 3  # type: ignore[attr-defined]
        picture = np.asarray(gif.convert("RGB"))
    assert picture.std() > 1 and picture.max() > 100


def test_checkpoints_by_name_and_by_file(path: Path) -> None:
    directory = path / "CartPole"
    states = sorted(directory.glob("state-*.pt"))
    words = ("-e", "CartPole", *SHORT, "--state_path", path, "--num_test_runs", 1, "--checkpoint")
    assert "1 episode\n" in succeed(*words, "best")
    assert "1 episode\n" in succeed(*words, states[-2])
    assert "does not exist" in refuse(*words, "absent.pt")
    train = (*CART, *EVALUATED, "--num_timesteps", 5 * ROLLOUT, "--state_path", path)
    assert "Resumed CartPole at iteration 3," in succeed(*train, "--checkpoint", states[-2])
    assert progress(directory) == [1, 2, 3, 4, 5]
    best = json.loads((directory / "manifest.json").read_text())["best"]
    iteration = int(best.split("-")[1])
    out = succeed(*train, "--checkpoint", "best", "--num_timesteps", 6 * ROLLOUT)
    assert f"at iteration {iteration}," in out


def test_a_new_run_from_other_weights(path: Path) -> None:
    source = read_state(path / "CartPole")["shared"]["groups"][0]
    words = (*CART, "--name", "second", "--num_timesteps", ROLLOUT, "--state_path", path)
    out = succeed(*words, "--init_from", path / "CartPole")
    assert "Starting from the weights and normalisers" in out
    first = read_state(next((path / "second").glob("state-00000000-*.pt")))["shared"]
    assert (first["iteration"], first["timesteps"]) == (0, 0)
    assert unlike(first["groups"][0]["net"], source["net"]) == []
    adam = [part for part in first["groups"][0]["learner"]["adam"].values() if isinstance(part, torch.Tensor)]
    assert adam and not any(part.any() for part in adam)
    assert progress(path / "second") == [1]
    assert "has a state already" in refuse(*words, "--init_from", path / "CartPole")


def test_a_run_that_cannot_begin_leaves_no_directory(path: Path) -> None:
    words = (*CART, "--name", "second", "--state_path", path, "--init_from")
    assert "There is no state at /nope" in refuse(*words, "/nope")
    assert "does not fit" in refuse(*words, path / "CartPole", "--net.actor.hidden", 3)
    assert not (path / "second").exists()


def test_saved_settings_are_read_back(path: Path) -> None:
    config = path / "CartPole" / "config.json"
    shown = succeed("--config", config, "--print_config").splitlines()
    assert "--ppo.steps_total 64  # launcher: 1024" in shown
    out = succeed("--config", config, "--name", "again", "--ppo.gamma", 0.9, "--state_path", path)
    assert f"Done: {4 * ROLLOUT} timesteps" in out
    again = json.loads((path / "again" / "config.json").read_text())["experiment"]
    before = json.loads(config.read_text())["experiment"]
    assert again["ppo"].pop("gamma") == 0.9 and before["ppo"].pop("gamma") == 0.98
    assert again == before


def test_the_list_names_every_experiment() -> None:
    lines = succeed("--list").splitlines()
    assert all(len(line.split(None, 1)) == 2 for line in lines)
    assert {"CartPole", "LunarLander", "Ant"} <= {line.split()[0] for line in lines}


def test_a_launcher_of_ones_own(tmp_path: Path) -> None:
    words = ("-e", f"{ROOT / 'examples' / 'my_env.py'}:MyTask", *TINY, "--state_path", tmp_path)
    out = succeed(*words, "--num_timesteps", ROLLOUT, "--env_workers", 2)
    assert "2 worker processes" in out and (tmp_path / "MyTask" / "manifest.json").exists()
    assert "4 episodes" in succeed(*printed_command(out), "--num_test_runs", 4)


def test_any_gymnasium_id(tmp_path: Path) -> None:
    words = ("-e", "gymnasium:FrozenLake-v1", "--env.map_name", "8x8", *TINY, "--state_path", tmp_path)
    out = succeed(*words, "--num_timesteps", ROLLOUT)
    assert out.startswith("FrozenLake-v1 on gymnasium")
    assert "3 episodes" in succeed(*printed_command(out), *SHORT, "--num_test_runs", 3)


def test_names_limits_and_saves(tmp_path: Path) -> None:
    words = (*CART, "--name", "short", "--max_iterations", 5, "--save_every", 2, "--state_path", tmp_path)
    out = succeed(*words)
    assert f"Done: {5 * ROLLOUT} timesteps" in out and "--name short" in out
    saved = sorted(int(file.name.split("-")[1]) for file in (tmp_path / "short").glob("state-*.pt"))
    assert saved == [2, 4, 5]


def test_a_drawn_seed_is_said_and_can_be_given(tmp_path: Path) -> None:
    words = (*CART, "--max_iterations", 1, "--state_path", tmp_path)
    out = succeed(*words, "--name", "drawn", "--random_seed", -1)
    seed = re.search(r"--random_seed (\d+)", out)
    assert seed is not None
    succeed(*words, "--name", "given", "--random_seed", seed[1])
    succeed(*words, "--name", "default")
    drawn, given, default = (timeless(tmp_path / name) for name in ("drawn", "given", "default"))
    assert unlike(drawn, given) == []
    assert unlike(drawn["shared"]["groups"], default["shared"]["groups"])


def test_the_defaults_of_a_run() -> None:
    assert (RunConfig().state_path, build("cartpole").name) == ("saved_states", "CartPole")


def test_a_terminal_less_run_has_no_control_characters(trained: Path, tmp_path: Path) -> None:
    result = call(*CART, "--num_timesteps", ROLLOUT, "--state_path", tmp_path)
    assert "\x1b" not in result.out and "\r" not in result.out
