"""A MuJoCo task of your own: `python main.py -e examples/own_task.py:Reach`, on the CPU or with `--simulator warp`."""

from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import torch
from torch import Tensor

from ppo_and_friends.config import Experiment, PPOConfig
from ppo_and_friends.schedules import linear
from ppo_and_friends.types import ActionSpace, Obs, TensorSpec
from ppo_and_friends.vector.sim.simulation import Draw, Memory, Simulation
from ppo_and_friends.vector.sim.task_env import SimEnv

MJCF = """
<mujoco>
  <option timestep="0.01" integrator="implicitfast"/>
  <default>
    <geom type="capsule" size="0.02" contype="0" conaffinity="0" rgba="0.9 0.6 0.2 1"/>
    <joint axis="0 0 1" damping="0.2"/>
  </default>
  <worldbody>
    <camera name="track" pos="0 0 1.2"/>
    <light pos="0 0 2"/>
    <body>
      <joint name="shoulder"/> <geom fromto="0 0 0 0.2 0 0"/>
      <body pos="0.2 0 0">
        <joint name="elbow"/> <geom fromto="0 0 0 0.2 0 0"/> <site name="tip" pos="0.2 0 0"/>
      </body>
    </body>
    <body>
      <joint type="slide" axis="1 0 0"/> <joint type="slide" axis="0 1 0"/>
      <geom type="sphere" size="0.04" rgba="0.2 0.7 0.3 1"/>
    </body>
  </worldbody>
  <actuator> <motor joint="shoulder" gear="1"/> <motor joint="elbow" gear="0.5"/> </actuator>
</mujoco>"""


@cache
def compiled(mjcf: str) -> Any:
    import mujoco  # here: whoever imports it earlier decides how it draws

    return mujoco.MjModel.from_xml_string(mjcf)  # pyright: ignore[reportAttributeAccessIssue]


def to_target(sim: Simulation) -> Tensor:
    return sim.bind("qpos")[:, 2:] - sim.bind("site_xpos")[:, 0, :2]


@dataclass(frozen=True)
class ReachTask:
    """Bring the tip of an arm with two joints to a target. The reward is the way that it came nearer, less effort."""

    effort_cost: float = 0.01  # fields are flags: --env.task.effort_cost 0.02
    substeps: int = 2
    max_episode_steps: int = 150
    name: ClassVar[str] = "Reach"
    forward_after_reset: ClassVar[bool] = True  # site_xpos is derived from qpos, and read right after a reset
    action: ClassVar[ActionSpace] = ActionSpace("box", low=(-1.0, -1.0), high=(1.0, 1.0))
    actor: ClassVar[tuple[TensorSpec, ...]] = (TensorSpec((8,)),)
    critic: ClassVar[tuple[TensorSpec, ...]] = actor

    def model(self) -> Any:
        return compiled(MJCF)

    def start(self, sim: Simulation) -> Memory:
        sim.bind("site_xpos")
        return {"distance": torch.zeros(sim.rows, device=sim.device, dtype=sim.dtype)}

    def apply(self, sim: Simulation, memory: Memory, action: Tensor) -> None:
        memory["distance"].copy_(to_target(sim).norm(dim=1))  # of before the step
        sim.bind("ctrl").copy_(action)

    def observe(self, sim: Simulation, memory: Memory) -> Obs:
        angles, speeds = sim.bind("qpos")[:, :2], sim.bind("qvel")[:, :2]
        seen = torch.cat((angles.cos(), angles.sin(), 0.1 * speeds, to_target(sim)), 1)
        return Obs(seen, seen, seen.new_zeros(len(seen), 0, dtype=torch.bool))  # actor, critic, no action masks

    def reward_done(self, sim: Simulation, memory: Memory, action: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        distance = to_target(sim).norm(dim=1)
        nearer = 10 * (memory["distance"] - distance)
        effort = -self.effort_cost * action.square().sum(1)
        reached = distance < 0.04
        log = {"reward_nearer": nearer, "reward_effort": effort, "is_success": reached}
        return nearer + effort + 1.0 * reached, reached, log

    def reset(self, sim: Simulation, memory: Memory, rows: Tensor, draw: Draw) -> None:
        angles = draw.uniform(rows, -3.14, 3.14, 3)
        far = draw.uniform(rows, 0.1, 0.38, 1)
        target = far * torch.cat((angles[:, 2:].cos(), angles[:, 2:].sin()), 1)
        qpos = sim.bind("qpos")  # velocities and controls are 0 after the engine's own reset
        qpos.copy_(torch.where(rows[:, None], torch.cat((angles[:, :2], target), 1), qpos))


def Reach() -> Experiment:
    ppo = PPOConfig(steps_total=2048, minibatches=8, lr=linear(1e-3, 0.0), gamma=0.95)
    return Experiment(env=SimEnv(task=ReachTask()), num_timesteps=200_000, envs_per_proc=16, ppo=ppo)
