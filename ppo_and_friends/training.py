"""A run around the iterations: resume, evaluate, save, log, stop. Every decision is made on reduced numbers."""

from __future__ import annotations

import math
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import torch

from ppo_and_friends.accelerate import accelerate
from ppo_and_friends.checkpoint import StateDirectory, read_state
from ppo_and_friends.config import RunConfig
from ppo_and_friends.display import first_lines
from ppo_and_friends.errors import UserError
from ppo_and_friends.evaluate import Evaluation, evaluate
from ppo_and_friends.launch import one_thread
from ppo_and_friends.logger import Logger, NullLogger
from ppo_and_friends.next_command import command, launched, settings_flags
from ppo_and_friends.provenance import provenance
from ppo_and_friends.recording import NoRecordings, recordings
from ppo_and_friends.run_state import (
    check_same_experiment,
    directory_of,
    engine_of,
    from_bytes,
    load_or_explain,
    load_weights,
    setting_changes,
    to_bytes,
    untrained,
    whole_state,
)
from ppo_and_friends.serialize import to_plain
from ppo_and_friends.signals import exit_code, stop_signals
from ppo_and_friends.vector.base import VecEnv
from ppo_and_friends.view.watch import NoWatch, check_view, watch

if TYPE_CHECKING:
    from ppo_and_friends.ppo import PPO, Callback

SECONDS_BETWEEN_SAVES = 30.0


