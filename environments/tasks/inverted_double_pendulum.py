"""InvertedDoublePendulum: balance two poles, one on the other, on a cart, as Gymnasium's InvertedDoublePendulum-v5."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from environments.tasks.common import GymnasiumTask, symmetric_obs
from ppo_and_friends.types import Obs
from ppo_and_friends.vector.sim.simulation import Memory, Simulation

TIP = 0  # the only site of the model
LARGEST_SEEN = 10.0  # velocities and forces are clipped to this in the observation


@dataclass(frozen=True)
class InvertedDoublePendulum(GymnasiumTask):
    """Reward = survive - distance - velocity.

    survive    healthy_reward unless the tip is at a height of 1 or below, which terminates
    distance   0.01 x^2 + (height - 2)^2 of the tip
    velocity   0.001 and 0.005 times the squared velocities of the two joints
    """

    xml_file: str = "inverted_double_pendulum.xml"
    substeps: int = 5
    healthy_reward: float = 10.0
    reset_noise_scale: float = 0.1

    name: ClassVar[str] = "InvertedDoublePendulum (Gymnasium v5 semantics)"
    normal_velocity_noise: ClassVar[bool] = True
    forward_after_reset: ClassVar[bool] = True  # the force on the cart is observed

    def observation_size(self, model: Any) -> int:
        return 1 + 2 * (model.nq - 1) + model.nv + 1

    def start(self, sim: Simulation) -> Memory:
        sim.bind("site_xpos")
        sim.bind("qfrc_constraint")
        return super().start(sim)

    def observe(self, sim: Simulation, memory: Memory) -> Obs:
        qpos = sim.bind("qpos")
        angles = qpos[:, 1:]
        circle = torch.polar(torch.ones_like(angles), angles)  # libm's sine, as NumPy's; torch's own differs in a bit
        velocity = sim.bind("qvel").clamp(-LARGEST_SEEN, LARGEST_SEEN)
        force = sim.bind("qfrc_constraint")[:, :1].clamp(-LARGEST_SEEN, LARGEST_SEEN)
        return symmetric_obs((qpos[:, :1], circle.imag, circle.real, velocity, force))

    def reward_done(self, sim: Simulation, memory: Memory, action: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        x, _, height = sim.bind("site_xpos")[:, TIP].unbind(1)
        _, first, second = sim.bind("qvel").unbind(1)
        fallen = height <= 1
        survive = self.healthy_reward * ~fallen
        distance = 0.01 * x.square() + (height - 2).square()
        velocity = 1e-3 * first.square() + 5e-3 * second.square()
        log = {"reward_survive": survive, "distance_penalty": -distance, "velocity_penalty": -velocity}
        return survive - distance - velocity, fallen, log
