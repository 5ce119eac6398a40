"""The Isaac tasks' robots: masses, forces, symmetry, and where they start."""

from __future__ import annotations

from math import pi, radians
from typing import Any

import numpy as np
import pytest
import torch
from isaac_tasks import World, assert_near
from torch import Tensor

from environments.tasks.isaac_ant import IsaacAnt
from environments.tasks.isaac_anymal import DEFAULT, IsaacAnymal
from environments.tasks.isaac_ball_balance import IsaacBallBalance
from environments.tasks.isaac_cartpole import IsaacCartpole
from environments.tasks.isaac_humanoid import GEARS, IsaacHumanoid
from ppo_and_friends import registry

mujoco = pytest.importorskip("mujoco")


@pytest.mark.parametrize(
    ("task", "mass", "seconds"),
    [
        (IsaacCartpole(), 2.0, 0.0166),
        (IsaacAnt(), 0.911, 0.0166),
        (IsaacHumanoid(), 40.84, 0.0166),
        (IsaacBallBalance(), 1.571 + 0.838 + 6 * 0.486, 0.01),
        (IsaacAnymal(), 52.135, 0.02),
    ],
    ids=lambda value: value.name if hasattr(value, "name") else "",
)
def test_masses_and_time(task: Any, mass: float, seconds: float) -> None:
    model = task.model()
    assert float(model.body_mass.sum()) == pytest.approx(mass, rel=1e-3)
    assert model.opt.timestep * task.substeps == pytest.approx(seconds)


def test_an_ant_is_not_thrown_by_its_own_legs() -> None:
    env = registry.build("IsaacAnt").env.make(128)
    env.reset(0)
    speeds, generator, fastest = env.sim.bind("qvel"), torch.Generator().manual_seed(2), 0.0  # type: ignore[attr-defined]
    for step in range(150):
        if step % 5 == 0:
            action = torch.randn(128, 8, generator=generator).sign()
        env.step((action,))
        fastest = max(fastest, float(speeds.abs().max()))
    assert 10 < fastest < 200


def test_cartpole_is_pushed_with_400_newtons() -> None:
    """Under a push the upright pole of 1 kg lags: the cart moves as if all weighed 1.2746 kg."""
    world = World(IsaacCartpole())
    world.set("qpos", [0.0, 0.0])
    world.set("qvel", [0.0, 0.0])
    inertia = (1 + 0.06**2) / 12 + 0.47**2
    world.step([0.01])
    assert float(world.sim.bind("qvel")[0, 0]) == pytest.approx(0.0166 * 4 / (2 - 0.47**2 / inertia), rel=1e-3)


def test_ant_progress_is_that_of_one_step() -> None:
    world = World(IsaacAnt())
    world.set("qpos", [0, 0, 5.0])  # in the air
    world.set("qvel", [3.0, 0, 0])
    assert float(world.step([0.0] * 8, 3).log["reward_progress"][0]) == pytest.approx(3.0, rel=1e-3)


def test_ant_stands_on_its_feet() -> None:
    """What the legs above press on the feet with, turned into the world, is the weight of all but the feet."""
    world = World(IsaacAnt())
    world.step([0.0] * 8, 150)
    model = world.task.model()
    data = mujoco.MjData(model)
    data.qpos[:] = world.sim.bind("qpos")[0].numpy()
    mujoco.mj_forward(model, data)
    sites = data.site_xmat.reshape(4, 3, 3)
    forces = world.sim.bind("sensordata")[0].numpy().reshape(4, 6)[:, :3]
    downwards = -np.einsum("sij,sj->si", sites, forces)[:, 2]
    feet = [model.site_bodyid[site] for site in range(4)]
    carried = 9.81 * (model.body_mass.sum() - model.body_mass[feet].sum())
    assert carried == pytest.approx(9.81 * (0.91088 - 4 * 0.067592), rel=1e-4)
    assert downwards.sum() == pytest.approx(carried, rel=0.001) and (downwards > 0).all()


def test_humanoid_is_symmetric() -> None:
    """Left and right move alike for the same number: from a mirrored pose it moves in the mirror."""
    names = list(GEARS)
    other = {"right": "left", "left": "right"}
    sides = [name.split("_", 1) for name in names]
    swapped = [names.index(f"{other.get(side, side)}_{rest}") for side, rest in sides]
    # both ankles turn about the same axis, and the mirror turns what is about x or z
    turned = [name in ("abdomen_z", "abdomen_x") or name.endswith("ankle_x") for name in names]
    sign = torch.tensor([-1.0 if flips else 1.0 for flips in turned], dtype=torch.float64)
    angles = torch.from_numpy(np.random.default_rng(0).uniform(-0.1, 0.0, 21))
    action = torch.linspace(-1, 1, 21)
    ends = []
    for pose, push in ((angles, action), (sign * angles[swapped], sign.float() * action[swapped])):
        world = World(IsaacHumanoid())
        world.set("qpos", [0, 0, 1.4, 1, 0, 0, 0, *pose])
        world.set("qvel", [0.0] * 27)
        world.step(push, 5)
        ends.append(world.sim.bind("qpos")[0, 7:].clone())
    assert_near(world.task.model().joint("right_shoulder_1").axis, [value / 6**0.5 for value in (2, 1, 1)])
    assert_near(ends[1], sign * ends[0][swapped], 1e-4)
    assert not torch.allclose(ends[1], ends[0], atol=0.05)


