"""The scripts in benchmarks/ for GPUs, on Warp's CPU backend: what they measure, continue and compare."""

from __future__ import annotations

import argparse
import csv
import math
from dataclasses import replace
from math import inf
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import common
import curves
import gpu_env
import gpu_learning
import gpu_peers
import gpu_rates
import gpu_report
import gpu_runs
import gpu_scaling
import pytest
import rl_games_side
import rsl_rl_side
import torch
from curves import Point
from gpu_scripts import ORIGIN, call

from ppo_and_friends import registry
from ppo_and_friends.config import PPOConfig

# Compiling takes 50 s of the first two iterations; then one of 100 steps takes a second, and returns are 0, 10, 20 ...
SLOW_START = [Point(100 * (index + 1), 50.0 + index if index else 25.0, 10.0 * index) for index in range(40)]


pytestmark = pytest.mark.usefixtures("elsewhere")


def options(folder: Path, limit: float = 1000.0) -> argparse.Namespace:
    return argparse.Namespace(results=folder, seconds_limit=limit)


def test_speed_and_seconds_leave_the_warm_up_out() -> None:
    assert curves.rate(SLOW_START) == 100.0
    assert curves.training_seconds(SLOW_START)[-1] == pytest.approx(40.0)
    with pytest.raises(ValueError, match="too few"):
        curves.rate(SLOW_START[:1])


def test_what_is_read_off_a_curve() -> None:
    assert curves.return_at(SLOW_START, 150) == 10.0 and math.isnan(curves.return_at(SLOW_START, 10_000))
    assert curves.time_to(SLOW_START, 105.0) == (1200, pytest.approx(12.0))
    assert curves.time_to(SLOW_START, 1000.0) is None
    assert curves.parsed(curves.returns(SLOW_START, [100, 4000])) == {100: 0.0, 4000: 390.0}


def test_the_largest_loss_is_of_the_highest_return_before() -> None:
    heights = [math.nan, 10.0, 5.0, 100.0, 70.0, 200.0, 180.0]
    points = [Point(index, float(index), height) for index, height in enumerate(heights)]
    assert curves.largest_loss(points, 0) == 50.0
    assert curves.largest_loss(points, 3) == 30.0
    assert curves.largest_loss(points, 6) == 10.0


def test_a_recorder_ends_a_run_at_its_steps_and_at_its_limit(tmp_path: Path) -> None:
    recorder = curves.Recorder(tmp_path / "curve.csv", 200, inf)
    recorder.begin()
    assert [recorder.add(100, math.nan), recorder.add(200, 7.0)] == [False, True]
    recorder.close()
    assert [(point.steps, point.mean_return) for point in curves.read(tmp_path / "curve.csv")][1] == (200, 7.0)
    assert curves.Recorder(None, 200, -1.0).add(100, 0.0)


def test_only_what_is_missing_is_done_and_a_failure_stops_nothing_else(tmp_path: Path) -> None:
    calls: list[int] = []

    def job(number: int) -> common.Job:
        def run(left: float) -> common.Row | None:
            calls.append(number)
            if number == 2 and calls.count(2) == 1:
                raise RuntimeError("no")
            return {"value": number}

        return {"number": number}, run

    jobs = [job(number) for number in (1, 2, 3)]
    assert common.work_through("some", ORIGIN, jobs, options(tmp_path)) == 1
    assert common.work_through("some", ORIGIN, jobs, options(tmp_path)) == 0
    assert calls == [1, 2, 3, 2]
    common.work_through("some", ORIGIN | {"commit": "y"}, jobs[:1], options(tmp_path))
    assert calls[4:] == [1] and [row["number"] for row in common.read("some", tmp_path)] == ["1", "3", "2", "1"]


def test_nothing_is_begun_that_would_end_after_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(common.time, "monotonic", lambda: clock[0])

    def run(left: float) -> common.Row:
        clock[0] += 40.0
        return {"left": left}

    jobs = [({"number": number}, run) for number in range(4)]
    assert common.work_through("some", ORIGIN, jobs, options(tmp_path, 100.0)) == 1
    assert [row["left"] for row in common.read("some", tmp_path)] == ["100.0", "60.0"]


