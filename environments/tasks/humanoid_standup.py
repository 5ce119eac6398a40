"""HumanoidStandup: get up from lying. Tassa, Erez and Todorov (2012), as Gymnasium's HumanoidStandup-v5 has it."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import ClassVar

from torch import Tensor

from environments.tasks.common import never, sum_of_squares
from environments.tasks.humanoid import HumanoidBody
from ppo_and_friends.vector.sim.simulation import Memory, Simulation


@dataclass(frozen=True)
class HumanoidStandup(HumanoidBody):
    """Reward = height / time step of the simulator - control - impact + 1. Never terminates.

    control   ctrl_cost_weight * |action|^2
    impact    impact_cost_weight * |contact forces|^2, clipped to impact_cost_range

    Gymnasium takes a setting `uph_cost_weight` and does not use it; there is none here.
    """

    xml_file: str = "humanoidstandup.xml"
    ctrl_cost_weight: float = 0.1
    impact_cost_weight: float = 0.5e-6
    impact_cost_range: tuple[float, float] = (-inf, 10.0)

    name: ClassVar[str] = "HumanoidStandup (Gymnasium v5 semantics)"

    def reward_done(self, sim: Simulation, memory: Memory, action: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        up = sim.bind("qpos")[:, 2] / self.timestep
        control = self.ctrl_cost_weight * sum_of_squares(sim.bind("ctrl"))
        impact = self.impact_cost_weight * sum_of_squares(sim.bind("cfrc_ext").flatten(1))
        impact = impact.clamp(*self.impact_cost_range)
        log = {"reward_linup": up, "reward_quadctrl": -control, "reward_impact": -impact}
        return up - control - impact + 1, never(sim), log
