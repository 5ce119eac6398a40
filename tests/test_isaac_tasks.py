"""What the Isaac tasks observe and reward: every number is worked out by hand from a state that is set."""

from __future__ import annotations

from math import atan2, cos, exp, pi, radians, sin

import pytest
import torch
from isaac_tasks import World, assert_near

from environments.tasks.isaac_ant import IsaacAnt
from environments.tasks.isaac_anymal import IsaacAnymal
from environments.tasks.isaac_ball_balance import IsaacBallBalance
from environments.tasks.isaac_cartpole import IsaacCartpole
from environments.tasks.isaac_humanoid import IsaacHumanoid
from environments.tasks.isaac_locomotion import progress
from environments.tasks.isaac_rotations import body_axes, roll_yaw, rotate, rotate_inverse, wrap

YAW_90 = (cos(pi / 4), 0.0, 0.0, sin(pi / 4))
ROLL_90 = (cos(pi / 4), sin(pi / 4), 0.0, 0.0)


# ---- rotations


def test_rotations() -> None:
    turned = torch.tensor([YAW_90, ROLL_90], dtype=torch.float64)
    vector = torch.tensor([[1.0, 2.0, 3.0]] * 2, dtype=torch.float64)
    assert_near(rotate(turned, vector), [[-2, 1, 3], [1, -3, 2]])
    assert_near(rotate_inverse(turned, vector), [[2, -1, 3], [1, 3, -2]])
    axes = body_axes(turned)
    assert_near(axes[:, :2], [[0, 1], [1, 0]])
    assert_near(axes[:, 8], [1, 0])
    assert_near(torch.stack(roll_yaw(axes), 1), [[0, pi / 2], [pi / 2, 0]])
    assert_near(wrap(torch.tensor([3 * pi / 2, -7.0])), [-pi / 2, 2 * pi - 7], 1e-6)


def test_progress_keeps_its_digits_in_single_precision() -> None:
    before, after = torch.tensor([[100.0, 3.0]]), torch.tensor([[100.02, 3.01]])
    exact = progress(before.double(), after.double())
    plain = (before.double() - torch.tensor([1000.0, 0])).norm() - (after.double() - torch.tensor([1000.0, 0])).norm()
    assert_near(exact, plain.expand(1), 1e-12)
    assert_near(progress(before, after), exact, 2e-6)  # a plain difference is off by up to 6e-5


# ---- cartpole


def test_cartpole() -> None:
    world = World(IsaacCartpole())
    world.set("qpos", [1.0, 0.5])
    world.set("qvel", [2.0, -3.0])
    assert_near(world.seen(), [1.0, 2.0, 0.5, -3.0])
    reward, ended, _ = world.outcome()
    assert (reward, ended) == (pytest.approx(1 - 0.25 - 0.02 - 0.015), False)
    for position, lost in (([2.99, 1.57], False), ([-3.01, 0.0], True), ([0.0, -1.58], True)):
        world.set("qpos", position)
        assert world.outcome()[:2] == ((-2.0, True) if lost else (pytest.approx(world.outcome()[0]), False))
    world.set("qvel", [7.0, 0.0])
    assert world.seen()[1] == 5.0


# ---- ant


def ant_state(world: World) -> None:
    """Turned to the left, with the target ahead and to the left."""
    angles = [20, 65, -20, -65, 40, -100, -40, 30]
    world.set("qpos", [700, -400, 0.7, *YAW_90, *map(radians, angles)])
    world.set("qvel", [1, 2, 3, 0.1, 0.2, 0.3, *range(8)])
    world.memory["action"][:] = torch.linspace(-1, 0.75, 8)
    world.memory["stepped"][:] = True
    world.set("sensordata", range(24))


def test_ant_observation() -> None:
    world = World(IsaacAnt())
    ant_state(world)
    seen = world.seen()
    assert_near(seen[:7], [0.7, 2, -1, 3, 0.1, 0.2, 0.3])
    assert_near(seen[7:12], [pi / 2, 0, atan2(-0.7, 300) - pi / 2, 1, 0.8])
    assert_near(seen[12:20], [0.5, 0, -0.5, 0, 1, -1, -1, -1])
    assert_near(seen[20:28], [0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4])
    assert_near(seen[28:52], torch.arange(24) / 10)
    assert_near(seen[52:], [-1, -0.75, -0.5, -0.25, 0, 0.25, 0.5, 0.75])
    world.set("qpos", [cos(0.1), 0, 0, -sin(0.1)], 3)
    assert float(world.seen()[7]) == pytest.approx(2 * pi - 0.2)  # yaw is not negative


