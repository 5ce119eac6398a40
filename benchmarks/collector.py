"""Steps a second of the collector on HalfCheetah, beside the bare engine with the same actions.

    python benchmarks/collector.py [--rows 64] [--threads 1 2] [--steps 256] [--rounds 7]

Recorded random actions take the network's place, so what is left is what the collector and the task cost. Bare
engine and collector alternate, so that both meet the same load of the machine; the ratio is the median over rounds.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor, nn

from environments.tasks.half_cheetah import HalfCheetah
from ppo_and_friends.collect import Collector, Rows
from ppo_and_friends.networks.cores import IdentityCore
from ppo_and_friends.networks.distributions import Distribution
from ppo_and_friends.networks.net import Action
from ppo_and_friends.vector.sim.batch_cpu import BatchSim
from ppo_and_friends.vector.sim.task_env import SimEnv


class Recorded(nn.Module):
    """What a collector asks of a net, from a list of actions `[T, N, columns]`."""

    def __init__(self, actions: Tensor) -> None:
        super().__init__()
        _, rows, columns = actions.shape
        self.actions, self.taken = actions, 0
        self.actor_core = IdentityCore(columns)
        self.distribution = Distribution()
        self.distribution.register_buffer("anchor", torch.zeros(0))
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


def measure(rows: int, threads: int, steps: int, rounds: int) -> None:
    task = HalfCheetah()
    env = SimEnv(task).make(rows, threads)
    sim = BatchSim(task.model(), rows, threads, task.name)
    spec = env.spec.groups[0]
    actions = torch.rand(steps, rows, spec.action.columns, generator=Generator().manual_seed(0)) * 2 - 1
    storage = Rows(spec, Recorded(actions), steps, 1, Generator())  # type: ignore[arg-type]
    collector = Collector(env, [storage], steps, False, 0)
    everything = torch.ones(rows, dtype=torch.bool)
    collector.collect()
    engine, whole = [], []
    for _ in range(rounds):
        env.reset(collector.resets)
        sim.reset(everything)
        sim.bind("qpos").copy_(env.sim.bind("qpos"))
        sim.bind("qvel").copy_(env.sim.bind("qvel"))
        engine.append(seconds(lambda: bare(sim, task.substeps, actions)))
        whole.append(seconds(collector.collect))
    ratio = statistics.median(one / other for one, other in zip(engine, whole, strict=True))
    rates = [rows * steps / statistics.median(times) for times in (engine, whole)]
    print(f"{threads} threads: engine {rates[0]:,.0f} steps/s, collector {rates[1]:,.0f}, ratio {ratio:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--steps", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for threads in options.threads:
        measure(options.rows, threads, options.steps, options.rounds)


if __name__ == "__main__":
    main()
