"""A test: load a state, run whole episodes, report them, film the first. Nothing is learned, nothing is moved."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ppo_and_friends import registry
from ppo_and_friends.checkpoint import StateDirectory
from ppo_and_friends.comm import Comm
from ppo_and_friends.config import Experiment, RunConfig
from ppo_and_friends.display import first_lines
from ppo_and_friends.errors import UserError
from ppo_and_friends.evaluate import Evaluation, evaluate
from ppo_and_friends.gif import GifRecorder
from ppo_and_friends.mosaic import WIDTH, mosaic
from ppo_and_friends.next_command import command
from ppo_and_friends.policy import RandomPolicy
from ppo_and_friends.ppo import PPO
from ppo_and_friends.render import Window
from ppo_and_friends.run_state import (
    check_same_experiment,
    directory_of,
    from_bytes,
    load_or_explain,
    to_bytes,
    untrained,
)
from ppo_and_friends.serialize import from_plain, to_plain
from ppo_and_friends.simulator import tested_on, with_simulator
from ppo_and_friends.training import evaluation_seed
from ppo_and_friends.view.watch import NoWatch, Pace, check_view, watch

SECONDS_TO_LOOK = 60.0  # a test that is to be viewed begins when the page is open, or after so long


def run_test(experiment: Experiment, run: RunConfig, reference: str, comm: Comm) -> Evaluation:
    """Run `run.num_test_runs` episodes, over at most `experiment.envs_per_proc` rows a rank, and print what they gave.

    Raises:
        UserError: there is no state, or nothing can be rendered.
    """
    directory = directory_of(experiment, run)
    state = None
    if not run.random_policy:
        state = _read(directory, run, reference, comm)
        mend = "give that with -e, or another --name or --state_path"
        check_same_experiment(experiment, state, str(directory), mend)
        experiment = settings_of_state(state, experiment, reference)
    needed = -(-run.num_test_runs // comm.size)  # a row without an episode to play would only cost time
    shown = max(run.gif_rows if run.render_gif or run.render else 1, run.view_rows if run.view else 1)
    rows = max(shown, min(experiment.envs_per_proc, needed))
    experiment = dataclasses.replace(experiment, envs_per_proc=rows)
    window = Window(experiment.name, run.frame_pause) if run.render and comm.rank == 0 else None
    ppo = PPO(experiment, run, comm, reference, render=run.render or run.render_gif)
    check_view(ppo.env, run)
    seed = ppo.seed  # this call's, not the training's
    if state is not None:
        load_or_explain(lambda: ppo.load_shared_state(state["shared"]), ppo, state, f"{directory}", "another --name")
        if comm.rank == 0 and (note := untrained(state, f"{directory}")):
            print(note, flush=True)
    pace = run.gif_fps or ppo.env.spec.steps_per_second
    widest = WIDTH if run.gif_rows > 1 else None
    gif = GifRecorder(pace, run.gif_seconds, widest) if run.render_gif and comm.rank == 0 else None
    if comm.rank == 0:
        print(first_lines(ppo.env.spec, str(ppo.device), comm, ppo.threads), flush=True)
        if run.random_seed < 0:
            print(f"The seed of this test is --random_seed {seed}", flush=True)
    policies: Sequence[Any] = ppo.policies(not run.test_explore)
    if run.random_policy:
        generator = torch.Generator().manual_seed(seed + comm.rank)
        policies = [RandomPolicy(group.action, generator) for group in ppo.env.spec.groups]
    limit = experiment.evaluation.max_episode_steps
    start = evaluation_seed(seed, ppo.iteration)
    env = mosaic(ppo.collector.env, run.gif_rows)
    with watch(ppo.env, run, directory) if comm.rank == 0 else NoWatch() as watcher:
        sinks = [sink for sink in (window, gif, _pace(watcher, ppo)) if sink is not None]
        result = evaluate(env, policies, run.num_test_runs, start, comm, limit, sinks)
    if window is not None:
        window.close()
    if comm.rank == 0:
        _report(result, directory, run, ppo, gif)
    ppo.env.close()
    return result


def _pace(watcher: NoWatch, ppo: PPO) -> Pace | None:
    """The environment's own, from when somebody looks; none where nobody is going to."""
    if not watcher.told:
        return None
    print(f"The test is shown {watcher.told}", flush=True)
    watcher.wait(SECONDS_TO_LOOK)
    return Pace(watcher, ppo.env.spec.steps_per_second)


def _read(directory: Path, run: RunConfig, reference: str, comm: Comm) -> dict[str, Any]:
    data = b""
    if comm.rank == 0:
        state = StateDirectory(directory).load(run.checkpoint)
        if state is None:
            raise UserError(
                f"There is no saved state in {directory}: train first with {command(reference, run)}, "
                "or test with --random_policy."
            )
        data = to_bytes(state)
    return from_bytes(comm.broadcast_bytes(data))


def settings_of_state(state: dict[str, Any], experiment: Experiment, reference: str) -> Experiment:
    """The settings that the state was trained with, and over them what this command line itself asked for."""
    default = to_plain(registry.build(reference))
    asked = to_plain(experiment)
    merged = _overridden(state["config"], default, asked) | {"name": experiment.name}
    trained = with_simulator(from_plain(experiment, merged), tested_on(experiment, state))
    return dataclasses.replace(trained, envs_per_proc=experiment.envs_per_proc, evaluation=experiment.evaluation)


def _overridden(saved: Any, default: Any, asked: Any) -> Any:
    """`saved` with the entries in which `asked` is not `default`, and those that it is too old to have."""
    if isinstance(saved, dict) and isinstance(asked, dict) and isinstance(default, dict):
        return {
            name: _overridden(saved.get(name, asked.get(name)), default.get(name), asked.get(name, saved.get(name)))
            for name in dict.fromkeys((*saved, *asked))
        }
    return saved if asked == default else asked


def _report(result: Evaluation, directory: Path, run: RunConfig, ppo: PPO, gif: GifRecorder | None) -> None:
    print(result.report())
    if gif is not None:
        kind = "random" if run.random_policy else f"{ppo.iteration:06d}"
        print(f"GIF: {gif.save(directory / 'gif', f'{ppo.experiment.name}-{kind}')}")
    if run.save_test_scores:
        print("Scores: {} {}".format(*result.save(directory)))
