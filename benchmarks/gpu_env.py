"""Launchers' environments on MuJoCo Warp, the same object for every side of a comparison."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import common  # noqa: F401 - puts this checkout on the path
import torch
from torch import Tensor

from ppo_and_friends import registry
from ppo_and_friends.config import EvaluationConfig, Experiment
from ppo_and_friends.types import Obs, Step
from ppo_and_friends.vector.sim.device_env import DeviceTaskEnv


@dataclass(frozen=True)
class OnCpu:
    """`EnvConfig` of a task on Warp's CPU backend: what a GPU would run, where there is none."""

    task: Any

    def make(self, rows: int, threads: int = 1, render: bool = False) -> DeviceTaskEnv:
        from ppo_and_friends.vector.sim.warp_gpu import WarpSim

        return DeviceTaskEnv(self.task, WarpSim(self.task.model(), rows, self.task.name, "cpu"), "mujoco_warp, cpu")


def experiment(name: str, device: str, rows: int = 0, steps: int = 0, flags: Sequence[str] = ()) -> Experiment:
    """A launcher on `device` ("cuda" or "cpu") without evaluation; 0 keeps its own rows and steps.

    Args:
        flags: of main.py, for other settings.
    """
    built = (registry.build_on_gpu(name) if device != "cpu" else None) or registry.build(name)
    if flags:
        from ppo_and_friends.flags import split
        from ppo_and_friends.parser import parse

        _, _, built = parse(split(flags), built)
    if device == "cpu":
        env, compiler = OnCpu(built.env.task), "off"  # a trial is shorter than compiling
    else:
        env, compiler = replace(built.env, simulator="warp"), built.compile
    rows, steps = rows or built.envs_per_proc, steps or built.num_timesteps
    sizes = {"envs_per_proc": rows, "num_timesteps": steps}
    return replace(built, env=env, compile=compiler, evaluation=EvaluationConfig(every=0), **sizes)


def recorded(work: Callable[[], Any], device: torch.device, *generators: torch.Generator) -> Callable[[], Any]:
    """`work` as one CUDA graph, which draws from `generators`, where `device` is a GPU; else itself."""
    if device.type != "cuda":
        return work
    for _ in range(2):  # kernels are loaded, and the engine records its own graph
        work()
    graph = torch.cuda.CUDAGraph()
    for generator in generators:
        graph.register_generator_state(generator)
    with torch.cuda.graph(graph):
        work()
    return graph.replay


class Captured:
    """A `DeviceTaskEnv` whose step is one CUDA graph on a GPU; the next step overwrites what the last one gave."""

    def __init__(self, env: DeviceTaskEnv) -> None:
        self.env, self.spec = env, env.spec
        (group,) = env.spec.groups
        self.action = torch.zeros(group.rows, group.action.columns, device=env.spec.device)
        env.reset(0)
        self.play = recorded(self._step, env.spec.device, env.generator)

    def _step(self) -> None:
        self.result = self.env.step((self.action,))

    def reset(self, seed: int) -> tuple[Obs, ...]:
        return self.env.reset(seed)

    def step(self, actions: tuple[Tensor, ...]) -> tuple[Step, ...]:
        self.action.copy_(actions[0])
        self.play()
        return self.result
