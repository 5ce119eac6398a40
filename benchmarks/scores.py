"""Train launchers as they stand and test what they learned: mean and spread over seeds.

    python benchmarks/scores.py CartPole Pendulum [--seeds 1 2 3] [--episodes 100] [--ranks 1] [--jobs 1]
        [--directory scores] [--explore] [-- any flag of main.py, as --num_timesteps 1000000]

One process (or one `mpirun`) for each experiment and seed, `jobs` of them at a time. Tests are whole episodes, of the
most likely actions, or of sampled ones with --explore. A run that exists is continued, not repeated; its returns are in
DIRECTORY/NAME-SEED/test_scores.csv.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import common

from ppo_and_friends import registry

TEST_SEED = 1000  # of the tests' environments: apart from those of training


def score(reference: str, seed: int, options: argparse.Namespace) -> common.Row:
    """One row of scores.csv: the mean return of a trained run's test, its spread over episodes, minutes of training.

    `options` has ranks, directory, episodes and flags. Minutes are 0 where the run was trained already.
    """
    name = reference.rpartition(":")[2]
    run = f"{name}-{seed}" if options.ranks == 1 else f"{name}-{seed}-{options.ranks}-ranks"
    before = common.mpirun(options.ranks) if options.ranks > 1 else []
    words = [common.MAIN, "-e", reference, "--name", run, "--state_path", options.directory]
    if registry.build_on_gpu(reference) is not None:  # else a machine with a GPU would train with other settings
        words += ["--simulator", "cpu"]
    folder = Path(options.directory) / run
    steps = trained(folder)
    _, seconds = common.child(*words, "--random_seed", seed, *options.flags, before=before)
    sampled = ["--test_explore"] if options.explore else []
    test = ("--num_test_runs", options.episodes, "--random_seed", TEST_SEED, "--save_test_scores")
    common.child(*words, *test, *sampled, before=before)
    newest = max(folder.glob("test_scores*.json"), key=lambda file: file.stat().st_mtime)
    summary = json.loads(newest.read_text())
    return {
        "environment": name,
        "seed": seed,
        "ranks": options.ranks,
        "flags": " ".join((*options.flags, *sampled)),
        "steps": trained(folder),
        "episodes": summary["episodes"],
        "mean": round(summary["mean"], 2),
        "spread": round(summary["std"], 2),
        "minutes": round(seconds / 60, 2) if not steps else "",
    }


def trained(folder: Path) -> int:
    """Timesteps of a run so far."""
    path = folder / "progress.csv"
    if not path.exists():
        return 0
    with open(path, newline="", encoding="utf-8") as file:
        return max((int(row["timesteps"]) for row in csv.DictReader(file)), default=0)


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("names", nargs="+")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--directory", default="scores")
    parser.add_argument("--explore", action="store_true", help="test with sampled actions")
    own, flags = (sys.argv[1:], [])
    if "--" in own:
        own, flags = own[: own.index("--")], own[own.index("--") + 1 :]
    options = parser.parse_args(own)
    options.flags = flags
    origin = common.origin()
    print(common.describe(origin))
    jobs = [(name, seed) for name in options.names for seed in options.seeds]
    with ThreadPoolExecutor(options.jobs) as pool:
        results = list(pool.map(lambda job: score(*job, options), jobs))
    common.append("scores", origin, results, options.results)
    kind = "sampled" if options.explore else "most likely"
    print(f"{len(options.seeds)} seeds, {options.episodes} episodes each, {kind} actions; {options.ranks} ranks")
    for name in options.names:
        rows = [row for row in results if row["environment"] == name.rpartition(":")[2]]
        means = [row["mean"] for row in rows]
        each = ", ".join(f"{row['mean']:.1f} +- {row['spread']:.1f}" for row in rows)
        minutes = ", ".join(str(row["minutes"] or "-") for row in rows)
        print(f"{name}: {statistics.fmean(means):.1f} +- {statistics.pstdev(means):.1f} over seeds ({each}); "
              f"{minutes} minutes to train")  # fmt: skip


if __name__ == "__main__":
    main()
