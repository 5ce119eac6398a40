"""Where one GPU's time and memory go, over numbers of rows: environment, + inference, + training.

    python benchmarks/gpu_rates.py [--tasks IsaacAnt] [--rows 4096 8192 16384 32768] [--rounds 3]
        [--seconds 5] [--starts 1] [--device cuda] [--seconds-limit 540]

Each measurement is a process of its own, and each part is timed for --seconds after its first calls:

physics    the engine alone, by its graph, with random controls and no resets
step       the environment with random actions: one graph; and called from Python, as any other trainer would
inference  the policy's random actions and the environment's step, one graph
training   whole iterations as a run does them; "the rest" is an iteration without its steps of inference
memory     of the device, after training, beyond what was in use before
first      seconds from a process's start to the end of its first iteration, with every compiler's cache empty
           (Python's too), and again with what that left

Called again, it does what gpu_rates.csv and gpu_starts.csv have no row of.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import common
from curves import WARMUP

MEBIBYTE = 2**20


def timed(work: Callable[[], Any], seconds: float, synchronize: Callable[[], None]) -> float:
    """Seconds of one call, after those in which compilers and recorders of graphs work."""
    for _ in range(WARMUP):
        work()
    calls, spent = 1, -1.0
    while spent < seconds:
        synchronize()
        start = time.perf_counter()
        for _ in range(calls):
            work()
        synchronize()
        spent = time.perf_counter() - start
        calls *= 2
    return spent / (calls // 2)


def make(options: argparse.Namespace) -> Any:
    """A `PPO` as a run would have it."""
    import torch
    from gpu_env import experiment

    from ppo_and_friends.accelerate import accelerate
    from ppo_and_friends.config import RunConfig
    from ppo_and_friends.ppo import PPO

    torch.set_num_threads(1)
    made = experiment(options.tasks[0], options.device, options.rows[0])
    ppo = PPO(made, RunConfig(random_seed=1, clobber=True))  # nothing is written without `learn`
    accelerate(ppo, lambda line: print(line, flush=True))
    return ppo


def measure(options: argparse.Namespace) -> common.Row:
    """One row of gpu_rates.csv."""
    import torch

    cuda = options.device == "cuda"
    synchronize = torch.cuda.synchronize if cuda else lambda: None

    def used() -> float:
        """Mebibytes; of the process where there is no GPU."""
        if not cuda:
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        free, total = torch.cuda.mem_get_info()
        return (total - free) / MEBIBYTE

    before = used()
    ppo = make(options)
    iteration = timed(ppo.iterate, options.seconds, synchronize)
    memory = used() - before
    parts = {name: timed(work, options.seconds, synchronize) for name, work in environment_parts(ppo)}
    rows, steps = ppo.experiment.envs_per_proc, ppo.steps
    speeds = {f"{name}_steps": f"{rows / spent:.6g}" for name, spent in parts.items()}
    speeds["training_steps"] = f"{rows * steps / iteration:.6g}"
    times = {f"{name}_ms": f"{1000 * spent:.5g}" for name, spent in parts.items()}
    times["iteration_ms"] = f"{1000 * iteration:.5g}"
    times["rest_ms"] = f"{1000 * (iteration - steps * parts['inference']):.5g}"
    sizes = {"memory_mib": f"{memory:.5g}", "memory_1024_rows_mib": f"{memory * 1024 / rows:.5g}"}
    return {"steps_per_iteration": steps} | speeds | times | sizes


def environment_parts(ppo: Any) -> Iterator[tuple[str, Callable[[], Any]]]:
    """What is called for one environment step of all rows, by name. Uses the rows of training, which is over."""
    import torch
    from gpu_env import recorded

    from ppo_and_friends.types import Obs

    env, device = ppo.env, ppo.env.spec.device
    (group,) = env.spec.groups
    action = torch.zeros(group.rows, group.action.columns, device=device)
    (obs,) = env.reset(1)
    control = env.sim.bind("ctrl")

    def physics() -> None:
        control.uniform_(-1.0, 1.0)
        env.sim.step(env.task.substeps)

    def step() -> None:
        env.step((action.uniform_(-1.0, 1.0),))

    seen = obs.actor.clone()
    policy = ppo.policy(deterministic=False)
    state, first = policy.start(group.rows), torch.zeros(group.rows, dtype=torch.bool, device=device)

    def inference() -> None:
        actions, _ = policy.act(Obs(seen, seen, obs.mask), state, first)
        (result,) = env.step((actions,))
        seen.copy_(result.obs.actor)

    yield "inference", recorded(inference, device, ppo.generator, env.generator)
    yield "step", recorded(step, device, env.generator)
    yield "eager_step", step
    yield "physics", physics  # the engine has its own graph


def jobs(options: argparse.Namespace, kind: str) -> Iterator[common.Job]:
    def ask(task: str, rows: int, what: str, **named: Any) -> Any:
        words = (__file__, "--measure", what, "--tasks", task, "--rows", rows, "--device", options.device)
        return common.answer(common.child(*words, "--seconds", options.seconds, **named)[0])

    def rates(task: str, rows: int) -> Callable[[float], common.Row | None]:
        return lambda left: ask(task, rows, "rates")

    def starts(task: str, rows: int) -> Callable[[float], common.Row | None]:
        def both(left: float) -> common.Row:
            with tempfile.TemporaryDirectory() as folder:
                caches = common.fresh_caches(Path(folder)) | {"PYTHONPYCACHEPREFIX": folder}
                caches |= {"PYTHONDONTWRITEBYTECODE": ""}  # some machines forbid what pip would have left
                found = {}
                for which in ("cold", "warm"):
                    began = time.time()
                    found[f"{which}_seconds"] = f"{ask(task, rows, 'start', environment=caches) - began:.4g}"
            return found

        return both

    for number in range(options.rounds if kind == "rates" else options.starts):
        for task in options.tasks:
            for rows in options.rows if kind == "rates" else options.rows[:1]:
                key = {"task": task, "rows": rows, "round": number + 1}
                yield key, (rates if kind == "rates" else starts)(task, rows)


def main() -> int:
    parser = common.gpu_parser(__doc__)
    parser.add_argument("--tasks", nargs="+", default=["IsaacAnt"])
    parser.add_argument("--rows", type=int, nargs="+", default=[4096, 8192, 16384, 32768])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each part")
    parser.add_argument("--starts", type=int, default=1, help="rounds of cold and warm caches, with the first --rows")
    parser.add_argument("--measure", choices=("rates", "start"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure == "rates":
        print(json.dumps(measure(options)))
        return 0
    if options.measure == "start":
        make(options).iterate()
        print(json.dumps(time.time()))
        return 0
    origin = common.gpu_origin(options.device)
    print(common.describe_gpu(origin))
    code = 0
    began = time.monotonic()
    for kind in ("rates", "starts"):
        code |= common.work_through(f"gpu_{kind}", origin, jobs(options, kind), options)
        options.seconds_limit -= time.monotonic() - began
        began = time.monotonic()
    return code


if __name__ == "__main__":
    sys.exit(main())
