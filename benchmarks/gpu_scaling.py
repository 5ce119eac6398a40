"""Weak scaling over GPUs: the same rows on every one, so that more GPUs mean a larger rollout.

    python benchmarks/gpu_scaling.py [--tasks IsaacAnt] [--gpus 1 2 4] [--rows 4096] [--iterations 60] [--rounds 3]
        [--launcher mpirun torchrun] [--device cuda] [--seconds-limit 540]

One rank a GPU, one process alone without a launcher. Speed is that of the whole loop, over all GPUs, after the first
ten iterations. Called again, it does what gpu_scaling.csv has no row of.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator

import common
import curves
import gpu_runs

from ppo_and_friends import registry
from ppo_and_friends.config import steps_per_row


def torchrun(ranks: int) -> list[str]:
    """The words before `python` for so many ranks."""
    return [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}", "--no-python"]


LAUNCHERS: dict[str, Callable[[int], list[str]]] = {"mpirun": common.mpirun, "torchrun": torchrun}


def jobs(options: argparse.Namespace) -> Iterator[common.Job]:
    def train(task: str, rows: int, gpus: int, launcher: str, seed: int) -> Callable[[float], common.Row | None]:
        steps = options.iterations * steps_per_row(registry.build(task), rows * gpus) * rows * gpus

        def run(left: float) -> common.Row | None:
            before = LAUNCHERS[launcher](gpus) if gpus > 1 else ()
            kept = {"steps": steps, "seed": seed, "left": left, "rows": rows, "before": before}
            points = gpu_runs.run(gpu_runs.OURS, task, options, **kept)
            if points is None:
                return None
            speed = curves.rate(points)
            return {"steps_per_second": f"{speed:.6g}", "steps_per_second_and_gpu": f"{speed / gpus:.6g}"}

        return run

    for number in range(1, options.rounds + 1):
        for task in options.tasks:
            for launcher in options.launcher:
                rows = options.rows or registry.build(task).envs_per_proc
                for gpus in options.gpus:
                    key = {"task": task, "rows": rows, "gpus": gpus, "launcher": launcher, "round": number}
                    yield key, train(task, rows, gpus, launcher, number)


def main() -> int:
    parser = common.gpu_parser(__doc__)
    parser.add_argument("--tasks", nargs="+", default=["IsaacAnt"])
    parser.add_argument("--gpus", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--rows", type=int, default=0, help="on each GPU; 0: the launcher's")
    parser.add_argument("--iterations", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--launcher", nargs="+", choices=LAUNCHERS, default=["mpirun"])
    options = parser.parse_args()
    origin = common.gpu_origin(options.device)
    print(common.describe_gpu(origin))
    return common.work_through("gpu_scaling", origin, jobs(options), options)


if __name__ == "__main__":
    sys.exit(main())