def test_ball_rests_on_the_tray() -> None:
    world = World(IsaacBallBalance())
    world.set("qpos", [0.0, 0.0, 1.0], 13)
    world.set("qvel", [0.0, 0.0, -5.0], 12)
    step = world.step([0.0] * 3, 150)
    tray, ball = float(world.sim.bind("qpos")[0, 2]), world.sim.bind("qpos")[0, 13:16]
    assert tray == pytest.approx(0.559, abs=2e-3)
    assert_near(ball, [0, 0, 0.559 + 0.01 + 0.1], 0.01)
    assert float(step.reward[0]) > 0.95
    downwards = -world.sim.bind("sensordata")[0].reshape(3, 6)[:, 2]
    weight = 9.81 * (100 * pi * 0.5**2 * 0.02 + 200 * 4 / 3 * pi * 0.1**3)
    assert float(downwards.sum()) == pytest.approx(weight, rel=0.001)


def test_anymal_stands_and_may_not_lie_on_its_back() -> None:
    world = World(IsaacAnymal())
    lower, upper = world.task.joint_limits  # of the four hips
    assert_near([*lower, *upper], [-0.72, -0.72, -0.49, -0.49, 0.49, 0.49, 0.72, 0.72])
    step = world.step([0.0] * 12, 100)
    assert 0.48 < float(world.sim.bind("qpos")[0, 2]) < 0.56 and not step.terminated[0]
    assert_near(world.sim.bind("ctrl")[0], DEFAULT)
    world.set("qpos", [0, 0, 0.085, 0, 1, 0, 0])
    assert world.step([0.0] * 12).terminated[0]


@pytest.mark.parametrize("task", [IsaacAnymal(), IsaacBallBalance()], ids=lambda task: task.name)
def test_drives_follow_targets_of_more_than_a_radian(task: Any) -> None:
    """MuJoCo silently keeps controls within an actuator's ctrlrange."""
    assert not task.model().actuator_ctrllimited.any()


# ---- resets


def spread(values: Tensor, low: float, high: float) -> None:
    """Within the bounds, and near both."""
    assert low <= float(values.min()) < low + 0.1 * (high - low)
    assert high - 0.1 * (high - low) < float(values.max()) <= high


def test_resets() -> None:
    rows = 200
    cartpole = World(IsaacCartpole(), rows).sim
    spread(cartpole.bind("qpos"), -0.1, 0.1)
    spread(cartpole.bind("qvel"), -0.25, 0.25)
    ant = World(IsaacAnt(), rows).sim
    assert_near(ant.bind("qpos")[:, :7], torch.tensor([0, 0, 0.44, 1, 0, 0, 0]).expand(rows, -1), 1e-7)
    spread(ant.bind("qpos")[:, 7::2], -0.2, 0.2)
    ankle = ant.bind("qpos")[:, 10]
    spread(ankle, radians(-30) - 0.2, radians(-30))
    assert 0.3 < float((ankle == radians(-30)).double().mean()) < 0.7  # clipped at its limit
    assert not ant.bind("qvel")[:, :6].any()
    spread(ant.bind("qvel")[:, 6:], -0.1, 0.1)
    humanoid = World(IsaacHumanoid(), rows).sim
    assert_near(humanoid.bind("qpos")[:, 2], torch.full((rows,), 1.34))
    spread(humanoid.bind("qpos")[:, 7:9], -0.2, 0.2)
    spread(humanoid.bind("qpos")[:, 13], -0.2, radians(2))  # the right knee
    balance = World(IsaacBallBalance(), rows).sim
    ball, speed = balance.bind("qpos")[:, 13:16], balance.bind("qvel")[:, 12:15]
    distance = ball[:, :2].norm(dim=1)
    spread(distance, 0.001, 0.5)
    spread(ball[:, 2], 1, 2)
    assert (speed[:, 2] == -5).all()
    inwards = -(speed[:, :2] * ball[:, :2]).sum(1) / distance
    assert_near(inwards, speed[:, :2].norm(dim=1))
    spread(inwards / ((distance - 0.001) / 0.499), 0, 5)
    assert_near(balance.bind("qpos")[:, 2], torch.full((rows,), 0.559))
    world = World(IsaacAnymal(), rows)
    spread(world.sim.bind("qpos")[:, 7:] / torch.tensor(DEFAULT), 0.5, 1.5)
    for column, bound in enumerate((2, 1, 1)):
        spread(world.memory["command"][:, column], -bound, bound)
