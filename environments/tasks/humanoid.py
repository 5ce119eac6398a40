"""Humanoid: walk forward upright. Tassa, Erez and Todorov (2012), as Gymnasium's Humanoid-v5 has it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, reduce
from math import inf
from typing import Any, ClassVar

import torch
from torch import Tensor

from environments.tasks.common import GymnasiumTask, inside, sum_of_squares, symmetric_obs
from ppo_and_friends.types import Obs
from ppo_and_friends.vector.sim.simulation import Memory, Simulation

ROOT = 6  # degrees of freedom of the free joint, on which no actuator acts


@dataclass(frozen=True)
class HumanoidBody(GymnasiumTask):
    """What the humanoid tasks observe: coordinates, and inertias, velocities and forces of every body."""

    substeps: int = 5
    reset_noise_scale: float = 1e-2
    exclude_current_positions_from_observation: bool = True
    include_cinert_in_observation: bool = True
    include_cvel_in_observation: bool = True
    include_qfrc_actuator_in_observation: bool = True
    include_cfrc_ext_in_observation: bool = True

    forward_after_reset: ClassVar[bool] = True  # most of what is observed is derived

    def observation_size(self, model: Any) -> int:
        bodies = model.nbody - 1
        return (
            model.nq
            + model.nv
            - 2 * self.exclude_current_positions_from_observation
            + 10 * bodies * self.include_cinert_in_observation
            + 6 * bodies * self.include_cvel_in_observation
            + (model.nv - ROOT) * self.include_qfrc_actuator_in_observation
            + 6 * bodies * self.include_cfrc_ext_in_observation
        )

    def start(self, sim: Simulation) -> Memory:
        sim.bind("cfrc_ext")  # before any other field
        for field in ("cinert", "cvel", "qfrc_actuator"):
            sim.bind(field)
        return super().start(sim)

    def observe(self, sim: Simulation, memory: Memory) -> Obs:
        hidden = 2 * self.exclude_current_positions_from_observation
        parts = (sim.bind("qpos")[:, hidden:], sim.bind("qvel"))
        if self.include_cinert_in_observation:
            parts += (sim.bind("cinert")[:, 1:].flatten(1),)
        if self.include_cvel_in_observation:
            parts += (sim.bind("cvel")[:, 1:].flatten(1),)
        if self.include_qfrc_actuator_in_observation:
            parts += (sim.bind("qfrc_actuator")[:, ROOT:],)
        if self.include_cfrc_ext_in_observation:
            parts += (sim.bind("cfrc_ext")[:, 1:].flatten(1),)
        return symmetric_obs(parts)


@dataclass(frozen=True)
class Humanoid(HumanoidBody):
    """Reward = forward + survive - control - contact.

    forward   forward_reward_weight * x velocity of the centre of mass
    survive   healthy_reward while the height is within healthy_z_range
    control   ctrl_cost_weight * |action|^2
    contact   contact_cost_weight * |contact forces|^2, clipped to contact_cost_range

    Terminates when not healthy, if terminate_when_unhealthy.
    """

    xml_file: str = "humanoid.xml"
    forward_reward_weight: float = 1.25
    ctrl_cost_weight: float = 0.1
    contact_cost_weight: float = 5e-7
    contact_cost_range: tuple[float, float] = (-inf, 10.0)
    healthy_reward: float = 5.0
    terminate_when_unhealthy: bool = True
    healthy_z_range: tuple[float, float] = (1.0, 2.0)

    name: ClassVar[str] = "Humanoid (Gymnasium v5 semantics)"

    @cached_property
    def masses(self) -> tuple[tuple[float, ...], float]:
        """Of each body, and of all, in kg."""
        masses = self.model().body_mass
        return tuple(masses.tolist()), float(masses.sum())

    def position(self, sim: Simulation) -> Tensor:
        """[N, 2], the centre of mass, summed body by body."""
        masses, total = self.masses
        bodies = sim.bind("xipos")[:, :, :2].unbind(1)
        return reduce(torch.add, (mass * at for mass, at in zip(masses, bodies, strict=True))) / total

    def reward_done(self, sim: Simulation, memory: Memory, action: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        x_velocity, y_velocity = self.velocity(sim, memory)
        healthy = inside(sim.bind("qpos")[:, 2], self.healthy_z_range)
        forward = self.forward_reward_weight * x_velocity
        survive = self.healthy_reward * healthy
        control = -self.ctrl_cost_weight * sum_of_squares(sim.bind("ctrl"))
        contact = self.contact_cost_weight * sum_of_squares(sim.bind("cfrc_ext").flatten(1))
        contact = contact.clamp(*self.contact_cost_range)
        log = {
            "reward_survive": survive,
            "reward_forward": forward,
            "reward_ctrl": control,
            "reward_contact": -contact,
            "x_velocity": x_velocity,
            "y_velocity": y_velocity,
        }
        return (forward + survive) + (control - contact), ~healthy & self.terminate_when_unhealthy, log
