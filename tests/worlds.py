"""Worlds of MuJoCo Warp on its CPU backend, and the two engines side by side, for the tests of the GPU engine."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from ppo_and_friends.vector.sim.camera import choose_gl_backend

choose_gl_backend()

import mujoco  # after choose_gl_backend, and so is what imports it

from ppo_and_friends import simulator
from ppo_and_friends.vector.sim.device_env import DeviceTaskEnv
from ppo_and_friends.vector.sim.task_env import SimEnv
from ppo_and_friends.vector.sim.warp_gpu import WarpSim, supported
from ppo_and_friends.vector.sim.warp_limits import Limits


def comparable(task: Any) -> Any:
    """The task's model as both engines solve it alike: Newton's solver, and a friction cone instead of a pyramid,
    which mujoco_warp turns another way than MuJoCo where a capsule stands steeply on a plane."""
    model = copy.copy(supported(task.model()))
    model.opt.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    return model


def device_env(task: Any, rows: int, limits: Limits | None = None) -> DeviceTaskEnv:
    return DeviceTaskEnv(task, WarpSim(task.model(), rows, task.name, "cpu", limits), "test")


def random_actions(task: Any, rows: int, steps: int, seed: int = 0) -> Tensor:
    """[steps, rows, columns], anywhere within the bounds."""
    low, high = torch.tensor(task.action.low), torch.tensor(task.action.high)
    return low + (high - low) * torch.rand(steps, rows, len(low), generator=torch.Generator().manual_seed(seed))


def rows_of(*numbers: int, of: int) -> Tensor:
    """[of] bool: True for these rows."""
    mask = torch.zeros(of, dtype=torch.bool)
    mask[list(numbers)] = True
    return mask


def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that has one, and Warp on it; played by Warp's CPU backend."""
    monkeypatch.setattr(simulator, "obstacle", lambda: "")
    monkeypatch.setattr(simulator, "_on_warp", lambda experiment, *_: experiment.env)
    monkeypatch.setitem(simulator.ENGINES, "warp", simulator.Engine(simulator._on_warp))
    monkeypatch.setattr(
        SimEnv,
        "_on_gpu",
        lambda self, model, rows: device_env(self.task, rows, Limits(self.max_contacts, self.max_constraints)),
    )


def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
