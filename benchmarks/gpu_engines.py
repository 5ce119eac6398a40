"""One of Gymnasium's tasks on one machine: on its GPU, and on its cores in several ranks.

    python benchmarks/gpu_engines.py [--task Ant] [--engines gpu ranks] [--ranks 16] [--until 6000] [--seeds 1]
        [--steps 30000000] [--gpu "FLAGS"] [--cpu "FLAGS"] [--checkpoints N N ...] [--seconds-limit 540]

Each run is `main.py` by its command line, without evaluation, and is read off its progress.csv. FLAGS are those of
main.py that one engine gets. Seconds and losses are as `gpu_learning.py` has them. --until is the mean return of
training whose first passing is timed. Called again, it does what gpu_engines.csv has no row of.
"""

from __future__ import annotations

import argparse
import csv
import math
import re
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import common
import curves
from curves import Point

GPU = "--simulator warp --envs_per_proc 2048"  # the launchers' settings for a GPU have as many rows
CPU = "--simulator cpu --device cpu --envs_per_proc 4"


def points(path: Path) -> list[Point]:
    """The curve in a progress.csv."""
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    found = []
    for row in rows:
        trouble = (float(row.get(f"rollout_{name}") or "nan") for name in curves.HEAD[4:])
        mean = float(row["mean_return"] or math.nan)
        found.append(Point(int(row["timesteps"]), float(row["seconds"]), mean, *trouble))
    return found


def jobs(options: argparse.Namespace) -> Iterator[common.Job]:
    def train(flags: str, ranks: int, seed: int) -> Callable[[float], common.Row | None]:
        def run(left: float) -> common.Row | None:
            with tempfile.TemporaryDirectory() as folder:
                words = ("-e", options.task, "--name", "run", "--state_path", folder, "--random_seed", seed)
                words += ("--num_timesteps", options.steps, "--evaluation.every", 0, *shlex.split(flags))
                common.child(common.MAIN, *words, before=common.mpirun(ranks) if ranks > 1 else ())
                curve = points(Path(folder) / "run" / "progress.csv")
            at = curves.checkpoints(options.checkpoints, options.steps)
            return curves.summary(curve, options.until, options.steps // 3, at)

        return run

    for seed in options.seeds:
        for engine in options.engines:
            flags, ranks = (options.gpu, 1) if engine == "gpu" else (options.cpu, options.ranks)
            rows = ranks * int(re.findall(r"--envs[_-]per[_-]proc[ =](\d+)", flags)[-1])
            said = f"mpirun -n {ranks}: {flags}" if ranks > 1 else flags
            key = {"task": options.task, "flags": said, "rows": rows, "steps": options.steps, "together": 1}
            yield key | {"seed": seed}, train(flags, ranks, seed)


def main() -> int:
    parser = common.gpu_parser(__doc__)
    parser.add_argument("--task", default="Ant")
    parser.add_argument("--engines", nargs="+", choices=("gpu", "ranks"), default=["gpu", "ranks"])
    parser.add_argument("--ranks", type=int, default=16)
    parser.add_argument("--until", type=float, default=6000.0)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--steps", type=int, default=30_000_000)
    parser.add_argument("--gpu", default=GPU, help=f'default: "{GPU}"')
    parser.add_argument("--cpu", default=CPU, help=f'default: "{CPU}"')
    parser.add_argument("--checkpoints", type=int, nargs="+", default=[], help="steps; default: eighths of a run")
    options = parser.parse_args()
    for flags in (options.gpu, options.cpu):
        if not re.search(r"--envs[_-]per[_-]proc[ =]\d", flags):
            parser.error(f"{flags!r} must say --envs_per_proc: its rows are a column of the table.")
    origin = common.gpu_origin(options.device)
    print(common.describe_gpu(origin))
    return common.work_through("gpu_engines", origin, jobs(options), options)


if __name__ == "__main__":
    sys.exit(main())
