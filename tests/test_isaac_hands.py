"""The Isaac tasks with a hand and a cube, and the launchers of all Isaac tasks."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from isaac_tasks import (
    HALF,
    QUARTER_TURN,
    SHADOW_PLACE,
    close,
    each_hand,
    exact,
    judged,
    one_round,
    put,
    put_cube,
    random_actions,
    run,
    seen,
)
from torch import Tensor

from environments.tasks.isaac_allegro_hand import IsaacAllegroHand
from environments.tasks.isaac_hand import HandTask, Variant
from environments.tasks.isaac_shadow_hand import IsaacShadowHand, openai_shadow_hand
from ppo_and_friends.vector.sim.task_env import TaskEnv

ALLEGRO_PLACE = (0.0, -0.2, 0.52)  # of the goal


def columns(task: HandTask, variant: Variant) -> dict[str, tuple[int, int]]:
    (spec,) = replace(task, observation=variant).actor
    return {name: (first, end) for name, first, end in spec.fields}


def put_goal(env: TaskEnv, *quaternion: float) -> None:
    env._memory["goal"][:] = torch.tensor(quaternion, dtype=torch.float64)


def leaning(angle: float) -> tuple[float, float, float, float]:
    return (math.cos(angle / 2), math.sin(angle / 2), 0.0, 0.0)


# ---- observations


def test_shadow_hand_layouts() -> None:
    """The columns of Isaac Gym's variants."""
    task = IsaacShadowHand()
    assert columns(task, "full_state") == {
        "joints": (0, 24),
        "joint_velocities": (24, 48),
        "joint_forces": (48, 72),
        "cube": (72, 79),
        "cube_velocity": (79, 85),
        "goal": (85, 92),
        "to_goal": (92, 96),
        "tips": (96, 161),
        "tip_forces": (161, 191),
        "action": (191, 211),
    }
    assert list(columns(task, "full").values()) == [
        (0, 24), (24, 48), (48, 55), (55, 61), (61, 68), (68, 72), (72, 137), (137, 157)
    ]  # fmt: skip
    assert list(columns(task, "full_no_vel").values()) == [(0, 24), (24, 31), (31, 38), (38, 42), (42, 57), (57, 77)]
    assert columns(task, "openai") == {
        "tip_places": (0, 15),
        "cube_place": (15, 18),
        "to_goal": (18, 22),
        "action": (22, 42),
    }


def test_allegro_hand_layouts() -> None:
    task = IsaacAllegroHand()
    edges = {"full_state": (16, 32, 48, 55, 61, 68, 72, 88), "full": (16, 32, 39, 45, 52, 56, 72)}
    edges["full_no_vel"] = (16, 23, 30, 34, 50)
    for variant, ends in edges.items():
        assert list(columns(task, variant).values()) == list(zip((0, *ends[:-1]), ends, strict=True))


@pytest.mark.parametrize("variant", ["full_state", "full", "full_no_vel", "openai"])
def test_shadow_hand_observation(variant: Variant) -> None:
    """Each part by hand. Fingers stretched: a fingertip's frame is 45.5 cm along -y, its z axis too."""
    env = exact(IsaacShadowHand(observation=variant))
    put(env, "qpos", 0, *[0.0] * 24, 0.1, -0.3, 0.7, *QUARTER_TURN["z"])
    put(env, "qvel", 0, *[0.0] * 24, 1, 2, 30, 5, 0, 0)
    put(env, "qvel", 3, 2)  # FFJ2, the third joint, at 2 rad/s: its tip 7 cm away rises
    put(env, "ctrl", 0, *[0.0] * 2, 0.03, *[0.0] * 17)  # FFJ3: 1 Nm for each radian
    put_goal(env, *QUARTER_TURN["x"])
    env._memory["action"][:] = torch.linspace(-1, 1, 20)
    env._memory["age"][:] = 1
    env.sim.forward(torch.tensor([True, True]))
    observed = seen(env)
    part = {name: observed[first:end] for name, (first, end) in columns(env.task, variant).items()}
    ranges = env.task.hand.ranges
    forefinger, little, thumb = (-0.033, -0.455, 0.49), (0.034, -0.448, 0.49), slice(12, 15)
    expected: dict[str, list[float]] = {
        "joints": [(-low - high) / (high - low) for low, high in ranges],
        "joint_velocities": [0, 0, 0, 0.4, *[0] * 20],
        "joint_forces": [0, 0, 0.3, *[0] * 21],
        "cube_place": [0.1, -0.3, 0.7],
        "cube": [0.1, -0.3, 0.7, 0, 0, HALF, HALF],
        "cube_velocity": [1, 2, 5, 0, 1, 0],  # 30 is clipped; the body's x axis is the world's y axis
        "goal": [*SHADOW_PLACE, HALF, 0, 0, HALF],
        "to_goal": [-0.5, -0.5, 0.5, 0.5],  # back about x, then about z
        "action": torch.linspace(-1, 1, 20).tolist(),
    }
    for name, values in part.items():
        if name in expected:
            assert values == close(*expected[name]), name
    if "tips" in part:
        state = part["tips"]
        assert state[:13] == close(*forefinger, 0, -HALF, HALF, 0, 0, 0, 0.14, -2, 0, 0)
        assert state[39:52] == close(*little, 0, -HALF, HALF, 0, *[0] * 6)
    if "tip_places" in part:
        places = part["tip_places"]
        assert places[:3] == close(*forefinger) and places[9:12] == close(*little)
        assert torch.tensor(places[thumb]).sub(torch.tensor([-0.1, -0.35, 0.5])).norm() < 0.06


