"""What logging, evaluation and checkpoints at their default settings cost a training run.

    python benchmarks/overhead.py [--experiments CartPole HalfCheetah] [--timesteps 600000] [--rounds 3]

Runs are the launchers' own, cut at --timesteps with as many evaluations as come until then.

Bare: `PPO.iterate()` until the timesteps are reached. Whole: `PPO.learn()` with everything on, as the
command line calls it: progress.csv, TensorBoard, the display into a pipe, checkpoints, evaluations. Each in a process
of its own; seconds are those of training, without imports and construction. "Within one run" times the parts of the
whole beside its own iterations: less noisy than two runs, but blind to what slows the iterations themselves.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import common

from ppo_and_friends import registry
from ppo_and_friends.config import Experiment

EVERYTHING = "everything"  # seconds from the first iteration, or the first file, to the end


def shortened(experiment: Experiment, timesteps: int) -> Experiment:
    """The experiment over `timesteps` at most, with the same distance between evaluations."""
    steps = min(timesteps, experiment.num_timesteps)
    every = round(experiment.evaluation.every * steps / experiment.num_timesteps)
    return replace(experiment, num_timesteps=steps, evaluation=replace(experiment.evaluation, every=every))


def bare(experiment: Experiment) -> dict[str, float]:
    from ppo_and_friends.accelerate import accelerate
    from ppo_and_friends.ppo import PPO

    ppo = PPO(experiment)
    accelerate(ppo, str)
    start = time.perf_counter()
    while ppo.timesteps < experiment.num_timesteps:
        ppo.iterate()
    return {EVERYTHING: time.perf_counter() - start}


def whole(experiment: Experiment) -> dict[str, float]:
    """Seconds, those of its parts, and those of its iterations."""
    from ppo_and_friends import checkpoint, logger, training
    from ppo_and_friends.config import RunConfig
    from ppo_and_friends.ppo import PPO

    parts: dict[str, float] = {}

    def timed(part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*words: Any, **named: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*words, **named)
            finally:
                parts[part] = parts.get(part, 0.0) + time.perf_counter() - start

        return call

    places = (
        (training, "evaluate", "evaluation"),
        (training, "whole_state", "checkpoints"),
        (checkpoint.StateDirectory, "save", "checkpoints"),
        (checkpoint.StateDirectory, "open", "opening"),
        (training, "provenance", "opening"),
        (logger.Logger, "log", "logging"),
        (PPO, "iterate", "iterations"),
    )
    for owner, name, part in places:
        setattr(owner, name, timed(part, getattr(owner, name)))
    with tempfile.TemporaryDirectory() as folder:
        ppo = PPO(experiment, RunConfig(state_path=folder))
        start = time.perf_counter()
        ppo.learn()
        return {EVERYTHING: time.perf_counter() - start, **parts}


PARTS = ("iterations", "evaluation", "logging", "checkpoints", "opening", EVERYTHING)
SIDES = {"bare": bare, "whole": whole}


def measure(name: str, options: argparse.Namespace, origin: common.Row) -> None:
    def side(which: str) -> Callable[[int], dict[str, float]]:
        words = (__file__, "--side", which, "--experiments", name, "--timesteps", options.timesteps)
        return lambda _: common.answer(common.child(*words)[0])

    found = common.alternate({which: side(which) for which in SIDES}, options.rounds)
    values = {which: [run[EVERYTHING] for run in runs] for which, runs in found.items()}
    within = {part: [run.get(part, 0.0) for run in found["whole"]] for part in PARTS}
    measured = []
    for setting, each, base in ((name, values, "bare"), (f"{name}, within one run", within, "iterations")):
        common.show(setting, each, base, "s")
        measured += common.rows(setting, each, base, "s")
    common.append("overhead", origin, measured, options.results)


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--experiments", nargs="+", default=["CartPole", "HalfCheetah"])
    parser.add_argument("--timesteps", type=int, default=600_000, help="at most; the launcher's own where fewer")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        experiment = shortened(registry.build(options.experiments[0]), options.timesteps)
        print(json.dumps(SIDES[options.side](experiment)))
        return
    origin = common.origin()
    print(common.describe(origin))
    for name in options.experiments:
        measure(name, options, origin)


if __name__ == "__main__":
    main()
