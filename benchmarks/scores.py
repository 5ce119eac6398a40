"""Train launchers as they stand and test what they learned: mean and spread over seeds.

    python benchmarks/scores.py CartPole Pendulum [--seeds 1 2 3] [--episodes 100] [--ranks 1] [--jobs 1]
        [--directory scores] [-- any flag of main.py, as --num_timesteps 1000000]

One process (or one `mpirun`) for each experiment and seed, `jobs` of them at a time. Tests are deterministic, whole
episodes. A run that exists is continued, not repeated; its returns are in DIRECTORY/NAME-SEED/test_scores.csv.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

MAIN = Path(__file__).parent.parent / "main.py"
TEST_SEED = 1000  # of the tests' environments: apart from those of training


def main_py(ranks: int, *words: str) -> None:
    """Run `main.py words...`, raising where it fails."""
    launcher = [str(Path(sys.executable).parent / "mpirun"), "-n", str(ranks)] if ranks > 1 else []
    command = [*launcher, sys.executable, str(MAIN), *words]
    subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})


def score(name: str, seed: int, options: argparse.Namespace) -> tuple[str, float, float, float]:
    """(experiment, mean return of its test, spread over the episodes, minutes of training)."""
    run = f"{name}-{seed}" if options.ranks == 1 else f"{name}-{seed}-{options.ranks}-ranks"
    words = ["-e", name, "--name", run, "--state_path", options.directory]
    start = time.perf_counter()
    main_py(options.ranks, *words, "--random_seed", str(seed), *options.flags)
    minutes = (time.perf_counter() - start) / 60
    test = ["--num_test_runs", str(options.episodes), "--random_seed", str(TEST_SEED), "--save_test_scores"]
    main_py(options.ranks, *words, *test)
    newest = max((Path(options.directory) / run).glob("test_scores*.json"), key=lambda file: file.stat().st_mtime)
    summary = json.loads(newest.read_text())
    return name, summary["mean"], summary["std"], minutes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--directory", default="scores")
    own, flags = (sys.argv[1:], [])
    if "--" in own:
        own, flags = own[: own.index("--")], own[own.index("--") + 1 :]
    options = parser.parse_args(own)
    options.flags = flags
    jobs = [(name, seed) for name in options.names for seed in options.seeds]
    with ThreadPoolExecutor(options.jobs) as pool:
        results = list(pool.map(lambda job: score(*job, options), jobs))
    print(f"{len(options.seeds)} seeds, {options.episodes} episodes each, deterministic; {options.ranks} ranks")
    for name in options.names:
        rows = [(mean, spread, minutes) for found, mean, spread, minutes in results if found == name]
        means = [mean for mean, _, _ in rows]
        each = ", ".join(f"{mean:.1f} +- {spread:.1f}" for mean, spread, _ in rows)
        minutes = statistics.fmean(minutes for *_, minutes in rows)
        print(f"{name}: {statistics.fmean(means):.1f} +- {statistics.pstdev(means):.1f} over seeds ({each}); "
              f"{minutes:.1f} minutes to train")  # fmt: skip


if __name__ == "__main__":
    main()
