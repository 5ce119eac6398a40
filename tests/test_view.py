"""Rows on a screen while they are stepped, which nothing but the screen may notice."""

from __future__ import annotations

import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from carts import Carts, environment
from commands import refuse, unlike

from environments.tasks.half_cheetah import HalfCheetah
from environments.tasks.isaac_cartpole import IsaacCartpole
from ppo_and_friends import registry, training
from ppo_and_friends.config import RunConfig
from ppo_and_friends.errors import UserError
from ppo_and_friends.ppo import PPO
from ppo_and_friends.vector.sim.simulation import Simulation
from ppo_and_friends.view import window
from ppo_and_friends.view.browser import Browser
from ppo_and_friends.view.stage import Stage
from ppo_and_friends.view.watch import NoWatch, Pace, Watch, watch

PATIENCE = 20.0  # seconds after which a screen that was never asked fails the test


class Screen:
    """Keeps what it was shown; a failing one raises."""

    told = "in a test"

    def __init__(self, fails: bool = False) -> None:
        self.fails, self.closed = fails, False
        self.shown: list[np.ndarray] = []
        self.changed = threading.Event()

    def ready(self) -> bool:
        return True

    def show(self, qpos: np.ndarray) -> None:
        if self.fails:
            raise ValueError("no light")
        self.shown.append(qpos)
        self.changed.set()

    def close(self) -> None:
        self.closed = True

    def next(self) -> np.ndarray:
        """What is shown after this call."""
        for _ in range(2):  # the first may have been read before
            self.changed.clear()
            assert self.changed.wait(PATIENCE)
        return self.shown[-1]


class Remote:
    """The positions of a simulation as if they were on a GPU."""

    def __init__(self, sim: Simulation) -> None:
        self.sim, self.device = sim, torch.device("cuda")

    def bind(self, field: str) -> torch.Tensor:
        return self.sim.bind(field)


def test_the_first_rows_are_shown_as_they_are() -> None:
    env, screen = environment(Carts()), Screen()
    qpos = env.sim.bind("qpos")
    with Watch(env.sim, 2, screen):
        for value in (1.0, 2.0):
            qpos.fill_(value)
            assert (screen.next() == np.full((2, 2), value)).all()
    assert screen.closed


def test_rows_on_a_gpu_are_read_only_when_pulled(monkeypatch: pytest.MonkeyPatch) -> None:
    env, screen = environment(Carts()), Screen()
    qpos = env.sim.bind("qpos").fill_(1.0)
    with Watch(Remote(env.sim), 2, screen) as watcher:  # type: ignore[arg-type]
        qpos.fill_(2.0)
        assert (screen.next() == 1.0).all()
        watcher.pull()
        assert (screen.next() == 2.0).all()


def test_a_screen_that_fails_ends_the_showing_only(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen(fails=True)
    with Watch(environment(Carts()).sim, 2, screen) as watcher:
        watcher.wait(PATIENCE)
    assert capsys.readouterr().err == "--view ended (ValueError: no light); the run goes on.\n"


def trained(directory: Path, **run: Any) -> PPO:
    experiment = replace(registry.build("InvertedPendulum"), envs_per_proc=3, compile="off")
    experiment = replace(experiment, ppo=replace(experiment.ppo, steps_total=96, epochs=1))
    settings = RunConfig(state_path=str(directory), max_iterations=3, **run)
    return PPO(experiment, settings, reference="InvertedPendulum").learn()


def test_training_does_not_notice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, screens = trained(tmp_path / "plain"), []

    def make(stage: Stage, title: str, again: Path) -> Screen:
        assert (stage.rows, again) == (2, tmp_path / "seen" / "InvertedPendulum" / "view")
        screens.append(Screen())
        return screens[-1]

    monkeypatch.setattr(training, "watch", lambda env, run, path: watch(env, run, path, make))
    seen = trained(tmp_path / "seen", view=True, view_rows=2)
    assert screens[0].closed
    assert unlike(plain.shared_state(), seen.shared_state()) == []
    assert unlike(plain.own_state(), seen.own_state()) == []


def test_other_environments_are_refused(tmp_path: Path) -> None:
    told = refuse("-e", "CartPole", "--view", "--state_path", tmp_path)
    assert "--view shows MuJoCo tasks, and CartPole-v1 is not one" in told and "--render" in told
    assert not any(tmp_path.iterdir())


def test_without_a_display_and_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mjviser", None)
    with pytest.raises(UserError, match=r'needs mjviser .*pip install "\.\[view\]"'):
        Browser(Stage(Carts().model(), 1), "carts")


def test_no_display_no_window(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert not window.opens()
    monkeypatch.setenv("DISPLAY", ":987")  # which does not answer
    assert not window.opens()


def test_a_closed_window_opens_again_when_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Handle] = []

    class Handle:
        running = True

        def is_running(self) -> bool:
            return self.running

    def open_(self: window.Window) -> Handle:
        opened.append(Handle())
        return opened[-1]

    monkeypatch.setattr(window.Window, "_opened", open_)
    screen = window.Window(Stage(Carts().model(), 1), tmp_path / "view")
    assert screen.ready() and len(opened) == 1
    opened[0].running = False
    assert not screen.ready() and len(opened) == 1
    (tmp_path / "view").touch()
    assert screen.ready() and len(opened) == 2
    assert not (tmp_path / "view").exists()


def test_robots_stand_beside_the_first() -> None:
    stage = Stage(HalfCheetah().model(), 3)
    qpos = np.repeat(stage.model.qpos0[None], 3, axis=0)
    qpos[:, 0], qpos[:, 1] = (5.0, -40.0, 70.0), (0.0, 0.3, 0.0)
    stage.set(qpos)
    trunks = np.stack([data.xpos[stage.trunk] for data in stage.data]) + stage.shifts()
    assert trunks[:, 0] == pytest.approx([5.0] * 3)
    assert trunks[1, 1] == pytest.approx(-trunks[2, 1]) and abs(trunks[1, 1]) > 1
    assert trunks[1, 2] == pytest.approx(trunks[0, 2] + 0.3)


def test_rows_on_rails_keep_their_places() -> None:
    """Its rails are 8 m long and lie along y."""
    stage = Stage(IsaacCartpole().model(), 3)
    assert stage.trunk == 0 and len(stage.fixed) == 1
    before = stage.shifts()
    stage.set(stage.model.qpos0 + np.array([[0.0], [1.0], [2.0]]))
    assert (stage.shifts() == before).all()
    assert (before[:, 1:] == 0).all() and 0 < abs(before[1, 0]) < 4


def test_a_test_goes_at_the_pace_of_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    now, slept = [100.0], []

    def sleep(seconds: float) -> None:
        assert seconds >= 0
        slept.append(seconds)
        now[0] += seconds

    def clock() -> float:
        now[0] += 1e-6  # as real ones do from call to call
        return now[0]

    monkeypatch.setattr("ppo_and_friends.view.watch.time.monotonic", clock)
    monkeypatch.setattr("ppo_and_friends.view.watch.time.sleep", sleep)
    pace = Pace(NoWatch(), 20)
    for spent in (0.0, 0.01, 0.2, 0.0):  # of which 0.2 is late, and not made up for
        now[0] += spent
        assert not pace.wants_frame()
    assert slept == pytest.approx([0.0, 0.04, 0.0, 0.05], abs=1e-4)
