"""Domain randomisation: a task whose worlds differ, are pushed, and sense and act with noise.

Tobin et al. (2017), "Domain randomization for transferring deep neural networks from simulation to the real world";
settings and their meaning after Makoviychuk et al. (2021), "Isaac Gym".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from ppo_and_friends.errors import UserError
from ppo_and_friends.types import ActionSpace, Obs, TensorSpec, Tree, leaves
from ppo_and_friends.vector.sim.chance import Chance, uniforms
from ppo_and_friends.vector.sim.quantities import QUANTITIES, Vary
from ppo_and_friends.vector.sim.simulation import Draw, Memory, Simulation
from ppo_and_friends.vector.sim.tensors import write_rows

OWN = "randomized."  # how this task's memory begins, beside that of the task within
KEY_PARTS, PART_BITS = 4, 12  # small enough that draws of both engines, float64 and float32, are the same whole numbers


@dataclass(frozen=True, kw_only=True)
class Noise(Chance):
    """Noise on each column of observations or actions.

    drawn  every step, or once an episode and kept (a sensor's offset, a motor's weakness)
    """

    drawn: Literal["step", "episode"] = "step"


@dataclass(frozen=True, kw_only=True)
class Push(Chance):
    """A sudden change of velocity, as by a blow: mass times change of velocity is its impulse.

    dofs      first degree of freedom, and one past the last. Of a free joint the first three are the velocity in the
              world (m/s), the next three the body's own angular velocity (rad/s)
    interval  environment steps from one to the next. When an episode's first comes is drawn
    """

    dofs: tuple[int, int] = (0, 2)
    interval: int = 200

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.interval < 1:
            raise UserError(f"A push's interval is {self.interval} steps, but must be 1 or more.")


class Constants(NamedTuple):
    """What all worlds of an engine share.

    originals  {field of mjModel: [1, ...]}, the model's own values
    chosen     [1, elements] bool for each entry of `worlds`
    kept       [1, C] bool, which columns of a row's numbers hold for a whole episode
    low, high  [columns], the action's bounds
    """

    originals: dict[str, Tensor]
    chosen: tuple[Tensor, ...]
    kept: Tensor
    low: Tensor
    high: Tensor


@dataclass(frozen=True)
class Randomized:
    """`Task` that plays `task` in worlds that differ from one another.

    task          the one within: any `Task` that is a dataclass
    worlds        what differs between them. Always computed from the model's own values; several entries for one
                  quantity act one after the other
    pushes        blows, before the step whose action they disturb
    observations  noise on what the actor sees; a critic with an observation of its own sees it without
    actions       noise on what the actor does, within the action's bounds. The task, its reward too, sees the result
    frequency     a world is drawn anew at a reset when so many environment steps have passed since it was last; 0: at
                  every reset. All are drawn at the first

    Without entries it is `task`, bit for bit. Random numbers follow from a key that each row draws at its reset.
    """

    task: Any
    worlds: tuple[Vary, ...] = ()
    pushes: tuple[Push, ...] = ()
    observations: tuple[Noise, ...] = ()
    actions: tuple[Noise, ...] = ()
    frequency: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.task, Randomized):
            raise UserError("A task is randomised once: give all entries to one Randomized.")
        if self.frequency < 0:
            raise UserError(f"frequency is {self.frequency} steps, but must be 0 or more.")

    @property
    def name(self) -> str:
        return f"{self.task.name}, randomised"

    @property
    def forward_after_reset(self) -> bool:
        return self.task.forward_after_reset

    @property
    def substeps(self) -> int:
        return self.task.substeps

    @property
    def max_episode_steps(self) -> int:
        return self.task.max_episode_steps

    @property
    def action(self) -> ActionSpace:
        return self.task.action

    @property
    def actor(self) -> tuple[TensorSpec, ...]:
        return self.task.actor

    @property
    def critic(self) -> tuple[TensorSpec, ...]:
        return self.task.critic

    def model(self) -> Any:
        return self.task.model()

    def start(self, sim: Simulation) -> Memory:
        """Memory of the task within, and beside it:

        key      [N] int64, from which a row's numbers of this episode follow
        age      [N] int64, steps of this episode
        steps    [N] int64, steps of each world since the beginning of the run
        drawn    [N] int64, value of `steps` when the row's world was drawn
        numbers  [N, C] from (0, 1), those of this step and of this episode, in the order of `_widths`
        acted    [N, columns], the last action as the task saw it

        Raises:
            UserError: an entry names what the model does not have.
        """
        memory = self.task.start(sim)
        count = torch.zeros(sim.rows, dtype=torch.int64, device=sim.device)
        own = {"key": count, "age": count.clone(), "steps": count.clone(), "drawn": count - self.frequency}
        own["numbers"] = torch.full((sim.rows, sum(self._widths)), 0.5, dtype=sim.dtype, device=sim.device)
        own["acted"] = torch.zeros(sim.rows, len(self.action.low), device=sim.device)
        fields = dict.fromkeys(field for vary in self.worlds for field in QUANTITIES[vary.quantity].fields)
        originals = {field: sim.expand(field)[:1].clone() for field in fields}
        for push in self.pushes:
            velocities = sim.bind("qvel").shape[1]
            if not 0 <= push.dofs[0] < push.dofs[1] <= velocities:
                raise UserError(
                    f"A push's dofs are {push.dofs}, but must be first and one past the last of {velocities}."
                )
        if (sim.device, sim.dtype) not in self._constants:  # else in use already, perhaps in recorded graphs
            model = self.model() if self.worlds else None
            leads = [vary.lead(originals[QUANTITIES[vary.quantity].fields[0]]) for vary in self.worlds]
            chosen = tuple(vary.chosen(model, lead) for vary, lead in zip(self.worlds, leads, strict=True))
            bounds = torch.tensor((self.action.low, self.action.high), dtype=torch.float32, device=sim.device)
            self._constants[sim.device, sim.dtype] = Constants(originals, chosen, self._kept(sim), *bounds)
        return memory | {OWN + name: tensor for name, tensor in own.items()}

    def elapse(self, memory: Memory, steps: int) -> None:
        """Let schedules go on from there."""
        memory[OWN + "steps"].fill_(steps)

    def apply(self, sim: Simulation, memory: Memory, action: Tensor) -> None:
        key, age, steps, numbers = (memory[OWN + name] for name in ("key", "age", "steps", "numbers"))
        constants = self._constants[sim.device, sim.dtype]
        age.add_(1)
        steps.add_(1)
        fresh = uniforms(key, age, numbers.shape[1], sim.dtype)
        numbers.copy_(torch.where(constants.kept, numbers, fresh))
        pushes, _, actions = self._split(numbers)
        for push, wait, number in zip(self.pushes, pushes[0::2], pushes[1::2], strict=True):
            _push(sim, push, wait, push.sample(number, steps), age)
        if self.actions:
            (noisy,) = leaves(_noisy(memory, self.actions, action, actions))
            action = memory[OWN + "acted"].copy_(noisy.clamp(constants.low, constants.high))
        self.task.apply(sim, memory, action)

    def observe(self, sim: Simulation, memory: Memory) -> Obs:
        obs = self.task.observe(sim, memory)
        _, observations, _ = self._split(memory[OWN + "numbers"])
        actor = _noisy(memory, self.observations, obs.actor, observations)
        return Obs(actor, actor if obs.critic is obs.actor else obs.critic, obs.mask)

    def reward_done(self, sim: Simulation, memory: Memory, action: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        return self.task.reward_done(sim, memory, memory[OWN + "acted"] if self.actions else action)

    def reset(self, sim: Simulation, memory: Memory, rows: Tensor, draw: Draw) -> None:
        self.task.reset(sim, memory, rows, draw)
        if not (self.worlds or self.pushes or self.observations or self.actions):
            return  # without a draw, so that the next episode is that of the task within too
        parts = draw.uniform(rows, 0.0, 2.0**PART_BITS, KEY_PARTS).to(torch.int64)
        shifts = torch.arange(KEY_PARTS, device=parts.device) * PART_BITS
        key, age, numbers = (memory[OWN + name] for name in ("key", "age", "numbers"))
        write_rows(key, rows, (parts << shifts).sum(1))
        age.masked_fill_(rows, 0)
        elements = [chosen.shape[1] for chosen in self._constants[sim.device, sim.dtype].chosen]
        # an age of 0 for all: the numbers of the rows that go on are not used
        first, *worlds = uniforms(key, torch.zeros_like(age), numbers.shape[1] + sum(elements), sim.dtype).split(
            [numbers.shape[1], *elements], 1
        )
        write_rows(numbers, rows, first)
        if self.worlds:
            self._draw_worlds(sim, memory, rows, worlds)

    @cached_property
    def _constants(self) -> dict[tuple[torch.device, torch.dtype], Constants]:
        """Not in memory, which is saved: they follow from the settings, and those may be changed for a resumed run."""
        return {}

    @cached_property
    def _widths(self) -> tuple[int, ...]:
        """Columns of each push's wait and velocity, of each observation noise, of each action noise."""
        observed = sum(math.prod(spec.shape) for spec in self.actor)
        pushes = (width for push in self.pushes for width in (1, push.dofs[1] - push.dofs[0]))
        actions = (self.action.columns,) * len(self.actions)
        return (*pushes, *(observed,) * len(self.observations), *actions)

    def _split(self, numbers: Tensor) -> tuple[Sequence[Tensor], Sequence[Tensor], Sequence[Tensor]]:
        """The columns of pushes, of observations and of actions."""
        parts = numbers.split(self._widths, 1) if self._widths else ()
        first, second = 2 * len(self.pushes), 2 * len(self.pushes) + len(self.observations)
        return parts[:first], parts[first:second], parts[second:]

    def _kept(self, sim: Simulation) -> Tensor:
        kept = [one for _ in self.pushes for one in (True, False)]
        kept += [noise.drawn == "episode" for noise in (*self.observations, *self.actions)]
        columns = [one for one, width in zip(kept, self._widths, strict=True) for _ in range(width)]
        return torch.tensor([columns], dtype=torch.bool, device=sim.device)

    def _draw_worlds(self, sim: Simulation, memory: Memory, rows: Tensor, numbers: Sequence[Tensor]) -> None:
        """Draw anew the worlds of `rows` that have been the same for long enough."""
        steps, drawn = memory[OWN + "steps"], memory[OWN + "drawn"]
        due = rows & (steps - drawn >= self.frequency)
        write_rows(drawn, due, steps)
        constants = self._constants[sim.device, sim.dtype]
        fields = dict(constants.originals)
        for vary, chosen, uniform in zip(self.worlds, constants.chosen, numbers, strict=True):
            vary.change(fields, vary.sample(uniform, steps), chosen)
        for name, values in fields.items():
            write_rows(sim.expand(name), due, values)
        if any(QUANTITIES[vary.quantity].derives for vary in self.worlds):
            sim.set_const(due)


def _push(sim: Simulation, push: Push, wait: Tensor, number: Tensor, age: Tensor) -> None:
    """`wait` [N, 1] from (0, 1) says when in the interval; `number` [N, dofs] what happens then."""
    due = (age[:, None] + (wait * push.interval).to(torch.int64)) % push.interval == 0
    velocity = sim.bind("qvel")[:, slice(*push.dofs)]
    velocity.copy_(torch.where(due, push.combine(velocity, number), velocity))


def _noisy(memory: Memory, noises: Sequence[Noise], tree: Tree, numbers: Sequence[Tensor]) -> Tree:
    """`tree` of [N, ...] with noise, in its own dtype."""
    steps, age = memory[OWN + "steps"], memory[OWN + "age"]
    parts = leaves(tree)
    widths = [part.flatten(1).shape[1] for part in parts]
    for noise, uniform in zip(noises, numbers, strict=True):
        number = noise.sample(uniform, steps - age if noise.drawn == "episode" else steps)
        split = zip(parts, number.split(widths, 1), strict=True)
        parts = tuple(noise.combine(part, one.view_as(part)).to(part.dtype) for part, one in split)
    return parts if isinstance(tree, tuple) else parts[0]
