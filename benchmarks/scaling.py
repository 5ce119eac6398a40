"""HalfCheetah on 1, 2, 4... ranks: speed, and beside it the score at equal environment steps.

    python benchmarks/scaling.py [--ranks 1 2 4 8 16] [--kinds strong dealt weak] [--train-steps 500000] [--rounds 3]

strong  the same rollout of 4096 samples in 8 minibatches whatever the ranks; each has the launcher's 16 rows, which
        it steps 256 / ranks times
dealt   the same, with the 16 rows dealt out: 16 / ranks rows a rank, of 256 steps each
weak    the same rows and steps on every rank (16 x 256), so that more ranks mean a larger rollout in 8 minibatches

Every rank computes with one thread on a core of its own, as far as mpirun can bind it. One round trains each number
of ranks once, with a seed of its own, by the command line under mpirun (one rank too). Speed is that of the iterations
after the first 30 %, score is the mean return of 20 whole deterministic episodes at the end.
"""

from __future__ import annotations

import argparse
import csv
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

import common

from ppo_and_friends.progress_csv import PHASE

TOTAL, ROWS, STEPS = 4096, 16, 256
KINDS = ("strong", "dealt", "weak")
WARMUP = 0.3  # of the iterations: not counted, because the first ones compile
SETTINGS = ("--ppo.minibatches", "8", "--evaluation.every", "1", "--evaluation.episodes", "20")
# Every iteration does all its epochs: a KL stop would make the work depend on the seed.
SETTINGS += ("--ppo.stop_kl", "inf", "--ppo.lr", "3e-4", "--compile", "on")


def flags(kind: str, ranks: int) -> tuple[str, ...]:
    """What tells the settings of one number of ranks from the launcher's.

    Raises:
        ValueError: 16 rows cannot be dealt out evenly to so many ranks.
    """
    if kind == "weak":
        return (*SETTINGS, "--envs_per_proc", str(ROWS), "--ppo.steps_per_row", str(STEPS))
    if kind == "dealt" and ROWS % ranks:
        raise ValueError(f"{ROWS} rows cannot be dealt out to {ranks} ranks: give --ranks that divide {ROWS}")
    rows = ROWS // ranks if kind == "dealt" else ROWS
    return (*SETTINGS, "--envs_per_proc", str(rows), "--ppo.steps_total", str(TOTAL))


def check(kind: str, ranks: int, steps: int) -> None:
    """Before anything is trained.

    Raises:
        ValueError: this kind cannot be dealt out to so many ranks, or a run would end before two rollouts.
    """
    flags(kind, ranks)
    rollout = ROWS * STEPS * ranks if kind == "weak" else TOTAL
    if steps < 2 * rollout:
        raise ValueError(
            f"--train-steps {steps} is less than two rollouts of {rollout} samples ({kind}, {ranks} ranks), and the "
            f"first is not counted: give --train-steps {2 * rollout} or more"
        )


def spent(row: dict[str, str]) -> float:
    """Seconds of one iteration's phases but evaluation."""
    phases = {name: value for name, value in row.items() if name.startswith(PHASE) and value}
    return sum(float(value) for name, value in phases.items() if name != "seconds_evaluating")


def speed(progress: list[dict[str, str]]) -> float:
    """Steps a second of the iterations after the warm-up, from the rows of progress.csv."""
    first = int(WARMUP * len(progress))
    counted = progress[first + 1 :]
    steps = int(progress[-1]["timesteps"]) - int(progress[first]["timesteps"])
    return steps / sum(spent(row) for row in counted)


def train(kind: str, ranks: int, seed: int, steps: int) -> tuple[float, float, str]:
    """(steps a second, score, threads of each rank)."""
    with tempfile.TemporaryDirectory() as folder:
        words = ("-e", "HalfCheetah", "--name", "run", "--state_path", folder, "--num_timesteps", steps)
        command = (common.MAIN, *words, "--random_seed", seed, *flags(kind, ranks))
        said, _ = common.child(*command, before=common.mpirun(ranks, bind=True))
        with open(Path(folder) / "run" / "progress.csv", newline="", encoding="utf-8") as file:
            progress = list(csv.DictReader(file))
    found = re.search(r"(\d+) threads? each", said)
    return speed(progress), float(progress[-1]["evaluation_return"]), found[1] if found else "?"


def measure(kind: str, options: argparse.Namespace, origin: common.Row) -> None:
    def trainer(ranks: int) -> Callable[[int], tuple[float, float, str]]:
        return lambda index: train(kind, ranks, index + 1, options.train_steps)

    found = common.alternate({str(ranks): trainer(ranks) for ranks in options.ranks}, options.rounds)
    names = {
        ranks: f"{ranks} rank{'s' if ranks != '1' else ''} of {runs[0][2]} thread{'s' if runs[0][2] != '1' else ''}"
        for ranks, runs in found.items()
    }
    base = names[str(min(options.ranks))]
    for unit, column in (("steps/s", 0), ("return", 1)):
        values = {names[ranks]: [float(run[column]) for run in runs] for ranks, runs in found.items()}
        setting = f"HalfCheetah, {kind}" + (f", after {options.train_steps:,} steps" if column else "")
        of = "" if column else base
        common.show(setting, values, of, unit)
        common.append("scaling", origin, common.rows(setting, values, of, unit), options.results)


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--ranks", type=int, nargs="+", help="default: powers of two up to the cores")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--train-steps", type=int, default=500_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    origin = common.origin("mpi4py")
    options.ranks = options.ranks or [2**power for power in range(int(origin["cores"]).bit_length())]
    try:
        for kind in options.kinds:
            for ranks in options.ranks:
                check(kind, ranks, options.train_steps)
    except ValueError as error:
        parser.error(str(error))
    print(common.describe(origin))
    print(f"started by {' '.join(common.mpirun(max(options.ranks), bind=True))}")
    for kind in options.kinds:
        measure(kind, options, origin)


if __name__ == "__main__":
    main()
