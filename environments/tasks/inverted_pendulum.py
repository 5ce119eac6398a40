"""InvertedPendulum: balance a pole on a cart. Barto, Sutton and Anderson (1983), as Gymnasium's InvertedPendulum-v5."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from environments.tasks.common import GymnasiumTask, symmetric_obs
from ppo_and_friends.types import Obs
from ppo_and_friends.vector.sim.simulation import Memory, Simulation

LARGEST_ANGLE = 0.2  # radians


@dataclass(frozen=True)
class InvertedPendulum(GymnasiumTask):
    """Reward 1 a step until the pole leans by more than 0.2 radians, which terminates."""

    xml_file: str = "inverted_pendulum.xml"
    substeps: int = 2
    reset_noise_scale: float = 0.01

    name: ClassVar[str] = "InvertedPendulum (Gymnasium v5 semantics)"

    def observation_size(self, model: Any) -> int:
        return model.nq + model.nv

    def observe(self, sim: Simulation, memory: Memory) -> Obs:
        return symmetric_obs((sim.bind("qpos"), sim.bind("qvel")))

    def reward_done(self, sim: Simulation, memory: Memory, action: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        qpos, qvel = sim.bind("qpos"), sim.bind("qvel")
        finite = torch.isfinite(qpos).all(1) & torch.isfinite(qvel).all(1)
        balanced = finite & (qpos[:, 1].abs() <= LARGEST_ANGLE)
        reward = balanced.to(sim.dtype)
        return reward, ~balanced, {"reward_survive": reward}
