"""IsaacIngenuity: the Mars helicopter flies to targets under Mars' gravity (Isaac Gym's Ingenuity)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from environments.tasks.isaac_common import IsaacTask
from environments.tasks.isaac_flight import aircraft, hover_reward, root_of, scaled_obs, thrusts
from ppo_and_friends.types import Obs
from ppo_and_friends.vector.sim.simulation import Draw, Memory, Simulation
from ppo_and_friends.vector.sim.tensors import write_rows

TIMESTEP = 0.005
LIFT = 20.0  # N of a rotor at full action
MAX_LEAN = 0.2  # sideways force as a part of the lift
TARGET_PERIOD = 500  # steps
UPRIGHT_WEIGHT = 5.0


@dataclass(frozen=True)
class IsaacIngenuity(IsaacTask):
    """Reward = near (1 + 5 upright + still), 7 at best; the terms are those of IsaacQuadcopter.

    A new target comes every 500 steps, up to 5 m away along x and y and 1 to 2 m high; all of an episode's targets are
    drawn at its start. The actions are the force of the lower rotor (x, y, z), then of the upper one, in its own frame.
    Ends more than 8 m from the target or below 0.5 m. The two rotor discs, which Isaac Gym locks, are part of the body;
    the fuselage's mesh and the blades that spin for the eye, of unknown mass, are left out.
    """

    substeps: int = 2
    max_episode_steps: int = 2000

    name: ClassVar[str] = "Ingenuity (Isaac Gym semantics)"
    actions: ClassVar[int] = 6
    observations: ClassVar[int] = 13

    def start(self, sim: Simulation) -> Memory:
        periods = -(-self.max_episode_steps // TARGET_PERIOD)
        return {
            "age": torch.zeros(sim.rows, dtype=torch.int64, device=sim.device),
            "targets": torch.zeros(sim.rows, periods, 3, dtype=sim.dtype, device=sim.device),
            "target": torch.zeros(sim.rows, 3, dtype=sim.dtype, device=sim.device),
        }

    def apply(self, sim: Simulation, memory: Memory, action: Tensor) -> None:
        period = (memory["age"] // TARGET_PERIOD).view(-1, 1, 1).expand(-1, 1, 3)
        memory["target"].copy_(memory["targets"].gather(1, period).squeeze(1))
        memory["age"].add_(1)
        lower_and_upper = action.unflatten(1, (2, 3))
        lift = LIFT * lower_and_upper[..., 2:]
        sideways = lift * lower_and_upper[..., :2].clamp(-MAX_LEAN, MAX_LEAN)
        sim.bind("ctrl").copy_(torch.cat((sideways, lift), -1).flatten(1))

    def observe(self, sim: Simulation, memory: Memory) -> Obs:
        root = root_of(sim)
        return scaled_obs(root, memory["target"] - root.position)

    def reward_done(self, sim: Simulation, memory: Memory, action: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        root = root_of(sim)
        reward, log = hover_reward(root, memory["target"] - root.position, UPRIGHT_WEIGHT)
        return reward, (log["distance"] > 8) | (root.position[:, 2] < 0.5), log

    def reset(self, sim: Simulation, memory: Memory, rows: Tensor, draw: Draw) -> None:
        qpos, targets = sim.bind("qpos"), memory["targets"]
        write_rows(qpos[:, :2], rows, draw.uniform(rows, -1.5, 1.5, 2))
        write_rows(qpos[:, 2:3], rows, 1 + draw.uniform(rows, -0.2, 1.5, 1))
        periods = targets.shape[1]
        places = draw.uniform(rows, -5, 5, 2 * periods).unflatten(1, (periods, 2))
        heights = draw.uniform(rows, 1, 2, periods)[..., None]
        write_rows(targets, rows, torch.cat((places, heights), -1))
        write_rows(memory["target"], rows, targets[:, 0])
        memory["age"].masked_fill_(rows, 0)

    def mjcf(self) -> str:
        body = '<geom type="box" size="0.06 0.06 0.06" density="50" material="body"/>'
        rotors = "".join(
            f"""
      <geom type="cylinder" pos="0 0 {height}" size="0.15 0.005" density="1000" rgba="0.3 0.3 0.35 0.6"/>
      <site name="rotor{number}" pos="0 0 {height}"/>"""
            for number, height in enumerate((0, 0.025))
        )
        legs = "".join(
            f'<geom type="capsule" fromto="0 0 -0.05 {x} {y} -0.2" size="0.004" mass="0" material="limb"/>'
            for x in (-0.15, 0.15)
            for y in (-0.15, 0.15)
        )
        return aircraft(
            body + rotors + legs,
            thrusts(("1 0 0", "0 1 0", "0 0 1"), 2),
            ("0 -1.1 0.5", "1 0 0 0 0.41 0.91"),
            start=1,
            timestep=TIMESTEP,
            extra='<option gravity="0 0 -3.721"/>',
        )