@pytest.mark.parametrize("name", rl_games_side.TASKS)
def test_rl_games_trains_with_the_launchers_settings(name: str) -> None:
    experiment = registry.build(name)
    ppo, rows, steps = experiment.ppo, experiment.envs_per_proc, experiment.num_timesteps
    made = rl_games_side.parameters(name, rows, steps, 1, "cpu", "folder")
    config = made["config"]
    its = PPOConfig(
        lr=type(ppo.lr)(str(config["learning_rate"])),
        gamma=config["gamma"],
        gae_lambda=config["tau"],
        epochs=config["mini_epochs"],
        minibatches=rows * config["horizon_length"] // config["minibatch_size"],
        steps_per_row=config["horizon_length"],
        clip_range=ppo.clip_range,
        value_clip=config["e_clip"],
        value_weight=config["critic_coef"],
        bounds_weight=config["bounds_loss_coef"],
        max_grad_norm=config["grad_norm"] if config["truncate_grads"] else inf,
        target_kl=config["kl_threshold"],
        kl_reference="previous_visit",
        kl_schedule={"legacy": "minibatch", "standard": "epoch"}[config["schedule_type"]],
        timeout_value="acted_on" if config["value_bootstrap"] else "none",
        normalize_rewards=False,
        normalize_values=config["normalize_value"],
        observation_clip=5.0,
        reward_scale=config["reward_shaper"]["scale_value"],
        adam_eps=1e-8,
    )
    if name == "IsaacAnt":  # whose launcher says why its own is larger
        its = replace(its, target_kl=ppo.target_kl)
    assert its == ppo and set(ppo.clip_range.values()) == {config["e_clip"]}
    layers = made["network"]["mlp"]
    body = experiment.net.actor
    assert (tuple(layers["units"]), layers["activation"]) == (body.hidden, body.activation)
    assert config["max_epochs"] * rows * config["horizon_length"] == steps


def test_other_rows_keep_the_number_of_minibatches() -> None:
    config = rl_games_side.parameters("IsaacAnt", 1024, 1, 1, "cpu", "folder")["config"]
    assert config["minibatch_size"] == 1024 * 16 // 2 and config["max_epochs"] == 1


def test_the_adapters_hand_the_environments_tensors_on() -> None:
    env = gpu_env.experiment("IsaacCartpole", "cpu", 2).env.make(2)
    adapter = rl_games_side.Adapter(gpu_env.Captured(env), seed=1)
    adapter.reset()
    obs, reward, ended, infos = adapter.step(torch.ones(2, 1))
    (result,) = adapter.env.result
    assert obs["obs"] is result.obs.actor and reward is result.reward and infos["time_outs"] is result.truncated
    assert ended.tolist() == [False, False]
    info = adapter.get_env_info()
    assert info["observation_space"].shape == (4,) and info["action_space"].high.tolist() == [1.0]


def test_rl_games_ends_when_the_recorder_says_so() -> None:
    recorder = curves.Recorder(None, 100, inf)
    observer = rl_games_side.Observer(recorder)
    agent = SimpleNamespace(frame=50, max_epochs=9, game_rewards=SimpleNamespace(current_size=0))
    observer.after_init(agent)
    observer.after_print_stats(0, 1, 0.0)
    assert agent.max_epochs == 9
    agent.frame = 100
    observer.after_print_stats(50, 2, 0.0)
    assert agent.max_epochs == 2 and recorder.count == 2


@pytest.mark.parametrize("side", ["rl_games", "rsl_rl"])
def test_a_peer_learns_on_this_environment(side: str, tmp_path: Path) -> None:
    pytest.importorskip(side)
    path = tmp_path / "curve.csv"
    made = argparse.Namespace(side=side, name="IsaacCartpole", device="cpu", rows=32, steps=20_000, flags=[], seed=1)
    made.curve, made.seconds_limit = path, inf
    gpu_runs.peer(made)
    points = curves.read(path)
    assert points[-1].steps >= 20_000 and points[-1].mean_return > 25


def test_what_a_step_consists_of_is_timed() -> None:
    settings = argparse.Namespace(tasks=["IsaacCartpole"], rows=[4], device="cpu", seconds=0.0)
    row = gpu_rates.measure(settings)
    assert row["steps_per_iteration"] == 16
    spent = [float(row[f"{name}_ms"]) for name in ("physics", "step", "inference", "iteration")]
    assert all(value > 0 for value in spent) and spent[0] < spent[3]
    assert float(row["training_steps"]) == pytest.approx(4 * 16 / (spent[3] / 1000), rel=1e-3)