class Training:
    """One call of `PPO.learn`."""

    def __init__(self, ppo: PPO, callback: Callback | None = None) -> None:
        self.ppo, self.callback = ppo, callback
        self.options = ppo.run or RunConfig()
        self.writes = ppo.run is not None and ppo.comm.rank == 0
        self.directory = StateDirectory(directory_of(ppo.experiment, self.options)) if self.writes else None
        self.log: Logger | NullLogger = NullLogger()
        self.best_score = -math.inf
        self.evaluation_env: VecEnv | None = None
        self.watch: NoWatch = NoWatch()
        self.recordings: NoRecordings = NoRecordings()
        self.began = self.last_save = time.monotonic()
        self.seconds_before = 0.0  # of the runs that this one resumes

    def run(self) -> int:
        """Train; returns the exit code: 0, or 128 + the signal that stopped it."""
        ppo = self.ppo
        with ExitStack() as stack:
            stack.enter_context(one_thread())
            signal = stack.enter_context(stop_signals(ppo.comm.abort, saved=ppo.run is not None))
            check_view(ppo.env, self.options)
            if self.writes:
                path = directory_of(ppo.experiment, self.options)
                self.recordings = recordings(ppo, self.options, path)
                stack.callback(self.recordings.close)
                self.watch = stack.enter_context(watch(ppo.env, self.options, path))
            self._start_from_weights()
            config = {"environment": ppo.reference, "experiment": to_plain(ppo.experiment)}
            config |= engine_of(ppo.env_config)
            if self.directory is not None:
                origin = provenance(ppo.comm.size, ppo.threads, str(ppo.device))
                self.directory.open(config, origin, self.options.clobber)
                stack.callback(self.directory.close)
            if ppo.comm.rank == 0 and ppo.run is not None:
                print(first_lines(ppo.env.spec, str(ppo.device), ppo.comm, ppo.threads), flush=True)
            self._resume()
            if self.callback is None:  # which might play it
                ppo.players.check_played(ppo.env.spec.task)
            config["random_seed"] = ppo.seed  # a resumed run keeps its own; the first save writes the file
            if self.options.random_seed < 0:
                self._say(f"The seed of this run is --random_seed {ppo.seed}")
            if self._finished():
                self._say_finished()
                return 0
            if self.watch.told:
                self._say(f"Rows of this run are shown {self.watch.told}")
            if ppo.iteration == 0:
                self._save()
            accelerate(ppo, self._say)
            if self.directory is not None:
                logger = Logger(self.directory.path, ppo.iteration, ppo.progress, self.best_score, self.options.verbose)
                self.log = stack.enter_context(logger)
            for group in ppo.groups:
                group.learner.signal = signal
            stopped = self._loop(signal)
            number = torch.tensor([signal.wanted])
            ppo.comm.max_(number)
        return self._end(stopped, exit_code(int(number)) if stopped else 0)

    def _loop(self, signal: Any) -> bool:
        """Iterate to the end; True when a signal or the callback ended it before."""
        ppo = self.ppo
        while not self._finished():
            before = ppo.timesteps
            due = time.monotonic() - self.last_save > SECONDS_BETWEEN_SAVES
            for group in ppo.groups:
                group.learner.save_wanted = ppo.comm.rank == 0 and not self.options.save_every and due
            metrics = ppo.iterate()
            signal.saved = False
            self.watch.pull()
            stop, save = metrics.pop("stop") > 0, metrics.pop("save") > 0
            if stop:
                signal.acknowledge()
            elif self._evaluation_due(before):
                start = time.monotonic()
                metrics |= self._evaluate()
                metrics["seconds_evaluating"] = time.monotonic() - start
            if not stop:
                metrics |= self.recordings.after(ppo.iteration, self.log)
            metrics["seconds"] = self._seconds()
            self.log.log(metrics)
            stop = self._ask(metrics) or stop
            every = self.options.save_every
            if stop or save or self._finished() or (every and ppo.iteration % every == 0):
                self._save()
            if stop:
                return True
        return False

    def _finished(self) -> bool:
        limit = self.options.max_iterations
        done = self.ppo.timesteps >= self.ppo.experiment.num_timesteps
        return done or bool(limit and self.ppo.iteration >= limit)

    def _ask(self, metrics: dict[str, float]) -> bool:
        """What the callback says, on all ranks the same."""
        if self.callback is None:
            return False
        answer = torch.tensor([1.0 if self.callback(self.ppo, metrics) else 0.0])
        self.ppo.comm.max_(answer)
        return bool(answer)

    # ---- evaluation

    def _evaluation_due(self, before: int) -> bool:
        """A function of timesteps alone, so that a resumed run evaluates where an uninterrupted one does."""
        ppo, every = self.ppo, self.ppo.experiment.evaluation.every
        total = ppo.experiment.num_timesteps
        return bool(every) and (before * every // total != ppo.timesteps * every // total)

    def _evaluate(self) -> dict[str, float]:
        ppo, settings = self.ppo, self.ppo.experiment.evaluation
        if self.evaluation_env is None:
            # Twice the rows of training at most: 10 episodes on 8 rows would take as long as 16.
            rows = min(2 * ppo.experiment.envs_per_proc, -(-settings.episodes // ppo.comm.size))
            self.evaluation_env = ppo.evaluation_env(rows)
        seed = evaluation_seed(ppo.seed, ppo.iteration)
        generator = torch.Generator(ppo.device).manual_seed(seed + ppo.comm.rank)  # training's own is not touched
        result = evaluate(
            self.evaluation_env,
            ppo.policies(not settings.sample, generator),
            settings.episodes,
            seed,
            ppo.comm,
            settings.max_episode_steps,
        )
        if result.mean > self.best_score:
            self.best_score = result.mean
            self._save(best=True)
        extras = {f"evaluation_{name}": value for name, value in result.logs.items()}
        scores = {"return": result.mean, "std": result.std, "length": mean_length(result), **result.teams()}
        parts = {name.rpartition("/"): value for name, value in scores.items()}
        return extras | {f"{group}{slash}evaluation_{name}": value for (group, slash, name), value in parts.items()}

    # ---- state

    def _seconds(self) -> float:
        """Of training so far, resumes included."""
        return self.seconds_before + time.monotonic() - self.began

    @property
    def _name(self) -> str:
        return self.options.name or self.ppo.experiment.name or "run"

    def _start_from_weights(self) -> None:
        """Load what --init_from names, before there is a directory for a run that cannot begin."""
        ppo, source = self.ppo, self.options.init_from
        if ppo.run is not None and source:
            data = to_bytes(read_state(source)) if ppo.comm.rank == 0 else b""
            state = from_bytes(ppo.comm.broadcast_bytes(data))
            load_weights(ppo, state, source)
            self._say(untrained(state, source))

    def _resume(self) -> None:
        """Load what is on disk; rank 0 reads, all ranks get the same."""
        ppo = self.ppo
        if ppo.run is None:
            return
        data = b""
        if self.directory is not None:
            state = None if self.options.clobber else self.directory.load(self.options.checkpoint)
            if state is not None and self.options.init_from:
                raise UserError(
                    f"--init_from starts a new run, but {self.directory.path} has a state already: "
                    "choose another --name, or add --clobber."
                )
            if state is not None and self.directory.best is None:  # it came after the state that we go on from
                state["best_score"] = -math.inf
            data = to_bytes(state)
        found = from_bytes(ppo.comm.broadcast_bytes(data))
        if self.options.init_from:
            self._say(f"Starting from the weights and normalisers of {self.options.init_from}.")
        if found is not None:
            self._load(found)

    def _load(self, state: dict[str, Any]) -> None:
        ppo = self.ppo
        where = f"{directory_of(ppo.experiment, self.options)}"
        mend = "another --name or --state_path, or --clobber to start over"
        check_same_experiment(ppo.experiment, state, where, f"choose {mend}")
        load_or_explain(lambda: ppo.load_shared_state(state["shared"]), ppo, state, where, mend)
        changes = setting_changes(state["config"], to_plain(ppo.experiment))
        if changes and not self.options.accept_changes:
            raise UserError(
                f"{where} was trained with other settings ({'; '.join(changes)}): give the same ones, or add "
                "--accept_changes to go on with these, or --name for another run."
            )
        for change in changes:
            self._say(f"Changed: {change}")
        self.best_score = state["best_score"]
        self.seconds_before = state["seconds"]
        same = state["size"] == ppo.comm.size and state["rows"] == ppo.experiment.envs_per_proc
        exact = same and not changes and ppo.load_own_state(state["ranks"][ppo.comm.rank])
        if not exact:
            ppo.start_anew()
        if self.options.random_seed not in (RunConfig().random_seed, -1, ppo.seed):
            self._say(f"--random_seed {self.options.random_seed} is for a new run: this one keeps its own, {ppo.seed}.")
        self._say(f"Resumed {self._name} at iteration {ppo.iteration}, {ppo.timesteps} timesteps.")
        if not same:
            self._say(f"It was trained on {state['size']} ranks x {state['rows']} rows: the rows start anew.")
        elif not exact:
            cause = "Settings changed" if changes else "The environment cannot give its exact state"
            self._say(f"{cause}: the rows start anew.")

    def _save(self, best: bool = False) -> None:
        if self.ppo.run is None:
            return
        state = whole_state(self.ppo, self.best_score, self._seconds())
        if self.directory is not None and state is not None:
            self.directory.save(state, self.ppo.iteration, best)
        self.last_save = time.monotonic()

    # ---- words

    def _say(self, text: str) -> None:
        if self.writes and text:
            print(text, flush=True)

    def _say_finished(self) -> None:
        ppo = self.ppo
        short = ppo.timesteps < ppo.experiment.num_timesteps
        flags = () if short else ("--num_timesteps", str(2 * ppo.timesteps))
        reached = f"for {ppo.iteration} iterations" if short else f"to {ppo.timesteps} timesteps"
        self._say(f"{self._name} is trained {reached} already.")
        self._say(f"To go on: {self._resuming(*flags)}")

    def _resuming(self, *flags: str) -> str:
        """The command that goes on with the settings of this run."""
        settings = settings_flags(self.ppo.reference, self.ppo.experiment, self.options)
        return launched(self.ppo.comm.size, command(self.ppo.reference, self.options, *settings, *flags))

    def _end(self, stopped: bool, code: int) -> int:
        if self.evaluation_env is not None:
            self.evaluation_env.close()
        if not self.writes or self.directory is None:
            return code
        if stopped:
            print(f"Stopped at {self.ppo.timesteps} timesteps and saved. To go on: {self._resuming()}")
        else:
            sampled = ("--test_explore",) * self.ppo.experiment.evaluation.sample
            evaluating = command(self.ppo.reference, self.options, "--num_test_runs", "20", *sampled)
            print(f"Done: {self.ppo.timesteps} timesteps. To evaluate: {evaluating}")
        return code


def evaluation_seed(seed: int, iteration: int) -> int:
    """Apart from every seed of training, and different at each evaluation."""
    return (seed * 1_000_003 + iteration * 8_191 + 1_000_000_007) % 2**31


def mean_length(result: Evaluation) -> float:
    return sum(result.lengths) / max(1, len(result.lengths))