def test_ant_reward() -> None:
    world = World(IsaacAnt())
    world.set("qpos", [0.0166, 0, 0.5, 1, 0, 0, 0, radians(40), radians(65), radians(39.9), radians(-65)])
    world.set("qpos", [radians(-40), radians(-65), 0, radians(65)], 11)
    world.set("qvel", [9.0] * 6 + [10.0] * 8)
    world.memory["position"][:] = 0
    world.memory["action"][:] = 0.5
    reward, ended, log = world.outcome()
    # one metre a second, alive, upright, straight ahead; 8 actions of 0.5 at 2 rad/s (scaled), 2 joints at their upper end
    assert (reward, ended) == (pytest.approx(1 + 0.5 + 0.1 + 0.5 - 0.005 * 2 - 0.05 * 8 - 0.1 * 2), False)
    assert sum(float(term[0]) for term in log.values()) == pytest.approx(reward - 0.5)
    world.set("qpos", [cos(radians(33)), 0, 0, sin(radians(33))], 3)  # a cosine of 0.4067 to the target
    assert float(world.outcome()[2]["reward_heading"][0]) == pytest.approx(0.5 * cos(radians(66)) / 0.8, abs=1e-6)
    world.set("qpos", [cos(radians(15)), sin(radians(15)), 0, 0], 3)  # leans by 30 degrees
    assert float(world.outcome()[2]["reward_up"][0]) == 0
    world.set("qpos", [0.309], 2)
    assert world.outcome()[:2] == (-2.0, True)


# ---- humanoid


def test_humanoid_observation() -> None:
    world = World(IsaacHumanoid())
    world.set("qpos", [700, -400, 1.0, *YAW_90, *[0.0] * 21])
    world.set("qpos", [radians(45), radians(-22.5), 0, radians(15), radians(-12.5)], 7)  # abdomen z y x, right hip x z
    world.set("qvel", [1, 2, 3, 4, 8, 12, *range(21)])
    world.set("qfrc_actuator", [100.0 * number for number in range(21)], 6)
    world.set("sensordata", range(12))
    world.memory["action"][:] = torch.linspace(-1, 1, 21)
    world.memory["stepped"][:] = True
    seen = world.seen()
    assert_near(seen[:7], [1.0, 2, -1, 3, 1, 2, 3])
    assert_near(seen[7:12], [pi / 2, 0, atan2(-1.0, 300) - pi / 2, 1, 0.8])
    assert_near(seen[12:17], [1, 0, 0, 1, 0])
    knee = (2 * 0 - (2 - 160)) / (2 + 160)
    assert float(seen[12 + world.joint("left_knee")]) == pytest.approx(knee)
    assert_near(seen[33:54], torch.arange(21) / 10)
    assert_near(seen[54:75], torch.arange(21.0))
    assert_near(seen[75:87], torch.arange(12) / 100)
    assert_near(seen[87:], torch.linspace(-1, 1, 21), 1e-6)
    world.set("qpos", [cos(1.5), 0, 0, -sin(1.5)], 3)
    assert_near(world.seen()[[7, 9]], [-3.0, atan2(-1.0, 300) + 3.0])
    world.set("qpos", [cos(1.57), 0, 0, sin(1.57)], 3)
    assert_near(world.seen()[[7, 9]], [3.14, atan2(-1.0, 300) - 3.14 + 2 * pi])  # wrapped


def test_humanoid_reward() -> None:
    world = World(IsaacHumanoid())
    world.set("qpos", [0.0332, 0, 1.2, 1, 0, 0, 0, *[0.0] * 21])
    world.set("qvel", [0.0] * 27)
    world.memory["position"][:] = 0
    world.memory["action"][:] = 0
    for name, action, speed in (("right_hip_y", 1.0, 20.0), ("left_knee", 0.5, -40.0)):
        world.memory["action"][:, world.joint(name)] = action
        world.set("qvel", [speed], 6 + world.joint(name))
    world.set("qpos", [radians(-50)], 7 + world.joint("right_ankle_y"))  # at its end, gear 22.5 of 135
    world.set("qpos", [radians(-12.5 + 0.99 * 47.5)], 7 + world.joint("left_hip_z"))  # 99 %, gear 45
    world.set("qpos", [radians(-20)], 7 + world.joint("left_knee"))
    world.set("qpos", [radians(-20)], 7 + world.joint("right_knee"))  # at 0 they are within 2 % of their ends
    cost = 0.01 * 1.25 + 0.05 * (2 * 1 + 0.5 * 4 * 90 / 135) + 0.25 * 22.5 / 135 + 0.125 * 45 / 135
    reward, ended, _ = world.outcome()
    assert (reward, ended) == (pytest.approx(2 + 2 + 0.1 + 0.5 - cost), False)
    world.set("qpos", [0.79], 2)
    assert world.outcome()[:2] == (-1.0, True)