def test_learning_is_measured_once_and_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("--rows", 8, "--steps", 512, "--seeds", 1, "--until", 1e6, "--device", "cpu", "--results", tmp_path)
    flags = ("--", "--ppo.epochs", 1)
    assert call(gpu_learning, monkeypatch, "IsaacCartpole", *words, *flags) == 0
    (row,) = common.read("gpu_learning", tmp_path)
    assert (row["loss_after"], row["simulation_failures"], row["contact_overflow"]) == ("170", "0", "0")
    assert (row["task"], row["flags"], row["threshold_steps"]) == ("IsaacCartpole", "--ppo.epochs 1", "")
    (file,) = (tmp_path / "gpu_curves").iterdir()
    with open(file, newline="") as lines:
        assert [line["iteration"] for line in csv.DictReader(lines)] == ["1", "2", "3"]
    monkeypatch.setattr(gpu_runs, "run", lambda *_, **__: pytest.fail("it was measured before"))
    assert call(gpu_learning, monkeypatch, "IsaacCartpole", *words, *flags) == 0
    text = "\n".join(gpu_report.sections(tmp_path, "Not measured yet.\n"))
    assert "| IsaacCartpole `--ppo.epochs 1` | 8 | 512 |" in text and "0 of 1 reached 1e+06" in text


def test_sides_take_turns_and_their_ratio_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[tuple[str, int]] = []

    def run(side: str, *_: Any, seed: int, **__: Any) -> list[Point]:
        order.append((side, seed))
        slower = 1 if side == "ours" else 4
        return [Point(point.steps, slower * point.seconds, 10.0 * seed) for point in SLOW_START]

    monkeypatch.setattr(gpu_runs, "run", run)
    words = ("--steps", 4000, "--seeds", 1, 2, "--checkpoints", 2000, "--device", "cpu", "--results", tmp_path)
    assert call(gpu_peers, monkeypatch, "--sides", "ours", "rl_games", *words) == 0
    assert order == [("ours", 1), ("rl_games", 1), ("rl_games", 2), ("ours", 2)]
    text = "\n".join(gpu_report.sections(tmp_path, ""))
    call(gpu_peers, monkeypatch, "--sides", "ours", "rl_games", *words, "--seeds", 4)
    assert order[4:] == [("rl_games", 4), ("ours", 4)]
    assert "| IsaacAnt | 4096 | 4,000 | rl_games | 1, 2 | 25 | 4.00 | 160 | 356 | 0 of 2 reached 5873 |" in text
    assert "| IsaacAnt | 4096 | 4,000 | 2,000 | 15.0 +- 5.0 (10.0 to 20.0) | 15.0 +- 5.0 (10.0 to 20.0) |" in text


def test_speed_over_gpus_is_of_each_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[tuple[int, int]] = []

    def run(*_: Any, steps: int, before: Any, **__: Any) -> list[Point]:
        started.append((steps, len(before)))
        return [Point(point.steps * (1 + bool(before)), point.seconds, 0.0) for point in SLOW_START]

    monkeypatch.setattr(gpu_runs, "run", run)
    words = ("--gpus", 1, 4, "--rows", 64, "--iterations", 10, "--rounds", 1, "--launcher", "torchrun")
    assert call(gpu_scaling, monkeypatch, *words, "--device", "cpu", "--results", tmp_path) == 0
    assert started == [(10 * 16 * 64, 0), (10 * 16 * 256, 6)] and "--nproc-per-node=4" in gpu_scaling.torchrun(4)
    text = "\n".join(gpu_report.sections(tmp_path, ""))
    assert "| IsaacAnt | 64 | torchrun | 4 | 1 | 200 | 50 | 0.500 |" in text


def test_rsl_rl_gets_the_launchers_settings() -> None:
    settings = rsl_rl_side.settings(registry.build("IsaacAnt"))
    assert settings["num_steps_per_env"] == 16 and settings["actor"]["hidden_dims"] == [256, 128, 64]
    assert settings["algorithm"]["value_loss_coef"] == 1.0 and settings["algorithm"]["learning_rate"] == 3e-4


def test_rows_may_be_given_as_a_flag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(gpu_runs, "run", lambda *_, **named: asked.append(named["rows"]) or SLOW_START)
    words = ("--seeds", 1, "--device", "cpu", "--results", tmp_path, "--", "--envs_per_proc", 24)
    assert call(gpu_learning, monkeypatch, "IsaacCartpole", *words) == 0
    assert asked == [24] and common.read("gpu_learning", tmp_path)[0]["rows"] == "24"


def test_trouble_of_a_run_is_summed() -> None:
    points = [*SLOW_START[:30], *(point._replace(failures=2.0, overflows=0.5) for point in SLOW_START[30:])]
    assert curves.summary(points, 0.0, 0, [])["simulation_failures"] == ""
    summary = curves.summary(points[30:], 350.0, 0, [4000])
    assert (summary["simulation_failures"], summary["contact_overflow"]) == ("20", "5")
    assert (summary["threshold_steps"], summary["returns"]) == (3600, "4000:390.0")
    assert curves.summary(points, 350.0, 0, [], alone=False)["threshold_seconds"] == ""
