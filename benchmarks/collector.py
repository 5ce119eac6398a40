"""Steps a second of the collector on HalfCheetah, beside the bare engine with the same actions.

    python benchmarks/collector.py [--rows 64] [--threads 1 2] [--steps 256] [--rounds 7]

Recorded random actions take the network's place, so what is left is what the collector and the task cost; drawing
noise and the log-probabilities of a Gaussian are part of the collector. Bare
engine and collector alternate, so that both meet the same load of the machine; the ratio is the median over rounds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import common
import torch
from torch import Generator, Tensor, nn

from environments.tasks.half_cheetah import HalfCheetah
from ppo_and_friends.collect import Collector
from ppo_and_friends.config import NetConfig
from ppo_and_friends.networks.cores import IdentityCore
from ppo_and_friends.networks.distributions import Gaussian
from ppo_and_friends.networks.net import Action
from ppo_and_friends.rows import Rows
from ppo_and_friends.types import ActionSpace
from ppo_and_friends.vector.sim.batch_cpu import BatchSim
from ppo_and_friends.vector.sim.task_env import SimEnv


class Recorded(nn.Module):
    """What a collector asks of a net, from a list of actions `[T, N, columns]`."""

    def __init__(self, space: ActionSpace, actions: Tensor) -> None:
        super().__init__()
        _, rows, columns = actions.shape
        self.actions, self.taken = actions, 0
        self.actor_core = IdentityCore(columns)
        self.distribution = Gaussian(columns, space, NetConfig())
        self.rest = torch.zeros(rows, 2 * columns), torch.zeros(rows, 0)

    def act(self, *_: Any) -> Action:
        action = self.actions[self.taken % len(self.actions)]
        self.taken += 1
        return Action(action, action, *self.rest)


def bare(sim: BatchSim, substeps: int, actions: Tensor) -> None:
    control = sim.bind("ctrl")
    for action in actions:
        control.copy_(action)
        sim.step(substeps)


def seconds(function: Callable[[], Any]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def measure(rows: int, threads: int, steps: int, rounds: int) -> dict[str, list[float]]:
    """Steps a second of both in each round."""
    task = HalfCheetah()
    env = SimEnv(task).make(rows, threads)
    sim = BatchSim(task.model(), rows, threads, task.name)
    spec = env.spec.groups[0]
    actions = torch.rand(steps, rows, spec.action.columns, generator=Generator().manual_seed(0)) * 2 - 1
    storage = Rows(spec, Recorded(spec.action, actions), steps, 1, Generator())  # type: ignore[arg-type]
    collector = Collector(env, [storage], steps, False, 0)
    everything = torch.ones(rows, dtype=torch.bool)
    collector.collect()

    def engine(_: int) -> float:
        env.reset(collector.resets)
        sim.reset(everything)
        sim.bind("qpos").copy_(env.sim.bind("qpos"))
        sim.bind("qvel").copy_(env.sim.bind("qvel"))
        return rows * steps / seconds(lambda: bare(sim, task.substeps, actions))

    def collect(_: int) -> float:
        env.reset(collector.resets)  # both start from the same positions: contacts cost time
        return rows * steps / seconds(collector.collect)

    return common.alternate({"bare engine": engine, "collector": collect}, rounds)


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--steps", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    origin = common.origin()
    print(common.describe(origin))
    for threads in options.threads:
        values = measure(options.rows, threads, options.steps, options.rounds)
        setting = f"HalfCheetah, {options.rows} rows, {threads} threads"
        common.show(setting, values, "bare engine", "steps/s")
        common.append("collector", origin, common.rows(setting, values, "bare engine", "steps/s"), options.results)


if __name__ == "__main__":
    main()