# ---- ball balance


def test_ball_balance_observation_and_reward() -> None:
    world = World(IsaacBallBalance())
    world.set("qpos", [0.1, 0.2, 0.3, 0.4, 0.5, 0.6], 7)  # upper and lower hinge of each leg
    world.set("qvel", [1, 2, 3, 4, 5, 6], 6)
    world.set("qpos", [0.3, 0, 1.1], 13)
    world.set("qvel", [0, 3, 4], 12)
    world.set("sensordata", [2.0 * number for number in range(18)])
    assert_near(world.seen()[12:], [0.0] * 12)  # nothing was measured yet
    world.memory["stepped"][:] = True
    seen = world.seen()
    assert_near(seen[:12], [0.2, 0.4, 0.6, 2, 4, 5, 0.3, 0, 1.1, 0, 3, 4])  # 6 is clipped to 5
    assert_near(seen[12:], [0, 0.6, 1.2, 0.3, 0.9, 1.5, 0.4, 1.0, 1.6, 0.5, 1.1, 1.7])
    reward, ended, _ = world.outcome()
    assert (reward, ended) == (pytest.approx(1 / 1.5 / 6), False)
    world.set("qpos", [0.149], 15)
    assert world.outcome()[1]


def test_ball_balance_turns_its_targets() -> None:
    world = World(IsaacBallBalance())
    action = torch.tensor([[1.0, -0.5, 0.0]])
    for _ in range(2):
        world.task.apply(world.sim, world.memory, action)
    assert_near(world.sim.bind("ctrl")[0], [0.4, -0.2, 0])
    for _ in range(20):
        world.task.apply(world.sim, world.memory, action)
    assert_near(world.sim.bind("ctrl")[0], [pi / 2, radians(-70), 0])
    world.task.reset(world.sim, world.memory, torch.tensor([True]), world.env._draw)
    assert_near(world.sim.bind("ctrl")[0], [0, 0, 0])


# ---- anymal


def test_anymal_observation() -> None:
    world = World(IsaacAnymal())
    world.set("qpos", [0, 0, 1.0, *ROLL_90, *[0.1] * 12])
    world.set("qvel", [0.5, 1, 2, 0.4, 0.8, 1.2, *range(12)])
    world.memory["command"][:] = torch.tensor([1.0, -0.5, 0.8])
    world.memory["action"][:] = torch.linspace(-0.5, 0.6, 12)
    seen = world.seen()
    assert_near(seen[:6], [1, 4, -2, 0.1, 0.2, 0.3])
    assert_near(seen[6:9], [0, 1, 0])  # as the original has it; the direction in the base's frame is (0, -1, 0)
    assert_near(seen[9:12], [2, -1, 0.2])
    left_front, right_hind = [0.1 - 0.03, 0.1 - 0.4, 0.1 + 0.8], [0.1 + 0.03, 0.1 + 0.4, 0.1 - 0.8]
    assert_near(seen[12:24], [*left_front, 0.07, 0.5, -0.7, 0.13, -0.3, 0.9, *right_hind])
    assert_near(seen[24:36], torch.arange(12) / 20)
    assert_near(seen[36:], torch.linspace(-0.5, 0.6, 12), 1e-6)


def test_anymal_reward() -> None:
    world = World(IsaacAnymal())
    world.set("qpos", [0, 0, 0.5, *YAW_90])
    world.set("qvel", [-0.5, 1.0, 0.3, 0, 0, 1.0])  # 1 m/s ahead and 0.5 m/s to the left
    world.memory["command"][:] = torch.tensor([1.0, 0.0, 0.5])
    world.set("qfrc_actuator", [10.0] * 12, 6)
    world.set("sensordata", [0.0] * 15)
    reward, ended, _ = world.outcome()
    assert (reward, ended) == (pytest.approx(0.02 * (1.5 * exp(-1) - 2.5e-5 * 1200)), False)
    world.set("qfrc_actuator", [80.0] * 12, 6)
    assert world.outcome()[0] == 0
    world.set("sensordata", [0, 0.6, 0.7], 9)
    assert not world.outcome()[1]
    world.set("sensordata", [0, 0.8, 0.7], 9)
    assert world.outcome()[1]
