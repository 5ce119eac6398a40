"""The whole training loop beside Stable-Baselines3's, with equal settings (`peer_experiments.py`).

    pip install -c constraints.txt ".[bench]"
    python benchmarks/peers.py [--mode steady start score] [--experiments HalfCheetahPeer CartPolePeer] [--rounds 3]

steady  steps a second after a warm-up, every side in a process of its own
start   seconds of a whole process from its start to --timesteps, with every compiler's cache empty, and again with the
        caches that this left. Ours logs and saves as a run from the command line does; the peer only saves at the end.
score   mean return after --timesteps of --episodes whole deterministic episodes with frozen normalisers, a seed a round

Stable-Baselines3 steps its environments in one process (DummyVecEnv) with each number of torch threads in --threads,
and is compared at its better one. Ours takes the threads that a run from the command line would. PongPeer, for steady
alone, is Atari on a GPU, where the peer has its games in one process and in a process each.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

import common
from peer_experiments import ATARI, GYMNASIUM_IDS
from peer_sides import reference
from scores import score

PEER = "stable-baselines3"
SIDES = common.ROOT / "benchmarks" / "peer_sides.py"


def steady(name: str, options: argparse.Namespace) -> tuple[str, dict[str, list[float]]]:
    span = ("--warmup", options.warmup, "--seconds", options.seconds)
    said: dict[str, str] = {}

    def ours(_: int) -> float:
        found = common.answer(common.child(SIDES, "steady-ours", name, *span)[0])
        said["ours"] = f"ours, {found['threads']} threads"
        return found["rate"]

    def peer(threads: int, *more: str) -> float:
        words = (SIDES, "steady-sb3", name, *span, "--threads", threads, *more)
        return common.answer(common.child(*words, environment=torch(threads))[0])["rate"]

    sides: dict[str, Callable[[int], float]] = {"ours": ours}
    sides |= {peer_side(threads): lambda _, threads=threads: peer(threads) for threads in options.threads}
    if name in ATARI:
        sides |= {
            f"{peer_side(threads)}, a process a game": lambda _, threads=threads: peer(threads, "--processes")
            for threads in options.threads
        }
    values = common.alternate(sides, options.rounds)
    values = {said.get(side, side): each for side, each in values.items()}
    return f"{GYMNASIUM_IDS[name]}, steady", best_peer(values, max)


def torch(threads: int) -> dict[str, str]:
    return {"OMP_NUM_THREADS": str(threads)}


def peer_side(threads: int) -> str:
    return f"{PEER}, {threads} threads"


def best_peer(values: dict[str, list[float]], best: Callable[..., str]) -> dict[str, list[float]]:
    """The peer's better side first: it is the base."""
    base = best((side for side in values if side.startswith(PEER)), key=lambda side: statistics.median(values[side]))
    return {base: values[base], **values}


def start(name: str, options: argparse.Namespace) -> tuple[str, dict[str, list[float]]]:
    """Seconds: ours with cold caches and then with warm ones, the peer at each number of threads."""
    steps = ("--num_timesteps", options.timesteps)
    with tempfile.TemporaryDirectory() as scratch:

        def ours(index: int, run: str) -> float:
            folder = Path(scratch) / str(index)
            caches = common.fresh_caches(folder)
            words = ("-e", reference(name), "--name", run, "--state_path", folder / "states", *steps)
            return common.child(common.MAIN, *words, environment=caches)[1]

        def peer(index: int, threads: int) -> float:
            folder = Path(scratch) / f"{index}-peer-{threads}"
            words = ("--timesteps", options.timesteps, "--threads", threads, "--directory", folder)
            environment = common.fresh_caches(folder) | torch(threads)
            return common.child(SIDES, "train-sb3", name, *words, environment=environment)[1]

        sides: dict[str, Callable[[int], float]] = {
            peer_side(threads): lambda index, threads=threads: peer(index, threads) for threads in options.threads
        }
        both = {"both": lambda index: (ours(index, "cold"), ours(index, "warm"))}  # warm: what cold has left
        found = common.alternate(both | sides, options.rounds)
    pairs = found.pop("both")
    values = {"ours, cold caches": [cold for cold, _ in pairs], "ours, warm caches": [warm for _, warm in pairs]}
    return f"{GYMNASIUM_IDS[name]}, start to {options.timesteps:,} steps", best_peer(values | found, min)


def compare_scores(name: str, options: argparse.Namespace) -> tuple[str, dict[str, list[float]]]:
    with tempfile.TemporaryDirectory() as scratch:
        flags = ["--num_timesteps", str(options.timesteps)]
        settings = argparse.Namespace(ranks=1, directory=scratch, episodes=options.episodes, flags=flags)
        words = ("--timesteps", options.timesteps, "--episodes", options.episodes, "--directory", scratch)

        def peer(index: int) -> float:
            return common.answer(common.child(SIDES, "train-sb3", name, *words, "--seed", index + 1)[0])["mean"]

        sides = {PEER: peer, "ours": lambda index: score(reference(name), index + 1, settings)["mean"]}
        values = common.alternate(sides, options.rounds)
    return f"{GYMNASIUM_IDS[name]}, return after {options.timesteps:,} steps, {options.episodes} episodes", values


MODES = {"steady": (steady, "steps/s"), "start": (start, "s"), "score": (compare_scores, "return")}


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--mode", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--experiments", nargs="+", choices=GYMNASIUM_IDS, default=["HalfCheetahPeer", "CartPolePeer"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="of the peer's torch")
    parser.add_argument("--warmup", type=float, default=30.0, help="seconds of steady that do not count")
    parser.add_argument(
        "--seconds", type=float, default=30.0, help="seconds of steady that count; one iteration at least"
    )
    parser.add_argument("--timesteps", type=int, default=300_000, help="of start and score")
    parser.add_argument("--episodes", type=int, default=20, help="of score")
    options = parser.parse_args()
    if set(options.experiments) & set(ATARI) and options.mode != ["steady"]:
        parser.error("PongPeer is for --mode steady alone.")
    origin = common.origin(PEER)
    if set(options.experiments) & set(ATARI):
        origin["machine"] = f"{common.gpu_origin('cuda')['gpu']}; {origin['machine']}"
    print(common.describe(origin))
    for mode in options.mode:
        measure, unit = MODES[mode]
        for name in options.experiments:
            setting, values = measure(name, options)
            base = "" if unit == "return" else next(iter(values))
            common.show(setting, values, base, unit)
            common.append("peers", origin, common.rows(setting, values, base, unit), options.results)


if __name__ == "__main__":
    main()
