"""Room that MuJoCo Warp needs before the first step: contacts and constraints of a world, and a GPU's memory.

Its arrays have fixed sizes. A world that needs more constraints than its share loses them, and its physics with them;
contacts come from one pool of all worlds.
"""

# mujoco, warp and mujoco_warp ship no types
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import mujoco
import mujoco_warp
import numpy as np
import warp

from ppo_and_friends.errors import UserError
from ppo_and_friends.vector.sim.warp_kernels import rehearse

ROLLOUTS = 8  # with random controls, from the model's start and from ever wilder poses
STEPS = 250  # of the simulator in each
POSE_NOISE = 1.0  # radians and metres, standard deviation of the wildest pose
CONTACT_MARGIN, CONSTRAINT_MARGIN = 2.0, 1.5  # policies find poses that chance does not
GRANULE = 8  # limits are multiples of this, and at least this
GRAPHS = 3  # that each keep what a step makes: those of a step, of `forward`, and of a rollout, which has both in it


@dataclass(frozen=True)
class Limits:
    """The most of each that one world may have: contacts on average over all worlds, constraints in any one."""

    contacts: int = 0
    constraints: int = 0


def choose_limits(model: Any, asked: Limits, name: str) -> Limits:
    """`asked`, with measured numbers where it has 0.

    Raises:
        UserError: a limit is below what random controls already need.
    """
    needed = measure(model)
    for what, limit, count in (
        ("contacts", asked.contacts, needed.contacts),
        ("constraints", asked.constraints, needed.constraints),
    ):
        if 0 < limit < count:
            raise UserError(
                f"{name}: --env.max_{what} is {limit}, but random controls already make {count} {what} in one world: "
                f"ask for more than {count}, or for 0 to have it measured."
            )
    # Pairs that come near share the contacts' pool: each geom beside the floor is one.
    contacts = asked.contacts or _rounded(max(CONTACT_MARGIN * needed.contacts, model.ngeom))
    return Limits(contacts, asked.constraints or _rounded(CONSTRAINT_MARGIN * needed.constraints))


def measure(model: Any) -> Limits:
    """The most contacts and constraints that a few worlds with random controls had at once. The same every time."""
    data, chance = mujoco.MjData(model), np.random.default_rng(0)
    low, high = np.where(model.actuator_ctrllimited[:, None], model.actuator_ctrlrange, (-1.0, 1.0)).T
    contacts = constraints = 0
    mujoco.set_mju_user_warning(lambda message: None)  # a wild pose may explode, and starts over
    try:
        for rollout in range(ROLLOUTS):
            mujoco.mj_resetData(model, data)
            noise = POSE_NOISE * rollout / ROLLOUTS * chance.standard_normal(model.nv)
            mujoco.mj_integratePos(model, data.qpos, noise, 1.0)
            for _ in range(STEPS):
                data.ctrl[:] = chance.uniform(low, high)
                mujoco.mj_step(model, data)
                contacts, constraints = max(contacts, data.ncon), max(constraints, data.nefc)
    finally:
        mujoco.set_mju_user_warning(None)
    return Limits(contacts, constraints)


def bytes_per_world(model: Any, limits: Limits) -> int:
    """GPU memory of one more world's physics: what lasts from step to step, and for each of `GRAPHS`, as if CUDA shared
    none of it between them, what a step makes and drops: the solver's context, polytopes of colliding meshes.

    The trainer's own tensors (rollouts, activations, gradients) are not in it."""
    with warp.ScopedDevice("cpu"):
        one, two = (_bytes_of(model, limits, worlds) for worlds in (1, 2))
    return two - one


def check_memory(name: str, rows: int, per_world: int, free: int, device: str) -> None:
    """Raise UserError where `rows` worlds of `per_world` bytes are more than the `free` bytes of a GPU hold."""
    fit = free // per_world
    if rows > fit:
        raise UserError(
            f"{name}: {rows} rows need about {rows * per_world / 1e9:.1f} GB of GPU memory, and {device} has "
            f"{free / 1e9:.1f} GB free: about {fit} rows fit, so ask for --envs_per_proc {fit} or fewer."
        )


def _rounded(count: float) -> int:
    return GRANULE * max(1, -int(-count // GRANULE))


def _bytes_of(model: Any, limits: Limits, worlds: int) -> int:
    """Of so many worlds on the CPU, Warp's current device: a rehearsed step makes its arrays and runs nothing."""
    shared = mujoco_warp.put_model(model)
    data: Any = mujoco_warp.make_data(model, nworld=worlds, nconmax=limits.contacts, njmax=limits.constraints)

    def step() -> None:
        mujoco_warp.step(shared, data)
        mujoco_warp.rne_postconstraint(shared, data)

    with _sizes_made() as sizes, suppress(Exception):  # an estimate stops no run
        rehearse(step, [])
    return _bytes(data) + GRAPHS * sum(sizes)


@contextmanager
def _sizes_made() -> Iterator[list[int]]:
    """The bytes of each array that is made on the CPU meanwhile."""
    allocator: Any = warp.get_device_allocator("cpu")
    sizes: list[int] = []
    allocate = allocator.allocate

    def counted(size: int) -> int:
        sizes.append(size)
        return allocate(size)

    allocator.allocate = counted  # this object's own, over its class's
    try:
        yield sizes
    finally:
        del allocator.allocate


def _bytes(arrays: Any) -> int:
    """Of all Warp arrays in a dataclass."""
    total = 0
    for field in dataclasses.fields(arrays):
        value = getattr(arrays, field.name)
        if dataclasses.is_dataclass(value):
            total += _bytes(value)
        elif isinstance(value, warp.array):
            total += value.capacity
    return total
