"""What the tests of the Isaac tasks share: environments in float64, and simulations that only hold tensors."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from environments.tasks.isaac_allegro_hand import IsaacAllegroHand
from environments.tasks.isaac_ant import IsaacAnt
from environments.tasks.isaac_anymal import IsaacAnymal
from environments.tasks.isaac_ball_balance import IsaacBallBalance
from environments.tasks.isaac_cartpole import IsaacCartpole
from environments.tasks.isaac_humanoid import IsaacHumanoid
from environments.tasks.isaac_shadow_hand import IsaacShadowHand, openai_shadow_hand
from ppo_and_friends.types import Obs
from ppo_and_friends.vector.sim.task_env import TaskEnv, choose_gl_backend

choose_gl_backend()

from ppo_and_friends.vector.sim.batch_cpu import BatchSim  # after choose_gl_backend: it imports mujoco

HALF = math.sqrt(0.5)
QUARTER_TURN = {"x": (HALF, HALF, 0.0, 0.0), "y": (HALF, 0.0, HALF, 0.0), "z": (HALF, 0.0, 0.0, HALF)}

ROBOTS = (IsaacCartpole, IsaacAnt, IsaacHumanoid, IsaacBallBalance, IsaacAnymal)
HANDS = {"shadow": IsaacShadowHand(), "openai": openai_shadow_hand(), "allegro": IsaacAllegroHand()}
each_hand = pytest.mark.parametrize("task", HANDS.values(), ids=HANDS)
SHADOW_PLACE = (0.0, -0.39, 0.56)  # of the goal


def close(*values: float) -> Any:
    return pytest.approx(list(values), abs=1e-6)


def exact(task: Any, rows: int = 2, seed: int = 5) -> TaskEnv:
    """A fresh environment that shows float64."""
    env = TaskEnv(task, BatchSim(task.model(), rows, 1, task.name), "test", torch.float64)
    env.reset(seed)
    return env


def put(env: TaskEnv, field: str, first: int, *values: float) -> None:
    """Write `values` into every row of a field, from column `first` on."""
    env.sim.bind(field)[:, first : first + len(values)] = torch.tensor(values, dtype=torch.float64)


def put_cube(env: TaskEnv, *pose: float) -> None:
    put(env, "qpos", env.task.hand.joints, *pose)


def seen(env: TaskEnv) -> list[float]:
    """What row 0 observes as it stands."""
    actor = env.task.observe(env.sim, env._memory).actor
    assert isinstance(actor, Tensor)
    return actor[0].tolist()


def judged(env: TaskEnv, *action: float) -> tuple[float, bool, dict[str, float]]:
    """Reward, end and log of row 0 as it stands, after `action`."""
    repeated = torch.tensor([action or [0.0] * env.task.action.columns]).repeat(env.sim.rows, 1)
    reward, ends, log = env.task.reward_done(env.sim, env._memory, repeated)
    return reward[0].item(), bool(ends[0]), {name: value[0].item() for name, value in log.items()}


def random_actions(env: TaskEnv, steps: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.rand(steps, env.sim.rows, env.task.action.columns, generator=generator) - 1


def run(env: TaskEnv, actions: Tensor) -> list[Any]:
    return [env.step((action,))[0] for action in actions]


class HeldSim:
    """A `Simulation` that holds the fields of another and does not move, in any dtype, on any device.

    On the device `meta` there are shapes but no numbers: whatever asks for one (item, bool, nonzero, a mask as an
    index) raises.
    """

    def __init__(self, source: BatchSim, dtype: torch.dtype, device: str = "cpu") -> None:
        self.rows, self.dtype, self.device = source.rows, dtype, torch.device(device)
        self._source, self._fields = source, {}

    def bind(self, field: str) -> Tensor:
        if field not in self._fields:
            self._fields[field] = self._source.bind(field).to(self.device, self.dtype, copy=True)
        return self._fields[field]


class HeldDraw:
    """A `Draw` of one number throughout."""

    def __init__(self, sim: Any) -> None:
        self._sim = sim

    def uniform(self, rows: Tensor, low: float, high: float, size: int) -> Tensor:
        return torch.full((self._sim.rows, size), 0.6 * low + 0.4 * high, dtype=self._sim.dtype, device=rows.device)

    def normal(self, rows: Tensor, size: int) -> Tensor:
        return self.uniform(rows, 0.0, 1.0, size)


def one_round(task: Any, source: BatchSim, dtype: torch.dtype, device: str = "cpu") -> list[Tensor]:
    """All that a task does in a step and a reset, over the state of `source`: what it shows, rewards, and writes."""
    sim: Any = HeldSim(source, dtype, device)
    memory = task.start(sim)
    rows = torch.tensor([True, *[False] * (sim.rows - 1)]).to(device)
    everyone = torch.ones(sim.rows, dtype=torch.bool, device=device)
    action = torch.linspace(-1, 1, sim.rows * task.action.columns).view(sim.rows, -1).to(device)
    task.reset(sim, memory, everyone, HeldDraw(sim))
    task.apply(sim, memory, action)
    reward, ends, log = task.reward_done(sim, memory, action)
    shown: Obs = task.observe(sim, memory)
    task.reset(sim, memory, rows, HeldDraw(sim))
    assert isinstance(shown.actor, Tensor) and isinstance(shown.critic, Tensor)
    return [shown.actor, shown.critic, reward, *log.values(), sim.bind("qpos"), sim.bind("ctrl"), ends.to(dtype)]


class World:
    """One robot in float64, whose state is written directly."""

    def __init__(self, task: Any, rows: int = 1) -> None:
        self.env = exact(task, rows, 3)
        self.task, self.sim, self.memory = task, self.env.sim, self.env._memory

    def set(self, field: str, values: Any, start: int = 0) -> None:
        put(self.env, field, start, *values)

    def seen(self) -> Tensor:
        return torch.tensor(seen(self.env), dtype=torch.float64)

    def outcome(self) -> tuple[float, bool, dict[str, Tensor]]:
        reward, ended, log = self.task.reward_done(self.sim, self.memory, self.memory["action"])
        return float(reward[0]), bool(ended[0]), log

    def step(self, action: Any, times: int = 1) -> Any:
        action = torch.as_tensor(action, dtype=torch.float32).expand(self.sim.rows, self.task.actions)
        return [self.env.step((action,))[0] for _ in range(times)][-1]

    def joint(self, name: str) -> int:
        """Its place among the joints that actions move."""
        model = self.task.model()
        names = [model.joint(model.actuator_trnid[i, 0]).name for i in range(model.nu)]
        return names.index(name)


def assert_near(actual: Any, expected: Any, tolerance: float = 1e-6) -> None:
    actual, expected = (torch.as_tensor(value, dtype=torch.float64) for value in (actual, expected))
    torch.testing.assert_close(actual, expected, atol=tolerance, rtol=0)
