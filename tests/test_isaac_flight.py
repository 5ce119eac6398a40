"""The flying Isaac tasks: observations, rewards and ends from set states, with numbers found on paper."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from isaac_tasks import HALF, QUARTER_TURN, close, exact, judged, one_round, put, random_actions, run, seen

from environments.tasks.isaac_crazyflie import MAX_THRUST, IsaacCrazyflie
from environments.tasks.isaac_ingenuity import IsaacIngenuity
from environments.tasks.isaac_quadcopter import IsaacQuadcopter
from environments.tasks.isaac_stream import STREAM

TASKS = (IsaacQuadcopter, IsaacIngenuity, IsaacCrazyflie)
each_task = pytest.mark.parametrize("task_class", TASKS, ids=lambda task_class: task_class.__name__)


# ---- all of them


@each_task
def test_float32_and_no_host_synchronisation(task_class: Any) -> None:
    env = exact(task_class(), 3)
    run(env, random_actions(env, 5))
    wide = one_round(env.task, env.sim, torch.float64)
    narrow = one_round(env.task, env.sim, torch.float32)
    assert all(torch.allclose(one.double(), other.double(), atol=1e-5) for one, other in zip(narrow, wide, strict=True))
    assert {value.dtype for value in narrow} == {torch.float32}
    assert all(value.is_meta for value in one_round(env.task, env.sim, torch.float32, "meta"))


@each_task
def test_a_reset_leaves_other_rows_alone(task_class: Any) -> None:
    env = exact(task_class())
    run(env, random_actions(env, 3))
    fields = [env.sim.bind("qpos"), env.sim.bind("qvel"), env.sim.bind("ctrl"), *env._memory.values()]
    before = [field.clone() for field in fields]
    env._restart(torch.tensor([True, False]))
    assert all(torch.equal(old[1], field[1]) for old, field in zip(before, fields, strict=True))
    assert not torch.equal(before[0][0], fields[0][0])


@each_task
def test_goes_on_exactly_where_it_was_saved(task_class: Any) -> None:
    """Enough steps that some rows fall and start anew."""
    env = exact(task_class(), 4)
    actions = random_actions(env, 200)
    run(env, actions[:20])
    saved = env.state()
    steps = run(env, actions[20:])
    env.load_state(saved)
    again = run(env, actions[20:])
    assert any(step.terminated.any() for step in steps)
    assert all(torch.equal(one.reward, other.reward) for one, other in zip(steps, again, strict=True))
    assert all(torch.equal(one.obs.actor, other.obs.actor) for one, other in zip(steps, again, strict=True))


@each_task
def test_pictures(task_class: Any) -> None:
    env = exact(task_class(), 1)
    picture = env.frame(0)
    env.close()
    assert picture.shape == (480, 480, 3) and picture.std() > 10


# ---- IsaacQuadcopter


def test_quadcopter_observation() -> None:
    env = exact(IsaacQuadcopter())
    put(env, "qpos", 0, 0.3, -0.6, 1.9, *QUARTER_TURN["z"], *(number / 10 for number in range(8)))
    put(env, "qvel", 0, 2, -4, 12, math.pi, 0, math.pi / 2)
    joints = [number / 10 for number in range(8)]
    turned = [0, 0, HALF, HALF]  # scalar last
    # a quarter turn about z carries the body's x axis to the world's y axis; 12 / 2 is clipped to 5
    assert seen(env) == close(-0.1, 0.2, -0.3, *turned, 1, -2, 5, 0, 1, 0.5, *joints)


def test_quadcopter_reward() -> None:
    """A metre away, on its side, turning at 2 rad/s: 1/2 (1 + 1/2 + 1/5)."""
    env = exact(IsaacQuadcopter())
    put(env, "qpos", 0, 1, 0, 1, *QUARTER_TURN["x"])
    put(env, "qvel", 3, 0, 2, 0)  # about the body's y axis, which is the world's z axis
    reward, ends, log = judged(env)
    assert reward == pytest.approx(0.85) and not ends
    assert [log[f"reward_{name}"] for name in ("position", "upright", "still")] == close(0.5, 0.25, 0.1)


@pytest.mark.parametrize(
    ("place", "ends"), [((0, 0, 0.31), False), ((0, 0, 0.29), True), ((2.9, 0, 1), False), ((0, 3.1, 1), True)]
)
def test_quadcopter_ends(place: tuple[float, ...], ends: bool) -> None:
    env = exact(IsaacQuadcopter())
    put(env, "qpos", 0, *place)
    assert judged(env)[1] == ends


def test_quadcopter_actions_move_the_targets() -> None:
    """By 8 pi rad/s and 200 N/s for 0.01 s, within 30 degrees and 0 to 2 N."""
    env = exact(IsaacQuadcopter())
    put(env, "ctrl", 0, *[0.0] * 12)
    forward = torch.tensor([[1.0] * 8 + [0.5] * 4] * 2)
    seen_targets = []
    for action in (forward, forward, forward, -forward):
        env.task.apply(env.sim, env._memory, action)
        seen_targets.append(env.sim.bind("ctrl")[0, [0, 7, 8, 11]].tolist())
    small, limit = 0.08 * math.pi, math.pi / 6
    assert seen_targets[0] == close(small, small, 1, 1)
    assert seen_targets[2] == close(limit, limit, 2, 2)
    assert seen_targets[3] == close(limit - small, limit - small, 1, 1)


def test_quadcopter_hovers_by_the_weight_of_its_parts() -> None:
    """Cylinders and spheres of the given sizes and densities weigh 0.2515 kg; a quarter of it on each rotor holds."""
    weight = 9.81 * (
        50 * math.pi * 0.1**2 * 0.03 + 4 * 200 * 4 / 3 * math.pi * 0.01**3 + 4 * 1000 * math.pi * 0.04**2 * 0.01
    )
    env = exact(IsaacQuadcopter())
    put(env, "qpos", 0, 0, 0, 1, 1, 0, 0, 0, *[0.0] * 8)
    put(env, "ctrl", 0, *[0.0] * 8, *[weight / 4] * 4)
    env.sim.step(100)
    assert env.sim.bind("qvel")[0].abs().max() < 1e-9


def test_quadcopter_drives_reach_their_targets_and_hold() -> None:
    """As an implicit step of a stiff spring without damping does: within a step of the task, without ringing."""
    env = exact(IsaacQuadcopter())
    env.sim.bind("qpos")[:, 7:] = 0
    put(env, "ctrl", 0, *[0.2] * 8)
    env.sim.step(2)
    assert (env.sim.bind("qpos")[0, 7:] - 0.2).abs().max() < 0.02
    env.sim.step(10)
    assert (env.sim.bind("qpos")[0, 7:] - 0.2).abs().max() < 1e-3


def test_quadcopter_spins_no_faster_than_4_pi() -> None:
    env = exact(IsaacQuadcopter())
    put(env, "qvel", 3, 30, 40, 0)
    env.sim.bind("qvel")[1, 3:6] = torch.tensor([3.0, 4.0, 0.0])
    env.task.apply(env.sim, env._memory, torch.zeros(2, 12))
    fast, slow = env.sim.bind("qvel")[:, 3:6].tolist()
    assert fast == close(2.4 * math.pi, 3.2 * math.pi, 0) and slow == close(3, 4, 0)


def test_quadcopter_starts() -> None:
    env = exact(IsaacQuadcopter(), 400)
    qpos, ctrl = env.sim.bind("qpos"), env.sim.bind("ctrl")
    low, high = qpos.amin(0), qpos.amax(0)
    assert low[:3].tolist() == pytest.approx([-1.5, -1.5, 0.8], abs=0.05) and low[2] >= 0.8
    assert high[:3].tolist() == pytest.approx([1.5, 1.5, 2.5], abs=0.05) and high[2] <= 2.5
    assert low[7:].tolist() == pytest.approx([-0.2] * 8, abs=0.01) and high[7:].abs().max() <= 0.2
    assert qpos[:, 3:7].eq(torch.tensor([1.0, 0, 0, 0])).all() and env.sim.bind("qvel").eq(0).all()
    assert torch.equal(ctrl[:, :8], qpos[:, 7:]) and ctrl[:, 8:].eq(0).all()


# ---- IsaacIngenuity


def test_ingenuity_observation() -> None:
    env = exact(IsaacIngenuity())
    put(env, "qpos", 0, 1, 1, 1, *QUARTER_TURN["x"])
    put(env, "qvel", 0, 2, -4, 6, 0, math.pi, 0)
    env._memory["target"][:] = torch.tensor([4.0, -5, 1.3])
    assert seen(env) == close(1, -2, 0.1, HALF, 0, 0, HALF, 1, -2, 3, 0, 0, 1)


def test_ingenuity_reward() -> None:
    """Two metres away, upright, turning at 1 rad/s: 1/5 (1 + 5 + 1/2)."""
    env = exact(IsaacIngenuity())
    put(env, "qpos", 0, 1, 2, 3, 1, 0, 0, 0)
    put(env, "qvel", 3, 0, 0, 1)
    env._memory["target"][:] = torch.tensor([1.0, 2, 1])
    reward, ends, _ = judged(env)
    assert reward == pytest.approx(1.3) and not ends


@pytest.mark.parametrize(
    ("place", "ends"), [((0, 0, 0.51), False), ((0, 0, 0.49), True), ((7.9, 0, 1), False), ((0, 8.1, 1), True)]
)
def test_ingenuity_ends(place: tuple[float, ...], ends: bool) -> None:
    env = exact(IsaacIngenuity())
    put(env, "qpos", 0, *place)
    env._memory["target"][:] = torch.tensor([0.0, 0, 1])
    assert judged(env)[1] == ends


def test_ingenuity_forces() -> None:
    """20 N of lift, and at most a fifth of it sideways, in the frame of the rotor; Mars pulls with 3.721 m/s^2."""
    env = exact(IsaacIngenuity())
    env.task.apply(env.sim, env._memory, torch.tensor([[1, 0.1, 0.5, 0, 0, -1.0]] * 2))
    assert env.sim.bind("ctrl")[0].tolist() == close(2, 1, 10, 0, 0, -20)
    put(env, "qpos", 0, 0, 0, 1, *QUARTER_TURN["x"])
    put(env, "ctrl", 0, 0, 0, 3, 0, 0, 0)
    env.sim.step(1)  # the lower rotor is at the middle of the fuselage, below the centre of mass
    mass = 50 * 0.12**3 + 2 * 1000 * math.pi * 0.15**2 * 0.01
    assert env.sim.bind("qpos")[0, 1:3].sub(torch.tensor([0, 1])).tolist() == pytest.approx(
        [-3 / mass * 0.005**2, -3.721 * 0.005**2], rel=0.02
    )


def test_ingenuity_targets() -> None:
    """A new one with the 501st action, all of them 1 to 2 m high and within 5 m along x and y."""
    env = exact(IsaacIngenuity(), 300)
    targets, target, still = env._memory["targets"], env._memory["target"], torch.zeros(300, 6)
    assert targets.shape == (300, 4, 3)
    assert targets.flatten(0, 1).amin(0).tolist() == pytest.approx([-5, -5, 1], abs=0.05)
    assert targets.flatten(0, 1).amax(0).tolist() == pytest.approx([5, 5, 2], abs=0.05)
    for _ in range(500):
        env.task.apply(env.sim, env._memory, still)
    assert torch.equal(target, targets[:, 0])
    env.task.apply(env.sim, env._memory, still)
    assert torch.equal(target, targets[:, 1])
    env._restart(torch.ones(300, dtype=torch.bool))
    for _ in range(2):
        assert torch.equal(target, targets[:, 0])
        env.task.apply(env.sim, env._memory, still)


# ---- IsaacCrazyflie


def test_crazyflie_observation() -> None:
    env = exact(IsaacCrazyflie())
    put(env, "qpos", 0, 1, -1, 1.5, *QUARTER_TURN["z"])
    put(env, "qvel", 0, 1, 2, 6, 3, 0, 1)
    # the body's x, y and z axes, one after another; velocities as they are, 6 clipped to 5
    assert seen(env) == close(-1, 1, 0.5, 0, 1, 0, -1, 0, 0, 0, 0, 1, 1, 2, 5, 0, 3, 1)


def test_crazyflie_reward() -> None:
    """A metre below the target, at rest and upright: 1/2 (1 + 1 + 0.01), less 0.05 without any action."""
    env = exact(IsaacCrazyflie())
    assert judged(env)[0] == pytest.approx(0.955)
    effort = judged(env, math.sqrt(math.log(4)), 0, 0, 0)[2]["reward_effort"]  # exp(-log 4 / 2) is a half
    assert effort == pytest.approx(-0.025)
    put(env, "qpos", 3, *QUARTER_TURN["y"])
    put(env, "qvel", 3, math.sqrt(math.log(2)), 0, 0)
    assert judged(env)[0] == pytest.approx(0.5 * (1 + 0 + 0.005) - 0.05)


@pytest.mark.parametrize(
    ("height", "lean", "ends"),
    [(0.49, 0.0, True), (0.51, 0.0, False), (4.9, 0.0, False), (5.1, 0.0, True), (2, 1.5, False), (2, 1.6, True)],
)
def test_crazyflie_ends(height: float, lean: float, ends: bool) -> None:
    env = exact(IsaacCrazyflie())
    put(env, "qpos", 0, 0, 0, height, math.cos(lean / 2), math.sin(lean / 2), 0, 0)
    assert judged(env)[1] == ends
    put(env, "qpos", 0, 5.1, 0, 2, 1, 0, 0, 0)
    assert judged(env)[1]


def test_crazyflie_thrust() -> None:
    """A rotor goes 4/15 of the way to the wanted speed in a step; thrust is its square, with noise of 1 %."""
    env = exact(IsaacCrazyflie(), 1000)
    full = torch.ones(1000, 4)
    env.task.apply(env.sim, env._memory, full)
    env.task.apply(env.sim, env._memory, full)
    thrust = env.sim.bind("ctrl") / MAX_THRUST
    speed = 4 / 15 + 4 / 15 * 11 / 15
    assert thrust.mean().item() == pytest.approx(speed**2, abs=1e-3)
    assert thrust.std().item() == pytest.approx(0.01, rel=0.05)
    assert pytest.approx(0.13047, abs=1e-5) == MAX_THRUST
    env.task.apply(env.sim, env._memory, -full)  # no speed is wanted, and so no noise comes
    assert env.sim.bind("ctrl").div(MAX_THRUST).sqrt().flatten().tolist() == pytest.approx([speed * 11 / 15] * 4000)


def test_crazyflie_starts_a_metre_up() -> None:
    env = exact(IsaacCrazyflie())
    run(env, random_actions(env, 3))
    env._restart(torch.tensor([True, True]))
    assert env.sim.bind("qpos").tolist() == [[0, 0, 1, 1, 0, 0, 0]] * 2
    assert env._memory["rotor_speed"].eq(0).all() and len(env._memory[STREAM].unique()) == 2
