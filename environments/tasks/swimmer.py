"""Swimmer: three links swim forward in a viscous fluid. Coulom (2002), as Gymnasium's Swimmer-v5 has it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from environments.tasks.common import GymnasiumTask, never, sum_of_squares, symmetric_obs
from ppo_and_friends.types import Obs
from ppo_and_friends.vector.sim.simulation import Memory, Simulation


@dataclass(frozen=True)
class Swimmer(GymnasiumTask):
    """Reward = forward_reward_weight * x velocity - ctrl_cost_weight * |action|^2. Never terminates."""

    xml_file: str = "swimmer.xml"
    substeps: int = 4
    forward_reward_weight: float = 1.0
    ctrl_cost_weight: float = 1e-4
    reset_noise_scale: float = 0.1
    exclude_current_positions_from_observation: bool = True

    name: ClassVar[str] = "Swimmer (Gymnasium v5 semantics)"

    def observation_size(self, model: Any) -> int:
        return model.nq + model.nv - 2 * self.exclude_current_positions_from_observation

    def position(self, sim: Simulation) -> Tensor:
        return sim.bind("qpos").narrow(1, 0, 2)

    def observe(self, sim: Simulation, memory: Memory) -> Obs:
        hidden = 2 * self.exclude_current_positions_from_observation
        return symmetric_obs((sim.bind("qpos")[:, hidden:], sim.bind("qvel")))

    def reward_done(self, sim: Simulation, memory: Memory, action: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        x_velocity, y_velocity = self.velocity(sim, memory)
        forward = self.forward_reward_weight * x_velocity
        control = -self.ctrl_cost_weight * sum_of_squares(action)
        log = {
            "reward_forward": forward,
            "reward_ctrl": control,
            "x_velocity": x_velocity,
            "y_velocity": y_velocity,
        }
        return forward + control, never(sim), log
