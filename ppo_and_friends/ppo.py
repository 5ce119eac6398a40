"""Proximal Policy Optimization: wires the parts and runs the iterations. Nothing numerical happens here."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ppo_and_friends.accelerate import repays
from ppo_and_friends.checkpoint import read_state, write_state
from ppo_and_friends.collect import Collector
from ppo_and_friends.comm import Comm, SoloComm, drawn_if_negative
from ppo_and_friends.config import Experiment, RunConfig, check_experiment, steps_per_row
from ppo_and_friends.devices import check_device, choose_device, on_device, set_matmul_precision
from ppo_and_friends.errors import UserError
from ppo_and_friends.group import EPISODES, SUMS
from ppo_and_friends.launch import threads
from ppo_and_friends.minibatch import Batch
from ppo_and_friends.nccl import with_nccl
from ppo_and_friends.players import Players, make_players
from ppo_and_friends.policy import Memory, NetPolicy, predict
from ppo_and_friends.rollout import Rollout
from ppo_and_friends.run_state import saved_experiment, whole_state
from ppo_and_friends.schedules import Progress
from ppo_and_friends.seeding import globals_seeded
from ppo_and_friends.simulator import CPU, as_made, choose_simulator, with_simulator
from ppo_and_friends.stats import reduce_moments
from ppo_and_friends.vector.base import VecEnv

# The short rollout that only seeds the moments: samples of all ranks, and steps, which show more than resets do.
SEED_SAMPLES, SEED_STEPS = 1024, 16

Callback = Callable[["PPO", dict[str, float]], bool | None]


class PPO:
    """A policy, its environments and everything that trains it.

    Args:
        experiment: what a launcher returns.
        run: what this call wants; without it, nothing is written to disk or shown.
        comm: the other ranks.
        reference: what `-e` said, by which `load` finds the launcher again; the experiment's name when empty.
        render: whether the environments will be asked for pictures.
    Raises:
        UserError: a setting that cannot work, before anything is trained or written.
    """

    def __init__(
        self,
        experiment: Experiment,
        run: RunConfig | None = None,
        comm: Comm | None = None,
        reference: str = "",
        render: bool = False,
    ) -> None:
        self.experiment, self.run, self.comm = experiment, run, comm or SoloComm()
        self.reference = reference or experiment.name
        options = run or RunConfig()
        self._check_equal_rows()
        check_experiment(experiment, experiment.envs_per_proc * self.comm.size)
        if not hasattr(experiment.env, "make"):
            raise UserError(f"env is {experiment.env!r}, but must have make(rows, threads, render), as GymEnv has.")
        check_device(options.device, options.allow_mpi_gpu, self.comm.size)
        self.seed = drawn_if_negative(options.random_seed, self.comm)
        self.threads = threads(self.comm)
        if options.force_deterministic != torch.are_deterministic_algorithms_enabled():  # the call imports a compiler
            torch.use_deterministic_algorithms(options.force_deterministic)
        self.env_config = choose_simulator(experiment, run, self.comm)
        rank_seed = self._rank_seed(0)
        with globals_seeded(rank_seed):  # an environment may draw while it is made: mjlab masses and frictions
            self.env = self.env_config.make(experiment.envs_per_proc, threads=self.threads, render=render)
        self.env_config = as_made(self.env_config, self.env)
        self.device = choose_device(options.device, options.allow_mpi_gpu, self.comm, self.env.spec)
        set_matmul_precision(self.device, experiment.matmul_precision)
        self.comm = with_nccl(self.comm, self.device)
        torch.manual_seed(self.seed)  # networks are made alike on all ranks, and broadcast all the same
        self.generator = torch.Generator(self.device).manual_seed(rank_seed)
        self.steps = steps_per_row(experiment, experiment.envs_per_proc * self.comm.size)
        self.players = Players(make_players(self.env.spec, experiment, self.comm, self.steps, self.generator))
        self.groups = self.players.learning
        rows, soft_resets = [player.rows for player in self.players.all], experiment.ppo.soft_resets
        self.collector = Collector(on_device(self.env, self.device), rows, self.steps, soft_resets, rank_seed)
        # The parts of an iteration that may be replaced by faster ones that do the same (see graphs.py).
        self.collect: Callable[[], list[Rollout]] = self.collector.collect
        self.digest: Callable[[list[Rollout]], tuple[list[Batch], torch.Tensor]] = self.eager_digest
        self.iteration, self.timesteps, self.exit_code = 0, 0, 0
        # Chosen once for a run, and kept in its state: num_timesteps may grow when it is resumed.
        asked = {"on": True, "off": False, "auto": repays(experiment, self.comm.size)}
        self.compiled = asked[experiment.compile]

    def _check_equal_rows(self) -> None:
        """Ranks count steps by their own rows: with unequal ones they would not end together."""
        rows = self.experiment.envs_per_proc
        extremes = torch.tensor([rows, -rows])
        self.comm.max_(extremes)
        most, fewest = int(extremes[0]), -int(extremes[1])
        if most != fewest:
            raise UserError(f"envs_per_proc is {fewest} on one rank and {most} on another: give all the same.")

    def _rank_seed(self, iteration: int) -> int:
        """Of this rank's rows and actions, from `iteration` on."""
        return int(np.random.SeedSequence((self.seed, self.comm.rank, iteration)).generate_state(1)[0])

    def start_anew(self) -> None:
        """Draw other episodes and actions than those that the run began with: rows that could not be restored."""
        self.collector.seed = self._rank_seed(self.iteration)
        self.generator.manual_seed(self.collector.seed)

    @property
    def progress(self) -> Progress:
        mean, _ = self.players.scores()
        return Progress(self.timesteps, self.experiment.num_timesteps, mean if mean == mean else -float("inf"))

    # ---- one iteration

    def iterate(self) -> dict[str, float]:
        """Collect one rollout, learn from it, and say what happened: the same numbers on every rank."""
        if self.iteration == 0:
            self._seed_moments()
        started, self.collector.seconds = time.perf_counter(), {}
        progress = self.progress
        for group in self.groups:
            group.begin_iteration(progress)
        batches, sums = self.digest(self.collect())
        collected = time.perf_counter()
        metrics: dict[str, float] = {}
        wishes = {"stop": 0.0, "save": 0.0}
        for name, group, batch in zip(self.players.names, self.groups, batches, strict=True):
            learned = group.learn(batch, self.seed, self.iteration, progress)
            wishes = {wish: max(most, learned.pop(wish)) for wish, most in wishes.items()}
            metrics |= self.players.named(name, learned)
        for name, group, own in zip(self.players.names, self.groups, self._note(sums, self.steps), strict=True):
            metrics |= self.players.named(name, group.report(own, self.steps * group.total_rows))
            for addon in group.addons:
                metrics |= self.players.named(name, addon.end_iteration(self) or {})  # type: ignore[operator]
        self.iteration += 1
        return {
            "iteration": self.iteration,
            "timesteps": self.timesteps,
            **self.players.episodes(),
            **metrics,
            **wishes,
            **self._phases(started, collected, time.perf_counter()),
        }

    def _phases(self, started: float, collected: float, learned: float) -> dict[str, float]:
        """Where the time of an iteration went. A GPU that replays a recorded rollout is still at it when Python has
        gone on: then only the whole is known."""
        spent = self.collector.seconds
        if not spent:
            return {"seconds_iterating": learned - started}
        targets = collected - started - sum(spent.values())
        return {**spent, "seconds_targets": targets, "seconds_learning": learned - collected}

    def eager_digest(self, rollouts: list[Rollout]) -> tuple[list[Batch], torch.Tensor]:
        """What each group learns from, and the sums of all ranks."""
        prepared, sums = self._prepare(rollouts)
        parts = zip(self.groups, prepared, self._each(sums), strict=True)
        return [group.batch(rollout, targets, own) for group, (rollout, targets, _), own in parts], sums

    def _each(self, sums: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The sums of each group."""
        return sums.split([group.extra for group in self.groups])

    def _prepare(self, rollouts: list[Rollout]) -> tuple[list[Any], torch.Tensor]:
        """Rollouts with their targets, and the sums of all ranks: the one reduction of a rollout."""
        pairs = zip(self.groups, self.players.learners(rollouts), strict=True)
        prepared = [group.prepare(rollout, self.progress) for group, rollout in pairs]
        moments = [item for group in self.groups for item in (*group.early_moments(), *group.late_moments())]
        return prepared, reduce_moments(self.comm, moments, torch.cat([own for *_, own in prepared]))

    def _note(self, sums: torch.Tensor, steps: int) -> list[list[float]]:
        """Count a rollout of so many steps, and read its sums: those of each group."""
        self.timesteps += steps * self.experiment.envs_per_proc * self.comm.size
        self.collector.taken += steps
        parts = [own.tolist() for own in self._each(sums.cpu())]
        for group, own in zip(self.groups, parts, strict=True):
            group.recent.add(*own[SUMS : SUMS + EPISODES])
        return parts

    def _seed_moments(self) -> None:
        """A short rollout that is not learned from, so that the first real one is normalised by something."""
        moments = [item for group in self.groups for item in group.seeded_moments()]
        if any(item.live for item in moments):
            rows = self.experiment.envs_per_proc * self.comm.size
            steps = min(self.steps, max(SEED_STEPS, SEED_SAMPLES // rows))
            _, sums = self._prepare(self.collector.collect(steps))
            self._note(sums, steps)
            for item in moments:
                item.absorb()

    # ---- what a user calls

    def learn(self, callback: Callback | None = None) -> PPO:
        """Train until the experiment's total of timesteps; with a `run`, resume, save, log and show it too.

        Args:
            callback: called with (this, metrics) after each iteration and each evaluation, on every rank; True
                from any rank stops the run on all of them.
        Raises:
            UserError: a saved state that does not fit, or a directory that cannot be used.
        """
        from ppo_and_friends.training import Training

        self.exit_code = Training(self, callback).run()
        return self

    def save(self, path: Path | str) -> None:
        """Write weights, normalisers, optimiser, counters and rows to one file; all ranks call it together."""
        state = whole_state(self)
        if state is not None:
            write_state(path, state, self.iteration)

    @classmethod
    def load(cls, path: Path | str, experiment: Experiment | None = None, comm: Comm | None = None) -> PPO:
        """A trained policy with its own settings, ready to predict or to go on learning in new episodes.

        Args:
            path: a state directory (its last state), or a state file.
            experiment: for states of experiments that no launcher names.
        Raises:
            UserError: no such state, or an experiment that cannot be found.
        """
        state = read_state(path)
        any_engine = with_simulator(saved_experiment(state, experiment), CPU)  # which needs no kernels
        ppo = cls(any_engine, comm=comm, reference=state["reference"])
        ppo.load_shared_state(state["shared"])
        ppo.start_anew()
        return ppo

    def policy(self, deterministic: bool = True) -> NetPolicy:
        """How the first group acts outside training."""
        return self.policies(deterministic)[0]

    def policies(self, deterministic: bool = True, generator: torch.Generator | None = None) -> list[NetPolicy]:
        """How each group acts outside training; what it samples, it draws from training's generator or another."""
        return [NetPolicy(player.net, generator or self.generator, deterministic) for player in self.players.all]

    def predict(
        self,
        observation: Any,
        deterministic: bool = True,
        agent: str = "",
        memory: Memory | None = None,
        mask: Any = None,
    ) -> Any:
        """The action for one observation, or for a batch with one more leading axis.

        Args:
            observation: an array as the environment gives it (for Dict and Tuple spaces: what Gymnasium gives).
            deterministic: the most likely action, rather than a sample.
            agent: whose, in an environment of several; the first when empty.
            memory: made for this episode, and given at each of its steps; a policy with a core needs one.
            mask: flags `[K]` or `[B, K]` of legal actions; without it those in the observation, or all are legal.
        Returns:
            What the environment takes: an int for Discrete, else an array.
        Raises:
            UserError: observation or mask of another shape than in training, no such agent, no memory where needed.
        """
        return predict(self.env, self.policies(deterministic), observation, agent, memory, mask)

    def evaluation_env(self, rows: int, render: bool = False) -> VecEnv:
        """Environments of their own for tests: training's rows are never disturbed."""
        return on_device(self.env_config.make(rows, threads=self.threads, render=render), self.device)

    # ---- state

    def shared_state(self) -> dict[str, Any]:
        """What is the same on every rank: tensors and plain values."""
        return {
            "groups": [group.shared_state() for group in self.groups],
            "iteration": self.iteration,
            "timesteps": self.timesteps,
            "steps": self.collector.taken,
            "seed": self.seed,
            **self.players.state(),
            "compiled": self.compiled,
        }

    def own_state(self) -> dict[str, Any]:
        """What only this rank knows."""
        return {
            "generator": self.generator.get_state(),
            "collector": self.collector.state(),
            "groups": [group.own_state() for group in self.groups],
        }

    def load_shared_state(self, state: dict[str, Any]) -> None:
        for group, saved in zip(self.groups, state["groups"], strict=True):
            group.load_shared_state(saved)
        self.iteration, self.timesteps, self.seed = state["iteration"], state["timesteps"], state["seed"]
        self.collector.taken = state.get("steps", 0)
        self.players.load_state(state)
        if self.experiment.compile == "auto":
            self.compiled = state.get("compiled", False)

    def load_own_state(self, state: dict[str, Any]) -> bool:
        """Go on exactly; False where the environment cannot give its state: rows start anew."""
        self.generator.set_state(state["generator"])
        exact = self.collector.load_state(state["collector"])
        if exact:
            for group, saved in zip(self.groups, state["groups"], strict=True):
                group.load_own_state(saved)
        return exact
