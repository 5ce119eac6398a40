"""One training run on a device, in a process of its own; the last line that it prints is its answer as JSON.

python benchmarks/gpu_runs.py ours IsaacAnt --curve curve.csv [--rows 4096] [--steps 30000000] [--seed 1]
    [--device cuda] [--seconds-limit 500] [-- any flag of main.py]
python benchmarks/gpu_runs.py rl_games IsaacAnt --curve curve.csv ...
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import common
import rl_games_side
import rsl_rl_side
from curves import PUBLISHED, Point, Recorder, read

from ppo_and_friends.comm import Comm
from ppo_and_friends.launch import run_ranks
from ppo_and_friends.vector.sim.device_env import FAILURES, OVERFLOWS

OURS, COMPILED = "ours", "ours-compiled"  # the second with --compile on, which pays in long runs
SIDES = (OURS, COMPILED, *rl_games_side.VARIANTS, rsl_rl_side.NAME)


def flags_after(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """What stands before a lone `--`, and after it."""
    words = list(words)
    return (words[: words.index("--")], words[words.index("--") + 1 :]) if "--" in words else (words, [])


def add_options(parser: argparse.ArgumentParser) -> None:
    """What scripts that train over seeds have in common."""
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--rows", type=int, default=0, help="0: the launcher's")
    parser.add_argument("--steps", type=int, default=0, help="0: the launcher's")
    parser.add_argument("--until", type=float, default=0.0, help="mean return to time; 0: rl_games' published one")
    parser.add_argument("--checkpoints", type=int, nargs="+", default=[], help="steps; default: eighths of a run")


def threshold(options: argparse.Namespace, task: str) -> float:
    """The mean return whose first passing is timed; 0 where none is asked for or published."""
    return options.until or (PUBLISHED[task].rl_games if task in PUBLISHED else 0.0)


def ours(options: argparse.Namespace) -> int:
    def train(comm: Comm) -> int:
        import torch
        from gpu_env import experiment

        from ppo_and_friends.accelerate import accelerate
        from ppo_and_friends.config import RunConfig
        from ppo_and_friends.ppo import PPO

        torch.set_num_threads(1)
        cuda = options.device == "cuda"
        # clobber: no state of an earlier run is looked for, and none is written without `learn`
        run = RunConfig(random_seed=options.seed, clobber=True, allow_mpi_gpu=cuda and comm.size > 1)
        made = experiment(options.name, options.device, options.rows, options.steps, options.flags)
        ppo = PPO(made, run, comm)
        accelerate(ppo, lambda line: print(line, flush=True))
        recorder = Recorder(options.curve if comm.rank == 0 else None, made.num_timesteps, options.seconds_limit)
        recorder.begin()
        over = torch.zeros(1)
        while not over:
            metrics = ppo.iterate()
            trouble = (metrics.get(f"rollout_{name}", math.nan) for name in (FAILURES, OVERFLOWS))
            over[0] = recorder.add(ppo.timesteps, metrics["mean_return"], *trouble)
            comm.max_(over)  # clocks differ between ranks, and all must end together
        recorder.close()
        if comm.rank == 0:
            answer(recorder)
        return 0

    return run_ranks(train)


def peer(options: argparse.Namespace) -> int:
    from gpu_env import Captured, experiment

    made = experiment(options.name, options.device, options.rows, options.steps, options.flags)
    env = made.env.make(made.envs_per_proc)
    if options.side.endswith("-graph"):
        env = Captured(env)
    recorder = Recorder(options.curve, made.num_timesteps, options.seconds_limit)
    if options.side == rsl_rl_side.NAME:
        rsl_rl_side.train(env, made, options.seed, recorder)
    else:
        rl_games_side.train(options.name, options.side, env, made.num_timesteps, options.seed, recorder)
    recorder.close()
    answer(recorder)
    return 0


def answer(recorder: Recorder) -> None:
    print(json.dumps({"complete": recorder.reached >= recorder.steps, "iterations": recorder.count}), flush=True)


def run(
    side: str,
    name: str,
    options: argparse.Namespace,
    *,
    steps: int,
    seed: int,
    left: float,
    rows: int = 0,
    curve: Path | None = None,
    flags: Sequence[str] = (),
    before: Sequence[str] = (),
) -> list[Point] | None:
    """The curve of one run in a process of its own; None where `left` seconds were too few for it.

    Args:
        options: `device`.
        curve: the file that keeps it.
        before: the words that start several ranks.
    """
    if side == COMPILED:
        side, flags = OURS, (*flags, "--compile", "on")
    with tempfile.TemporaryDirectory() as folder:
        path = curve or Path(folder) / "curve.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        words = ("--rows", rows, "--steps", steps, "--seed", seed, "--device", options.device, "--curve", path)
        limit = ("--seconds-limit", max(1.0, left - 30))  # a process takes some seconds to start and to end
        script = Path(__file__)
        said, _ = common.child(script, side, name, *words, *limit, *(("--", *flags) if flags else ()), before=before)
        if common.answer(said)["complete"]:
            return read(path)
    print(f"  {side}, {name}, seed {seed}: cut, as {left:.0f} s were too few", flush=True)
    return None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("side", choices=SIDES)
    parser.add_argument("name")
    parser.add_argument("--rows", type=int, default=0, help="0: the launcher's")
    parser.add_argument("--steps", type=int, default=0, help="0: the launcher's")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--curve", type=Path, required=True)
    parser.add_argument("--seconds-limit", type=float, default=float("inf"))
    words, flags = flags_after(sys.argv[1:])
    options = parser.parse_args(words)
    options.flags = flags
    return ours(options) if options.side == OURS else peer(options)


if __name__ == "__main__":
    sys.exit(main())
