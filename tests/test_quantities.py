"""What differs between worlds: numbers by hand on a cart that slides and a body that falls."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from carts import GRAVITY, MASS, ROWS, SEED, TIMESTEP, Carts, carts, column, constant, environment, mask, run

from environments.tasks.ant import Ant
from ppo_and_friends.vector.sim.randomize import Randomized, Vary


def test_each_row_has_its_own_value_within_the_range() -> None:
    env = carts(200, worlds=(Vary(quantity="damping", range=(0.5, 1.5)),))
    damping = column(env, "dof_damping")
    assert damping.unique().numel() == 200
    assert 1.5 <= damping.min() < 1.55 and 4.45 < damping.max() <= 4.5  # 3 * 0.5 and 3 * 1.5
    assert (column(env, "dof_damping", 1) == 0).all()  # the other joint has none


def test_scaling_is_of_the_original_and_only_reset_rows_change() -> None:
    env = carts(worlds=(Vary(quantity="damping", **constant(2.0)), Vary(quantity="stiffness", range=(0.5, 1.5))))
    for _ in range(3):
        before = column(env, "jnt_stiffness")
        env._restart(mask(1, 3))
        after = column(env, "jnt_stiffness")
        assert torch.equal(before != after, mask(1, 3))
    assert (column(env, "dof_damping") == 6.0).all()


def test_same_seed_same_worlds() -> None:
    env = carts(
        worlds=(Vary(quantity="damping", range=(0.5, 1.5), schedule="linear", schedule_steps=40),), frequency=25
    )
    first = column(env, "dof_damping"), run(env, 23)
    env.reset(SEED)
    assert torch.equal(column(env, "dof_damping"), first[0])
    for one, other in zip(run(env, 23), first[1], strict=True):
        assert torch.equal(one.obs.actor, other.obs.actor)  # pyright: ignore


def test_a_world_is_drawn_again_after_enough_steps_only() -> None:
    env = carts(worlds=(Vary(quantity="damping", range=(0.5, 1.5)),), frequency=25)  # episodes of 10 steps
    seen = [column(env, "dof_damping")]
    for _ in range(7):
        run(env, 10)
        seen.append(column(env, "dof_damping"))
    changed = [not torch.equal(one, other) for one, other in pairwise(seen)]
    assert changed == [False, False, True, False, False, True, False]  # at 30 and 60


def test_several_entries_act_one_after_the_other_and_on_their_bodies() -> None:
    env = carts(
        worlds=(
            Vary(quantity="mass", bodies=("drop",), **constant(4.0)),
            Vary(quantity="mass", bodies=("cart",), **constant(1.0, operation="additive")),
            Vary(quantity="mass", **constant(2.0)),
            Vary(quantity="gain", bodies=("cart",), **constant(0.5)),
            Vary(quantity="limits", **constant(0.25, operation="additive")),
            Vary(quantity="armature", **constant(0.125, operation="additive")),
        )
    )
    sim, model = env.sim, env.task.model()
    assert sim.expand("body_mass")[0].tolist() == [0.0, 2 * (MASS + 1), 8.0]
    original = torch.from_numpy(model.body_inertia)
    assert torch.allclose(
        sim.expand("body_inertia")[0] / original.clamp(min=1e-9), torch.tensor([[0.0], [3.0], [8.0]]).double()
    )
    assert sim.expand("actuator_gainprm")[0, 0, 0] == 0.5
    assert sim.expand("jnt_range")[0].tolist() == [[-4.75, 5.25], [0.25, 0.25]]
    assert (sim.expand("dof_armature") == 0.125).all()


def test_force_is_mass_times_acceleration() -> None:
    task = Randomized(Carts(), worlds=(Vary(quantity="mass", range=(0.5, 4.0), distribution="loguniform"),))
    env = environment(task)
    env.reset(SEED)
    env.sim.bind("qpos").zero_()
    run(env, 1, force=6.0)
    mass = column(env, "body_mass", 1)
    velocity = env.sim.bind("qvel")[:, 0]
    # F = m a with the joint's damping taken implicitly by Euler: (m + h d) v = h F
    assert torch.allclose(velocity, TIMESTEP * 6.0 / (mass + TIMESTEP * 3.0), rtol=1e-12, atol=0)
    assert mass.unique().numel() == ROWS
    assert torch.allclose(env.sim.expand("dof_invweight0")[:, 0], 1 / mass)  # derived: an inverse weight is 1 / m


def test_gravity_pulls_as_drawn() -> None:
    env = carts(worlds=(Vary(quantity="gravity", range=(0.0, 2.0), distribution="gaussian", operation="additive"),))
    pull = env.sim.expand("opt.gravity")[:, 2].clone()
    run(env, 3)
    assert pull.unique().numel() == ROWS and (pull != -GRAVITY).all()
    assert torch.allclose(env.sim.bind("qvel")[:, 1], 3 * TIMESTEP * pull)


def test_friction_stops_what_slides() -> None:
    env = environment(Randomized(Ant(), worlds=(Vary(quantity="friction", range=(0.1, 0.2)),)))
    env.reset(SEED)
    ratio = env.sim.expand("geom_friction") / torch.from_numpy(env.task.model().geom_friction)
    assert ((ratio >= 0.1) & (ratio <= 0.2)).all()
    assert torch.allclose(ratio, ratio[:, :, :1].expand_as(ratio)) and ratio[:, :, 0].unique().numel() > ROWS


def test_what_is_positive_stays_so() -> None:
    env = carts(100, worlds=(Vary(quantity="mass", range=(1.0, 50.0), distribution="gaussian"),))
    assert column(env, "body_mass", 1).min().item() == pytest.approx(0.01 * MASS)


@pytest.mark.parametrize(
    ("schedule", "expected"), [("linear", [0, 0.25, 0.5, 0.75, 1, 1]), ("constant", [0, 0, 0, 0, 1, 1])]
)
@pytest.mark.parametrize("operation", ["additive", "scaling"])
def test_schedules(schedule: Any, expected: list[float], operation: Any) -> None:
    settings = constant(3.0, operation=operation, schedule=schedule, schedule_steps=40)
    env = carts(worlds=(Vary(quantity="damping", **settings),))
    values = [column(env, "dof_damping")[0].item()]
    for _ in range(5):
        run(env, 10)
        values.append(column(env, "dof_damping")[0].item())
    full = {"additive": 3.0 + 3.0, "scaling": 3.0 * 3.0}[operation]
    assert values == pytest.approx([3.0 + strength * (full - 3.0) for strength in expected])
