"""What Isaac Gym's hand tasks share: turn a cube in the hand until it lies as the goal does, then the next goal.

The goal is an orientation; the cube must stay near its place above the palm. The goal's own picture is not drawn.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from math import inf
from typing import ClassVar, Literal

import torch
from torch import Tensor

from environments.tasks import isaac_hand_parts as parts
from environments.tasks.common import no_mask
from environments.tasks.isaac_common import IsaacTask, clipped
from environments.tasks.isaac_hand_parts import Hand, Part, limits_of
from environments.tasks.isaac_rotations import about_x_then_y, angle_of, rotate
from environments.tasks.isaac_stream import normal, seed_stream, start_stream, uniform
from ppo_and_friends.types import Obs, TensorSpec
from ppo_and_friends.vector.sim.simulation import Draw, Memory, Simulation
from ppo_and_friends.vector.sim.tensors import write_rows

GOAL_DROP = 0.04  # metres that the goal lies below where the cube starts
FALL_DISTANCE = 0.24
SUCCESS_BONUS = 250.0
PUSH_DECAY = 0.99 ** (1 / 60 / 0.08)  # in one action, however many substeps it has: as in the original
PUSH_PROBABILITY = (0.001, 0.1)

Variant = Literal["full_state", "full", "full_no_vel", "openai"]
Layouts = dict[str, tuple[Part, ...]]


@dataclass(frozen=True)
class HandTask(IsaacTask):
    """Reward = rotation + distance + action + success + fall.

    rotation   1 / (angle to the goal + 0.1)
    distance   -10 * distance of the cube from the goal's place
    action     -0.0002 * |action|^2
    success    250 where the angle is at most success_tolerance; the next goal comes with the next action
    fall       fall_penalty where the cube is 0.24 m away, and half of it where steps_per_goal have passed

    Ends when the cube falls, after max_successes, and when steps_per_goal pass without a success.

    observation         what the actor sees
    asymmetric          the critic sees full_state, whatever the actor sees
    moving_average      weight of an action in the joints' targets; the targets before it have the rest
    push_scale          standard deviation of random pushes on the cube, in newtons for each kg of it. A row is pushed
                        anew with a probability of its own, from 0.001 to 0.1 a step; in between a push fades
    substeps            simulator steps of 1/120 s for each action
    """

    observation: Variant = "full_state"
    asymmetric: bool = False
    success_tolerance: float = 0.1
    fall_penalty: float = 0.0
    max_successes: float = inf
    steps_per_goal: float = inf
    moving_average: float = 1.0
    push_scale: float = 0.0
    substeps: int = 2
    max_episode_steps: int = 600

    hand: ClassVar[Hand]
    layouts: ClassVar[Layouts]

    @cached_property
    def cube(self) -> tuple[int, float]:
        """Number of the body called cube, and its mass in kg."""
        body = self.model().body("cube")
        return int(body.id), float(body.mass[0])

    @property
    def actor(self) -> tuple[TensorSpec, ...]:
        return (parts.observation_spec(self.hand, self.layouts[self.observation]),)

    @property
    def critic(self) -> tuple[TensorSpec, ...]:
        return (parts.observation_spec(self.hand, self.layouts["full_state"]),) if self.asymmetric else self.actor

    def start(self, sim: Simulation) -> Memory:
        for field in ("sensordata", "qfrc_actuator"):
            sim.bind(field)
        limits_of(self.hand, sim)  # made here, not within a step

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(sim.rows, *shape, dtype=sim.dtype, device=sim.device)

        x, y, z = self.hand.cube_start
        place = torch.tensor((x, y, z - GOAL_DROP), dtype=sim.dtype, device=sim.device)
        return {
            "goal_place": place.repeat(sim.rows, 1),
            "goal": zeros(4),
            "reached": torch.zeros(sim.rows, dtype=torch.bool, device=sim.device),
            "successes": zeros(),
            "since_goal": zeros(),
            "age": zeros(),
            "consecutive_successes": zeros(),
            "action": zeros(self.actions),
            "push": zeros(3),
            "push_probability": zeros(1),
            **start_stream(sim),
        }

    def apply(self, sim: Simulation, memory: Memory, action: Tensor) -> None:
        ctrl, limits = sim.bind("ctrl"), limits_of(self.hand, sim)
        next_goal = about_x_then_y(uniform(memory, -math.pi, math.pi, 2, sim.dtype))
        write_rows(memory["goal"], memory["reached"], next_goal)
        memory["action"].copy_(action)
        wanted = limits.low + (memory["action"] + 1) / 2 * (limits.high - limits.low)
        mixed = self.moving_average * wanted + (1 - self.moving_average) * ctrl
        ctrl.copy_(torch.minimum(torch.maximum(mixed, limits.low), limits.high))
        if self.push_scale:
            self._push(sim, memory)

    def observe(self, sim: Simulation, memory: Memory) -> Obs:
        actor = self._observation(self.observation, sim, memory)
        critic = self._observation("full_state", sim, memory) if self.asymmetric else actor
        return Obs(actor, critic, no_mask(actor))

    def reward_done(self, sim: Simulation, memory: Memory, action: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        away = torch.linalg.vector_norm(parts.cube_place(self.hand, sim, memory) - memory["goal_place"], dim=1)
        angle = angle_of(parts.turn_to_goal(self.hand, sim, memory))
        reached = memory["reached"].copy_(angle <= self.success_tolerance)
        successes = memory["successes"].add_(reached)
        since_goal = memory["since_goal"].add_(1).masked_fill_(reached, 0)
        memory["age"].add_(1)
        fallen, late = away >= FALL_DISTANCE, since_goal >= self.steps_per_goal
        terms = {
            "reward_rotation": 1 / (angle + 0.1),
            "reward_distance": -10 * away,
            "reward_action": -0.0002 * memory["action"].square().sum(1),
            "reward_success": SUCCESS_BONUS * reached.to(sim.dtype),
            "reward_fall": self.fall_penalty * (fallen + 0.5 * late).to(sim.dtype),
        }
        log = {
            "goal_angle": angle,
            "goal_distance": away,
            "successes": successes.clone(),  # before a reset zeroes it
            "consecutive_successes": memory["consecutive_successes"],
        }
        ends = fallen | late | (successes >= self.max_successes)
        return torch.stack(tuple(terms.values())).sum(0), ends, terms | log

    def reset(self, sim: Simulation, memory: Memory, rows: Tensor, draw: Draw) -> None:
        self._count_successes(memory, rows)
        seed_stream(memory, rows, draw)
        limits = limits_of(self.hand, sim)
        share = 0.2 * draw.uniform(rows, 0, 1, self.hand.joints)
        # A fifth of the range about 0, which the limits of a thumb may exclude.
        joints = 0.2 * limits.lower + share * (limits.upper - limits.lower)
        joints = torch.minimum(torch.maximum(joints, limits.lower), limits.upper)
        place = memory["goal_place"] + draw.uniform(rows, -0.01, 0.01, 3)
        place[:, 2] += GOAL_DROP
        turned = about_x_then_y(draw.uniform(rows, -math.pi, math.pi, 2))
        write_rows(sim.bind("qpos"), rows, torch.cat((joints, place, turned), 1))
        write_rows(sim.bind("ctrl"), rows, joints.index_select(1, limits.actuated))
        write_rows(memory["goal"], rows, about_x_then_y(draw.uniform(rows, -math.pi, math.pi, 2)))
        low, high = (math.log(bound) for bound in PUSH_PROBABILITY)
        write_rows(memory["push_probability"], rows, torch.exp(draw.uniform(rows, low, high, 1)))
        for name in ("reached", "successes", "since_goal", "age"):
            memory[name].masked_fill_(rows, 0)
        for name in ("action", "push"):
            memory[name].masked_fill_(rows[:, None], 0)

    def _observation(self, variant: str, sim: Simulation, memory: Memory) -> Tensor:
        return clipped(tuple(part(self.hand, sim, memory) for part in self.layouts[variant]))

    def _count_successes(self, memory: Memory, rows: Tensor) -> None:
        """Isaac Gym's running mean over episodes as they end, one number for all rows."""
        ended = rows & (memory["age"] > 0)
        count, smooth = ended.sum(), memory["consecutive_successes"]
        mean = (memory["successes"] * ended).sum() / count.clamp(min=1)
        smooth.add_(0.1 * (mean - smooth) * (count > 0))

    def _push(self, sim: Simulation, memory: Memory) -> None:
        """In the cube's own frame, as the original has it."""
        body, mass = self.cube
        fresh = self.push_scale * mass * normal(memory, 3, sim.dtype)
        pushed = uniform(memory, 0, 1, 1, sim.dtype) < memory["push_probability"]
        push = memory["push"]
        push.copy_(torch.where(pushed, fresh, PUSH_DECAY * push))
        sim.bind("xfrc_applied")[:, body, :3] = rotate(parts.cube_pose(self.hand, sim)[:, 3:], push)