def test_a_fingertip_feels_what_lies_on_it() -> None:
    """Ten times the newtons with which its joint holds it up: the weight of 0.01 kg, and 0.3 N that press on it."""
    env = exact(IsaacShadowHand(), 1)
    first, _ = columns(env.task, "full_state")["tip_forces"]
    put(env, "qpos", 0, *[0.0] * 24, 0, 0, 5, 1, 0, 0, 0)
    put(env, "ctrl", 0, *[0.0] * 20)
    env.sim.forward(torch.tensor([True]))
    assert seen(env)[first : first + 3] == close(0, -0.981, 0)  # its y axis points down: the hand lies palm up
    env.sim.bind("xfrc_applied")[:, env.task.model().body("fftip").id, 2] = -0.3
    env.sim.step(200)
    assert seen(env)[first : first + 2] == pytest.approx([0, -3.981], abs=0.01)


def test_no_joint_force_is_left_from_the_episode_before() -> None:
    env = exact(IsaacAllegroHand())
    first, end = columns(env.task, "full_state")["joint_forces"]
    run(env, random_actions(env, 3))
    assert torch.tensor(seen(env)[first:end]).abs().min() > 0
    env._restart(torch.tensor([True, False]))
    assert seen(env)[first:end] == [0] * 16


def test_the_critic_sees_all() -> None:
    env = exact(openai_shadow_hand())
    (step,) = env.step((torch.zeros(2, 20),))
    group = env.spec.groups[0]
    assert not group.symmetric and group.actor[0].shape == (42,) and group.critic[0].shape == (211,)
    assert step.obs.actor.shape == (2, 42) and step.obs.critic.shape == (2, 211)
    assert torch.equal(step.obs.critic[:, 72:75], step.obs.actor[:, 15:18])


# ---- reward and ends


@pytest.mark.parametrize(("task", "place"), [(IsaacShadowHand(), SHADOW_PLACE), (IsaacAllegroHand(), ALLEGRO_PLACE)])
def test_reward(task: HandTask, place: tuple[float, float, float]) -> None:
    """10 cm off and a quarter turn off, full action: 1 / (pi/2 + 0.1) - 1 - 0.0002 for each actuator."""
    env = exact(task)
    x, y, z = place
    put_cube(env, x, y, z + 0.1, *QUARTER_TURN["y"])
    put_goal(env, 1, 0, 0, 0)
    env._memory["action"][:] = 1
    reward, ends, log = judged(env)
    assert reward == pytest.approx(0.5985170 - 1 - 0.0002 * task.action.columns, abs=1e-6) and not ends
    assert log["goal_angle"] == pytest.approx(math.pi / 2) and log["successes"] == 0


@pytest.mark.parametrize(("angle", "reward"), [(0.09, 250 + 1 / 0.19), (0.11, 1 / 0.21)])
def test_success(angle: float, reward: float) -> None:
    """Counts once, pays 250, and brings the next goal with the next action: to this row only, the cube stays."""
    env = exact(IsaacShadowHand())
    put_cube(env, *SHADOW_PLACE, *leaning(angle))
    put_goal(env, 1, 0, 0, 0)
    env._memory["goal"][1] = torch.tensor([0.0, 0, 0, 1])
    success = reward > 250
    got, ends, log = judged(env)
    assert got == pytest.approx(reward) and not ends and log["successes"] == success
    before, cube = env._memory["goal"].clone(), env.sim.bind("qpos").clone()
    env.task.apply(env.sim, env._memory, torch.zeros(2, 20))
    changed = (env._memory["goal"] != before).any(1)
    assert changed.tolist() == [success, False] and torch.equal(cube, env.sim.bind("qpos"))
    judged(env)
    env.task.apply(env.sim, env._memory, torch.zeros(2, 20))
    assert env._memory["successes"].tolist() == [success, 0]


@pytest.mark.parametrize(("distance", "ends"), [(0.23, False), (0.25, True)])
@pytest.mark.parametrize(("task", "penalty"), [(IsaacShadowHand(), 0.0), (openai_shadow_hand(), -50.0)])
def test_a_fall(task: HandTask, penalty: float, distance: float, ends: bool) -> None:
    env = exact(task)
    x, y, z = SHADOW_PLACE
    put_cube(env, x, y, z - distance, *QUARTER_TURN["x"])
    put_goal(env, 1, 0, 0, 0)
    reward, ended, _ = judged(env)
    assert ended == ends
    assert reward == pytest.approx(0.5985170 - 10 * distance + (penalty if ends else 0), abs=1e-6)


