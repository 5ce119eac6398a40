"""Learning curves of launchers on one GPU over seeds, and what they say about speed and stability.

    python benchmarks/gpu_learning.py [IsaacAnt ...] [--seeds 1 2 3 4 5] [--rows 0] [--steps 0] [--threshold 0]
        [--checkpoints N N ...] [--loss-after 10000000] [--together 1] [--device cuda] [--seconds-limit 540]
        [-- any flag of main.py]

Every run is a process of its own and leaves its curve, one line an iteration, in RESULTS/gpu_curves/ (the last run of
each launcher, rows, steps, seed and flags). Seconds are those
of training: the first ten iterations, in which compilers work, count as the others' median. --threshold 0 is
rl_games' published score. A loss is how far the mean return fell below its highest so far, in percent of that.
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
from gpu_peers import checkpoints

from ppo_and_friends import registry

THRESHOLDS = {  # rl_games on Isaac Gym, as CleanRL's documentation reports it
    "IsaacCartpole": 417.0,
    "IsaacAnt": 5873.0,
    "IsaacHumanoid": 6255.0,
    "IsaacBallBalance": 320.0,
    "IsaacAnymal": 62.8,
    "IsaacShadowHand": 5714.0,
    "IsaacAllegroHand": 3480.0,
}


def summary(points: list[curves.Point], threshold: float, options: argparse.Namespace, steps: int) -> common.Row:
    """What one curve says; cells are empty where the threshold was not reached, and for seconds of runs together."""
    alone = options.together == 1
    reached = curves.time_to(points, threshold) if threshold else None
    return {
        "steps_per_second": f"{curves.rate(points):.6g}" if alone else "",
        "seconds": f"{curves.training_seconds(points)[-1]:.5g}" if alone else "",
        "threshold": threshold or "",
        "threshold_steps": reached[0] if reached else "",
        "threshold_seconds": f"{reached[1]:.5g}" if reached and alone else "",
        "loss_percent": f"{curves.largest_loss(points, options.loss_after):.4g}",
        "loss_after": options.loss_after,
        "returns": curves.returns(points, checkpoints(options.checkpoints, steps)),
    }


def jobs(options: argparse.Namespace) -> Iterator[common.Job]:
    def train(task: str, rows: int, steps: int, seed: int) -> Callable[[float], common.Row | None]:
        settings = "".join(flag.replace("/", "_") for flag in options.flags)
        settings += f"-together{options.together}" if options.together > 1 else ""
        file = options.results / "gpu_curves" / f"{task.rpartition(':')[2]}-{rows}-{steps}-{seed}{settings}.csv"
        threshold = options.threshold or THRESHOLDS.get(task, 0.0)

        def run(left: float) -> common.Row | None:
            kept = {"rows": rows, "curve": file, "flags": options.flags}
            points = gpu_runs.run(gpu_runs.OURS, task, options, steps=steps, seed=seed, left=left, **kept)
            return summary(points, threshold, options, steps) if points else None

        return run

    for seed in options.seeds:
        for task in options.tasks:
            made = registry.build(task)
            rows, steps = options.rows or made.envs_per_proc, options.steps or made.num_timesteps
            key = {"task": task, "flags": " ".join(options.flags), "rows": rows, "steps": steps}
            yield key | {"together": options.together, "seed": seed}, train(task, rows, steps, seed)


def main() -> int:
    parser = common.gpu_parser(__doc__)
    parser.add_argument("tasks", nargs="*", default=["IsaacAnt"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--rows", type=int, default=0)
    parser.add_argument("--steps", type=int, default=0)
    parser.add_argument("--threshold", type=float, default=0.0)
    parser.add_argument("--checkpoints", type=int, nargs="+", default=[], help="steps; default: eighths of a run")
    parser.add_argument("--loss-after", type=int, default=10_000_000)
    parser.add_argument("--together", type=int, default=1)
    words, flags = gpu_runs.flags_after(sys.argv[1:])
    options = parser.parse_args(words)
    options.flags = flags
    origin = common.gpu_origin(options.device)
    print(common.describe_gpu(origin))
    return common.work_through("gpu_learning", origin, jobs(options), options, options.together)


if __name__ == "__main__":
    sys.exit(main())
