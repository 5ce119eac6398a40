"""Ant: run forward on four legs. Schulman et al. (2016), as Gymnasium's Ant-v5 has it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from environments.tasks.common import GymnasiumTask, sum_of_squares, symmetric_obs
from ppo_and_friends.types import Obs
from ppo_and_friends.vector.sim.simulation import Memory, Simulation


@dataclass(frozen=True)
class Ant(GymnasiumTask):
    """Reward = forward + survive - control - contact.

    forward   forward_reward_weight * x velocity of main_body
    survive   healthy_reward while the height is within healthy_z_range (its ends included) and all is finite
    control   ctrl_cost_weight * |action|^2
    contact   contact_cost_weight * |contact forces clipped to contact_force_range|^2

    Terminates when not healthy, if terminate_when_unhealthy.
    """

    xml_file: str = "ant.xml"
    substeps: int = 5
    forward_reward_weight: float = 1.0
    ctrl_cost_weight: float = 0.5
    contact_cost_weight: float = 5e-4
    healthy_reward: float = 1.0
    main_body: int = 1
    terminate_when_unhealthy: bool = True
    healthy_z_range: tuple[float, float] = (0.2, 1.0)
    contact_force_range: tuple[float, float] = (-1.0, 1.0)
    reset_noise_scale: float = 0.1
    exclude_current_positions_from_observation: bool = True
    include_cfrc_ext_in_observation: bool = True

    name: ClassVar[str] = "Ant (Gymnasium v5 semantics)"
    normal_velocity_noise: ClassVar[bool] = True
    forward_after_reset: ClassVar[bool] = True  # `position` is a derived field

    def observation_size(self, model: Any) -> int:
        forces = 6 * (model.nbody - 1) * self.include_cfrc_ext_in_observation
        return model.nq + model.nv - 2 * self.exclude_current_positions_from_observation + forces

    def position(self, sim: Simulation) -> Tensor:
        return sim.bind("xpos")[:, self.main_body, :2]

    def start(self, sim: Simulation) -> Memory:
        sim.bind("cfrc_ext")  # before any other field
        return super().start(sim)

    def contact_forces(self, sim: Simulation) -> Tensor:
        """[N, bodies, 6]."""
        return sim.bind("cfrc_ext").clamp(*self.contact_force_range)

    def observe(self, sim: Simulation, memory: Memory) -> Obs:
        hidden = 2 * self.exclude_current_positions_from_observation
        parts = (sim.bind("qpos")[:, hidden:], sim.bind("qvel"))
        if self.include_cfrc_ext_in_observation:
            parts += (self.contact_forces(sim)[:, 1:].flatten(1),)
        return symmetric_obs(parts)

    def healthy(self, sim: Simulation) -> Tensor:
        qpos, qvel = sim.bind("qpos"), sim.bind("qvel")
        lowest, highest = self.healthy_z_range
        height = qpos[:, 2]
        finite = torch.isfinite(qpos).all(1) & torch.isfinite(qvel).all(1)
        return finite & (lowest <= height) & (height <= highest)

    def reward_done(self, sim: Simulation, memory: Memory, action: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        x_velocity, y_velocity = self.velocity(sim, memory)
        healthy = self.healthy(sim)
        forward = self.forward_reward_weight * x_velocity
        survive = self.healthy_reward * healthy
        control = -self.ctrl_cost_weight * sum_of_squares(action)
        contact = -self.contact_cost_weight * sum_of_squares(self.contact_forces(sim).flatten(1))
        log = {
            "reward_forward": forward,
            "reward_ctrl": control,
            "reward_contact": contact,
            "reward_survive": survive,
            "x_velocity": x_velocity,
            "y_velocity": y_velocity,
        }
        return (forward + survive) + (control + contact), ~healthy & self.terminate_when_unhealthy, log
