"""Steps a second of a MuJoCo task, beside the bare engine with the same actions.

    python benchmarks/collector.py [--rows 64] [--threads 1 2] [--steps 400] [--rounds 7]

Bare engine and environment alternate, so that both meet the same load of the machine; the ratio is the median over
the rounds. The environment's side is the whole `TaskEnv.step` and the write of its row into a rollout.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from environments.tasks.half_cheetah import HalfCheetah
from ppo_and_friends.types import leaves
from ppo_and_friends.vector.sim.batch_cpu import BatchSim
from ppo_and_friends.vector.sim.task_env import SimEnv, TaskEnv


def bare(sim: BatchSim, substeps: int, actions: torch.Tensor) -> None:
    control = sim.bind("ctrl")
    for action in actions:
        control.copy_(action)
        sim.step(substeps)


def environment(env: TaskEnv, rows: list[tuple[torch.Tensor, ...]], actions: torch.Tensor) -> None:
    for action, (observation, taken, reward, terminated, truncated) in zip(actions, rows, strict=True):
        (step,) = env.step((action,))
        observation.copy_(leaves(step.obs.actor)[0])
        taken.copy_(action)
        reward.copy_(step.reward)
        terminated.copy_(step.terminated)
        truncated.copy_(step.truncated)


def storage(env: TaskEnv, actions: torch.Tensor) -> list[tuple[torch.Tensor, ...]]:
    """A rollout's tensors, as one tuple of views for each step."""
    steps, rows, _ = actions.shape
    observation = torch.zeros(steps, rows, *env.spec.groups[0].actor[0].shape)
    flag = torch.zeros(steps, rows, dtype=torch.bool)
    return list(zip(observation, torch.zeros_like(actions), torch.zeros(steps, rows), flag, flag.clone(), strict=True))


def seconds(function: Callable[[], None]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def measure(rows: int, threads: int, steps: int, rounds: int) -> None:
    task = HalfCheetah()
    env = SimEnv(task).make(rows, threads)
    sim = BatchSim(task.model(), rows, threads, task.name)
    columns = env.spec.groups[0].action.columns
    actions = torch.rand(steps, rows, columns, generator=torch.Generator().manual_seed(0)) * 2 - 1
    rollout = storage(env, actions)
    everything = torch.ones(rows, dtype=torch.bool)
    engine, whole = [], []
    for _ in range(rounds):
        env.reset(0)
        sim.reset(everything)
        sim.bind("qpos").copy_(env.sim.bind("qpos"))
        sim.bind("qvel").copy_(env.sim.bind("qvel"))
        engine.append(seconds(lambda: bare(sim, task.substeps, actions)))
        whole.append(seconds(lambda: environment(env, rollout, actions)))
    ratio = statistics.median(one / other for one, other in zip(engine, whole, strict=True))
    rates = (rows * steps / statistics.median(times) for times in (engine, whole))
    print(f"{threads} threads: engine {next(rates):,.0f} steps/s, environment {next(rates):,.0f}, ratio {ratio:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with torch.inference_mode():  # nothing here is differentiated; saves 3 % with two threads
        for threads in arguments.threads:
            measure(arguments.rows, threads, arguments.steps, arguments.rounds)


if __name__ == "__main__":
    main()