def test_openai_ends() -> None:
    """160 steps after the last success, at the cost of half a fall, and at the 50th success."""
    env = exact(openai_shadow_hand())
    put_cube(env, *SHADOW_PLACE, *leaning(0.5))
    put_goal(env, 1, 0, 0, 0)
    env._memory["since_goal"][:] = 158
    assert not judged(env)[1]
    reward, ends, log = judged(env)
    assert ends and log["reward_fall"] == -25 and reward == pytest.approx(1 / 0.6 - 25)
    put_cube(env, *SHADOW_PLACE, *leaning(0.3))
    reward, ends, log = judged(env)
    assert not ends and log["reward_fall"] == 0 and env._memory["since_goal"][0] == 0
    env._memory["successes"][:] = 49
    assert judged(env)[1]


def test_a_success_at_the_end_changes_no_goal_of_the_next_episode() -> None:
    env = exact(IsaacShadowHand())
    env._memory["reached"][:] = True
    env._restart(torch.tensor([True, True]))
    goal = env._memory["goal"].clone()
    env.task.apply(env.sim, env._memory, torch.zeros(2, 20))
    assert torch.equal(goal, env._memory["goal"])


def test_consecutive_successes() -> None:
    """A tenth of the mean over the episodes that end together, and nine tenths of what was."""
    env = exact(IsaacShadowHand(), 4)
    env._memory["age"][:] = 1
    env._memory["consecutive_successes"][:] = 2
    env._memory["successes"][:] = torch.tensor([3.0, 5, 7, 9])
    env._restart(torch.tensor([True, True, False, False]))
    assert env._memory["consecutive_successes"].tolist() == close(2.2, 2.2, 2.2, 2.2)
    assert env._memory["successes"].tolist() == [0, 0, 7, 9]
    env._restart(torch.zeros(4, dtype=torch.bool))
    assert env._memory["consecutive_successes"][0] == pytest.approx(2.2)


def test_the_log_shows_the_successes_of_an_episode_that_ends() -> None:
    env = exact(IsaacShadowHand())
    env._memory["successes"][:] = 3
    put_cube(env, 0, 0, 9, 1, 0, 0, 0)
    (step,) = env.step((torch.zeros(2, 20),))
    assert step.terminated.all() and step.log["successes"].tolist() == [3, 3]
    assert step.log["consecutive_successes"][0] == pytest.approx(0.3) and env._memory["successes"].eq(0).all()


# ---- all of them


@each_hand
def test_float32_and_no_host_synchronisation(task: HandTask) -> None:
    env = exact(task, 3)
    run(env, random_actions(env, 5))
    wide = one_round(task, env.sim, torch.float64)
    narrow = one_round(task, env.sim, torch.float32)
    assert all(torch.allclose(one.double(), other.double(), atol=2e-5) for one, other in zip(narrow, wide, strict=True))
    assert {value.dtype for value in narrow} == {torch.float32}
    assert all(value.is_meta for value in one_round(task, env.sim, torch.float32, "meta"))


@each_hand
def test_goes_on_exactly_where_it_was_saved(task: HandTask) -> None:
    env = exact(task, 3)
    actions = random_actions(env, 40)
    run(env, actions[:20])
    saved = env.state()
    steps = run(env, actions[20:])
    env.load_state(saved)
    again = run(env, actions[20:])
    assert all(torch.equal(one.reward, other.reward) for one, other in zip(steps, again, strict=True))
    assert all(torch.equal(one.obs.actor, other.obs.actor) for one, other in zip(steps, again, strict=True))
    finite: list[Tensor] = [tensor for step in steps for tensor in (step.reward, step.final.actor, step.final.critic)]
    assert all(tensor.isfinite().all() for tensor in finite)


@pytest.mark.parametrize("task", [IsaacShadowHand(), IsaacAllegroHand()], ids=["shadow", "allegro"])
def test_a_cube_on_the_open_hand_stays_there(task: HandTask) -> None:
    """Laid flat above it, it comes to rest less than 6 cm from the goal's place, hardly within the hand."""
    env = exact(task, 1)
    x, y, z = task.hand.cube_start
    put(env, "qpos", 0, *[max(0.0, low) for low, _ in task.hand.ranges], x, y, z - 0.03, 1, 0, 0, 0)
    env.sim.bind("ctrl").copy_(env.sim.bind("qpos")[:, list(task.hand.actuated)])
    env.sim.step(120)
    assert judged(env)[2]["goal_distance"] < 0.06
    assert env.sim.bind("qvel")[0, task.hand.joints :].norm() < 0.05


@pytest.mark.parametrize("task", [IsaacShadowHand(), IsaacAllegroHand()], ids=["shadow", "allegro"])
def test_pictures(task: HandTask) -> None:
    env = exact(task, 1)
    picture = env.frame(0)
    env.close()
    assert picture.shape == (480, 480, 3) and picture.std() > 10
