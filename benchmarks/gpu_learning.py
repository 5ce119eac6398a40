"""Learning curves of launchers on one GPU over seeds, and what they say about speed and stability.

    python benchmarks/gpu_learning.py [IsaacAnt ...] [--seeds 1 2 3 4 5] [--rows 0] [--steps 0] [--until 0]
        [--checkpoints N N ...] [--loss-after 0] [--together 1] [--device cuda] [--seconds-limit 540]
        [-- any flag of main.py]

Every run is a process of its own and leaves its curve, one line an iteration, in RESULTS/gpu_curves/ (the last run of
each launcher, rows, steps, seed and flags). Seconds are those of training: the first ten iterations, in which
compilers work, count as the others' median; those with compilation are the clock's, from the first iteration on.
--until is the mean return whose first passing is timed; 0 is what is published of rl_games. A loss is how far the mean
return fell below its highest so far, in percent of that, --loss-after so many steps; 0 is a third of the run. What the
engine counted as trouble, unstable simulations and lost contacts, is summed over the run.
--together K trains K at once on the GPU, for returns only: their seconds are left out. Called again, it does what
gpu_learning.csv has no row of.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator

import common
import curves
import gpu_runs
from gpu_env import experiment


def jobs(options: argparse.Namespace) -> Iterator[common.Job]:
    def train(task: str, rows: int, steps: int, seed: int) -> Callable[[float], common.Row | None]:
        settings = "".join(flag.replace("/", "_") for flag in options.flags)
        settings += f"-together{options.together}" if options.together > 1 else ""
        file = options.results / "gpu_curves" / f"{task.rpartition(':')[2]}-{rows}-{steps}-{seed}{settings}.csv"
        until, after = gpu_runs.threshold(options, task), options.loss_after or steps // 3
        at = curves.checkpoints(options.checkpoints, steps)

        def run(left: float) -> common.Row | None:
            kept = {"rows": rows, "curve": file, "flags": options.flags}
            points = gpu_runs.run(gpu_runs.OURS, task, options, steps=steps, seed=seed, left=left, **kept)
            return curves.summary(points, until, after, at, options.together == 1) if points else None

        return run

    for seed in options.seeds:
        for task in options.tasks:
            made = experiment(task, options.device, options.rows, options.steps, options.flags)
            rows, steps = made.envs_per_proc, made.num_timesteps
            key = {"task": task, "flags": " ".join(options.flags), "rows": rows, "steps": steps}
            yield key | {"together": options.together, "seed": seed}, train(task, rows, steps, seed)


def main() -> int:
    parser = common.gpu_parser(__doc__)
    parser.add_argument("tasks", nargs="*", default=["IsaacAnt"])
    gpu_runs.add_options(parser)
    parser.add_argument("--loss-after", type=int, default=0, help="steps; 0: a third of the run")
    parser.add_argument("--together", type=int, default=1)
    words, flags = gpu_runs.flags_after(sys.argv[1:])
    options = parser.parse_args(words)
    options.flags = flags
    origin = common.gpu_origin(options.device)
    print(common.describe_gpu(origin))
    return common.work_through("gpu_learning", origin, jobs(options), options, options.together)


if __name__ == "__main__":
    sys.exit(main())
