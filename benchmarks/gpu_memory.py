"""GPU memory of one more row in training, beside what is estimated for its physics before a run.

    python benchmarks/gpu_memory.py [--tasks IsaacAnt ...] [--rows 4096 8192] [--seconds-limit 540]

A fresh process for each number of rows trains until all is recorded; the device's memory in use beyond what was in
use before, at the larger number less that at the smaller, is divided by the rows between them. The measurement has
networks' activations, rollouts and what allocators hold back; the estimate (`warp_limits.bytes_per_world`, which
refuses rows that do not fit) has the physics alone. Called again, it does what gpu_memory.csv has no row of.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

import common
import gpu_rates
import task_tables
import torch

ITERATIONS = 5  # rollout, digest and epoch are recorded as graphs in the second to the fourth


def used() -> int:
    """Bytes of the current GPU, by all processes."""
    torch.cuda.synchronize()
    free, total = torch.cuda.mem_get_info()
    return total - free


def measure(options: argparse.Namespace, used: Callable[[], int] = used) -> dict[str, int]:
    """Bytes in all of a training setup, and those that one more world's physics are estimated at."""
    from ppo_and_friends.vector.sim.warp_gpu import supported
    from ppo_and_friends.vector.sim.warp_limits import bytes_per_world

    before = used()
    ppo: Any = gpu_rates.make(options)
    for _ in range(ITERATIONS):
        ppo.iterate()
    memory = used() - before
    return {"bytes": memory, "estimate": bytes_per_world(supported(ppo.env.task.model()), ppo.env.sim.limits)}


def ask(task: str, rows: int) -> dict[str, int]:
    """`measure` in a process of its own."""
    return common.answer(common.child(__file__, "--measure", "--tasks", task, "--rows", rows)[0])


def jobs(options: argparse.Namespace) -> Iterator[common.Job]:
    few, many = sorted(options.rows)

    def compare(task: str) -> Callable[[float], common.Row | None]:
        def run(left: float) -> common.Row:
            small, large = ask(task, few), ask(task, many)
            return {
                "bytes_per_world": round((large["bytes"] - small["bytes"]) / (many - few)),
                "estimated_bytes_per_world": large["estimate"],
            }

        return run

    for task in options.tasks:
        yield {"task": task, "rows": f"{few} {many}"}, compare(task)


def main() -> int:
    isaac = [name for name in task_tables.tasks() if name.startswith("Isaac")]
    parser = common.parser(__doc__)
    parser.add_argument("--tasks", nargs="+", default=isaac)
    parser.add_argument("--rows", type=int, nargs="+", default=[4096, 8192], help="two different numbers")
    parser.add_argument("--seconds-limit", type=float, default=540.0, help="begin nothing that may end later than this")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("gpu_memory.py measures the memory of a GPU, and this torch sees none.", file=sys.stderr)
        return 1
    options.device = "cuda"
    if options.measure:
        print(json.dumps(measure(options)))
        return 0
    if len(set(options.rows)) != 2:
        parser.error(f"--rows takes two different numbers, not {options.rows}")
    origin = common.gpu_origin(options.device)
    print(common.describe_gpu(origin))
    return common.work_through("gpu_memory", origin, jobs(options), options)


if __name__ == "__main__":
    sys.exit(main())
