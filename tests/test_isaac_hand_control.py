"""What moves in the hand tasks: targets of the joints, coupled joints, starts, pushes on the cube."""

from __future__ import annotations

import math

import pytest
import torch
from isaac_tasks import QUARTER_TURN, SHADOW_PLACE, close, each_hand, exact, put, put_cube

from environments.tasks.isaac_hand import HandTask
from environments.tasks.isaac_shadow_hand import IsaacShadowHand, openai_shadow_hand


def test_actions_are_targets_between_the_limits() -> None:
    env = exact(IsaacShadowHand())
    ranges = {joint: env.task.hand.ranges[joint] for joint in (0, 2, 4)}  # WRJ1, FFJ3, FFJ1: the actuators 0, 2, 4
    env.task.apply(env.sim, env._memory, torch.tensor([[-1.0] * 20, [0.5] * 20]))
    low, between = env.sim.bind("ctrl")[:, [0, 2, 4]].tolist()
    assert low == close(*(low for low, _ in ranges.values()))
    assert between == close(*(low + 0.75 * (high - low) for low, high in ranges.values()))
    model = env.task.model()
    driven = [model.joint(int(model.actuator(index).trnid[0])).range.tolist() for index in range(model.nu)]
    assert driven == [list(env.task.hand.ranges[joint]) for joint in env.task.hand.actuated]


def test_openai_actions_are_smoothed() -> None:
    env = exact(openai_shadow_hand())
    put(env, "ctrl", 0, *[0.1] * 20)
    env.task.apply(env.sim, env._memory, torch.ones(2, 20))
    assert env.sim.bind("ctrl")[0, 3].item() == pytest.approx(0.3 * 1.571 + 0.7 * 0.1)  # FFJ2


def test_the_last_joints_of_fingers_follow() -> None:
    """By a tendon with 1 mm of play on radii of 7 and 8 mm."""
    env = exact(IsaacShadowHand(), 1)
    put_cube(env, 0, 0, 5, 1, 0, 0, 0)
    put(env, "ctrl", 0, *[0.0] * 4, 1.0, *[0.0] * 15)
    env.sim.step(60)
    middle, last = env.sim.bind("qpos")[0, 4:6].tolist()
    assert middle > 0.5 and abs(0.00705 * last - 0.00805 * middle) < 0.0012


@each_hand
def test_starts(task: HandTask) -> None:
    env = exact(task, 300)
    qpos, hand = env.sim.bind("qpos"), task.hand
    joints, place, turn = qpos.split((hand.joints, 3, 4), 1)
    low, high = torch.tensor(hand.ranges, dtype=torch.float64).unbind(1)
    assert (joints >= torch.maximum(0.2 * low, low)).all() and (joints <= torch.maximum(0.2 * high, low)).all()
    assert (joints.amax(0) - joints.amin(0) > 0.15 * (high - low))[low <= 0].all()
    start = torch.tensor(hand.cube_start, dtype=torch.float64)
    assert (place - start).abs().max() <= 0.01 and (place - start).abs().amax(0).min() > 0.009
    for rotation in (turn, env._memory["goal"]):  # Rx(a) Ry(b): w z = x y
        w, x, y, z = rotation.unbind(1)
        assert (w * z - x * y).abs().max() < 1e-12 and rotation.norm(dim=1).sub(1).abs().max() < 1e-12
        angles = 2 * torch.atan2(x, w).remainder(math.pi)  # of a, on the circle
        assert angles.min() < 0.2 and angles.max() > 2 * math.pi - 0.2
    assert not torch.allclose(turn, env._memory["goal"])
    assert torch.equal(env.sim.bind("ctrl"), joints[:, list(hand.actuated)]) and env.sim.bind("qvel").eq(0).all()


def test_pushes() -> None:
    """They fade by 0.99 every 0.08 s, act in the cube's own frame, and come anew with a row's own probability."""
    env = exact(openai_shadow_hand(), 500)
    probability = env._memory["push_probability"]
    assert 0.001 <= probability.min() < 0.0012 and 0.08 < probability.max() <= 0.1
    assert probability.log10().mean().item() == pytest.approx(-2, abs=0.06)
    put_cube(env, *SHADOW_PLACE, *QUARTER_TURN["z"])
    env._memory["push"][:] = torch.tensor([1.0, 0, 0])
    probability[:] = 0
    still = torch.zeros(500, 20)
    env.task.apply(env.sim, env._memory, still)
    body, mass = env.task.cube
    force = env.sim.bind("xfrc_applied")[:, body]
    assert force[0].tolist() == close(0, 0.99 ** (1 / 4.8), 0, 0, 0, 0)
    probability[:] = 1
    env.task.apply(env.sim, env._memory, still)
    assert mass == pytest.approx(567 * 0.05**3)
    assert force[:, :3].std().item() == pytest.approx(mass, rel=0.05)
    env._restart(torch.ones(500, dtype=torch.bool))
    assert env.sim.bind("xfrc_applied").eq(0).all() and env._memory["push"].eq(0).all()
