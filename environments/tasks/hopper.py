"""Hopper: hop forward on one leg. Erez, Tassa and Todorov (2011), as Gymnasium's Hopper-v5 has it."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Any, ClassVar

from torch import Tensor

from environments.tasks.common import GymnasiumTask, inside, sum_of_squares, symmetric_obs
from ppo_and_friends.types import Obs
from ppo_and_friends.vector.sim.simulation import Memory, Simulation


@dataclass(frozen=True)
class Hopper(GymnasiumTask):
    """Reward = forward + survive - control.

    forward   forward_reward_weight * x velocity
    survive   healthy_reward while height, torso angle and all other coordinates are within their ranges
    control   ctrl_cost_weight * |action|^2

    Terminates when not healthy, if terminate_when_unhealthy.
    """

    xml_file: str = "hopper.xml"
    substeps: int = 4
    forward_reward_weight: float = 1.0
    ctrl_cost_weight: float = 1e-3
    healthy_reward: float = 1.0
    terminate_when_unhealthy: bool = True
    healthy_state_range: tuple[float, float] = (-100.0, 100.0)
    healthy_z_range: tuple[float, float] = (0.7, inf)
    healthy_angle_range: tuple[float, float] = (-0.2, 0.2)
    reset_noise_scale: float = 5e-3
    exclude_current_positions_from_observation: bool = True

    name: ClassVar[str] = "Hopper (Gymnasium v5 semantics)"

    def observation_size(self, model: Any) -> int:
        return model.nq + model.nv - self.exclude_current_positions_from_observation

    def position(self, sim: Simulation) -> Tensor:
        return sim.bind("qpos").narrow(1, 0, 1)

    def observe(self, sim: Simulation, memory: Memory) -> Obs:
        hidden = int(self.exclude_current_positions_from_observation)
        return symmetric_obs((sim.bind("qpos")[:, hidden:], sim.bind("qvel").clamp(-10, 10)))

    def healthy(self, sim: Simulation) -> Tensor:
        qpos, qvel = sim.bind("qpos"), sim.bind("qvel")
        bounds = self.healthy_state_range
        state = inside(qpos[:, 2:], bounds).all(1) & inside(qvel, bounds).all(1)
        return state & inside(qpos[:, 1], self.healthy_z_range) & inside(qpos[:, 2], self.healthy_angle_range)

    def reward_done(self, sim: Simulation, memory: Memory, action: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        (x_velocity,) = self.velocity(sim, memory)
        healthy = self.healthy(sim)
        forward = self.forward_reward_weight * x_velocity
        survive = self.healthy_reward * healthy
        control = -self.ctrl_cost_weight * sum_of_squares(action)
        log = {
            "reward_forward": forward,
            "reward_ctrl": control,
            "reward_survive": survive,
            "x_velocity": x_velocity,
        }
        return forward + survive + control, ~healthy & self.terminate_when_unhealthy, log
