"""NVIDIA's Isaac Gym tasks on one GPU beside rl_games and rsl_rl: speed of the whole loop, and return over steps.

    pip install --no-deps rl_games==1.6.5 rsl-rl-lib==5.5.1          (and what they import)
    python benchmarks/gpu_peers.py [--tasks IsaacAnt] [--sides ours rl_games rl_games-fp32] [--seeds 1 2 3 4 5]
        [--rows 0] [--steps 0] [--until 0] [--checkpoints N N ...] [--device cuda] [--seconds-limit 540]

All sides train on the same environment, `DeviceTaskEnv` over `WarpSim`, each run in a process of its own; sides take
turns within a seed, and each seed begins with another. `rl_games_side.py` and `rsl_rl_side.py` say which settings are
equal. Speed is that of the iterations after the first ten; returns are each side's own mean of about the last 100
episodes, unscaled, at the first iteration that reached a checkpoint. 0 rows or steps are the launcher's. --until is as
`gpu_learning.py` has it, and so is the loss of return, counted from a third of the run on. Called again, it does what
gpu_peers.csv has no row of.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator

import common
import curves
import gpu_runs
import rl_games_side

from ppo_and_friends import registry

PACKAGES = ("rl_games", "rsl-rl-lib")


def jobs(options: argparse.Namespace) -> Iterator[common.Job]:
    def train(task: str, rows: int, steps: int, side: str, seed: int) -> Callable[[float], common.Row | None]:
        at = curves.checkpoints(options.checkpoints, steps)

        def run(left: float) -> common.Row | None:
            points = gpu_runs.run(side, task, options, steps=steps, seed=seed, left=left, rows=rows)
            return curves.summary(points, gpu_runs.threshold(options, task), steps // 3, at) if points else None

        return run

    for seed in options.seeds:
        for task in options.tasks:
            made = registry.build(task)
            rows, steps = options.rows or made.envs_per_proc, options.steps or made.num_timesteps
            first = (seed - 1) % len(options.sides)  # whichever seeds one call is asked for
            for side in options.sides[first:] + options.sides[:first]:
                key = {"task": task, "rows": rows, "steps": steps, "side": side, "seed": seed}
                yield key, train(task, rows, steps, side, seed)


def main() -> int:
    parser = common.gpu_parser(__doc__)
    parser.add_argument("--tasks", nargs="+", choices=list(rl_games_side.TASKS), default=["IsaacAnt"])
    parser.add_argument("--sides", nargs="+", choices=gpu_runs.SIDES, default=["ours", "rl_games", "rl_games-fp32"])
    gpu_runs.add_options(parser)
    options = parser.parse_args()
    origin = common.gpu_origin(options.device, *PACKAGES)
    print(common.describe_gpu(origin))
    return common.work_through("gpu_peers", origin, jobs(options), options)


if __name__ == "__main__":
    sys.exit(main())
