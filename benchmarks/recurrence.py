"""What memory costs: steps a second of the whole training loop with a GRU or an LSTM, beside layers without memory.

    python benchmarks/recurrence.py [--experiments CartPole] [--size 64] [--chunk 16] [--rounds 5] [--compile off on]

Each side has two layers of --size units in actor and critic: both fully connected (MLP), or the second a core. All else
is the launcher's. Sides take turns, an iteration each, in one process; seconds are those of its processor, so that what
else the machine does counts as little as it can. The first iterations, which compile, do not count.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import common
import torch

from ppo_and_friends import registry
from ppo_and_friends.accelerate import accelerate
from ppo_and_friends.config import Experiment
from ppo_and_friends.ppo import PPO

SIDES = {"MLP": "identity", "GRU": "gru", "LSTM": "lstm"}
SECONDS = 2.0  # of processor time at least that a round of a side takes


def sized(experiment: Experiment, core: Any, size: int, chunk: int) -> Experiment:
    """The experiment with two layers of `size` units, the second a core where there is one."""
    hidden = (size, size) if core == "identity" else (size,)
    bodies = {name: replace(getattr(experiment.net, name), hidden=hidden) for name in ("actor", "critic")}
    net = replace(experiment.net, **bodies, core=core, core_size=size, chunk_length=chunk)
    return replace(experiment, net=net, num_timesteps=10**9)  # no schedule ends meanwhile


def side(experiment: Experiment) -> Callable[[int], float]:
    """Steps a second of a round."""
    ppo = PPO(experiment)
    accelerate(ppo, print)
    for _ in range(2):
        ppo.iterate()

    def measure(_: int) -> float:
        steps, start = ppo.timesteps, time.process_time()
        while time.process_time() - start < SECONDS:
            ppo.iterate()
        return (ppo.timesteps - steps) / (time.process_time() - start)

    return measure


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--experiments", nargs="+", default=["CartPole"])
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--chunk", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--compile", nargs="+", choices=("off", "on"), default=["off", "on"])
    options = parser.parse_args()
    torch.set_num_threads(1)
    origin = common.origin()
    print(common.describe(origin))
    for name in options.experiments:
        for compiled in options.compile:
            launcher = replace(registry.build(name), compile=compiled)
            sides = {label: side(sized(launcher, core, options.size, options.chunk)) for label, core in SIDES.items()}
            values = common.alternate(sides, options.rounds)
            setting = f"{name}, {options.size} units, chunks of {options.chunk}, --compile {compiled}"
            common.show(setting, values, "MLP", "steps/s")
            common.append("recurrence", origin, common.rows(setting, values, "MLP", "steps/s"), options.results)


if __name__ == "__main__":
    main()
