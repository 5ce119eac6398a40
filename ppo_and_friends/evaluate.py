"""Playing whole episodes: exactly as many as asked for, none favoured for being short, nothing learned."""

from __future__ import annotations

import csv
import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ppo_and_friends.comm import Comm
from ppo_and_friends.episodes import Scores
from ppo_and_friends.errors import UserError
from ppo_and_friends.files import unused, write_atomically
from ppo_and_friends.types import Obs, Spec
from ppo_and_friends.vector.base import VecEnv

SEED_STRIDE = 1_000_003  # between ranks, and between restarts: rows of one rank differ by themselves


class Policy(Protocol):
    """Acts without learning. Its state is whatever it likes."""

    def start(self, rows: int) -> Any:
        """The state before the first step of `rows` rows."""
        ...

    def act(self, obs: Obs, state: Any, first: Tensor) -> tuple[Tensor, Any]:
        """Actions `[N, columns]` in the environment's units and the state after; `first` `[N]` bool starts episodes."""
        ...


class FrameSink(Protocol):
    """Receives pictures of row 0 of rank 0."""

    def wants_frame(self) -> bool:
        """Asked once a step, before the picture is drawn."""
        ...

    def show(self, frame: np.ndarray) -> None:
        """Take `[height, width, 3]` uint8."""
        ...

    def end_episode(self) -> None: ...


@dataclass(frozen=True)
class Evaluation:
    """Scores of whole episodes of all ranks, in the order of their numbers; the same on every rank.

    With several agents, a return is the sum over those that learn."""

    returns: tuple[float, ...]
    lengths: tuple[int, ...]
    logs: dict[str, float] = field(default_factory=dict)
    """Means over episodes of what the environment reported with their last step, such as is_success."""
    n_cut: int = 0
    """Episodes that were still going after the most steps allowed."""
    agents: dict[str, tuple[float, ...]] = field(default_factory=dict)
    """Returns of each agent, "GROUP/AGENT" where there are several groups; empty where there is one agent."""

    @property
    def mean(self) -> float:
        return statistics.fmean(self.returns)

    @property
    def std(self) -> float:
        return statistics.pstdev(self.returns)

    @property
    def min(self) -> float:
        return min(self.returns)

    @property
    def max(self) -> float:
        return max(self.returns)

    def summary(self) -> dict[str, float]:
        """Plain numbers, for files and loggers."""
        return {
            "episodes": len(self.returns),
            "mean": self.mean,
            "std": self.std,
            "min": self.min,
            "max": self.max,
            "mean_length": statistics.fmean(self.lengths),
            "min_length": min(self.lengths),
            "max_length": max(self.lengths),
            "n_cut": self.n_cut,
            **self.teams(),
            **{f"{name}/return": statistics.fmean(returns) for name, returns in self.agents.items()},
            **self.logs,
        }

    def teams(self) -> dict[str, float]:
        """Mean return of an agent, where there are several groups of each, and of their teams; empty for one agent."""
        groups: dict[str, list[float]] = {}
        for name, returns in self.agents.items():
            groups.setdefault(name.rpartition("/")[0], []).append(statistics.fmean(returns))
        if len(groups) < 2:
            return {"agent_return": self.mean / len(self.agents)} if groups else {}
        teams = {f"{name}/return": sum(own) for name, own in groups.items()}
        return teams | {f"{name}/agent_return": statistics.fmean(own) for name, own in groups.items()}

    def report(self) -> str:
        """A small table."""
        rows: list[tuple[str, ...]] = [("", "mean", "std", "min", "max")]
        own = [(f"return of {name}", returns) for name, returns in self.agents.items()]
        for name, values in (("return", self.returns), *own, ("length", self.lengths)):
            numbers = (statistics.fmean(values), statistics.pstdev(values), min(values), max(values))
            rows.append((name, *(f"{number:.2f}" for number in numbers)))
        widths = [max(len(row[column]) for row in rows) for column in range(5)]
        lines = [f"{len(self.returns)} episode{'s' if len(self.returns) > 1 else ''}"]
        lines += ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
        if self.n_cut:
            lines.append(f"{self.n_cut} of them had not ended after {max(self.lengths)} steps and were cut there.")
        if self.logs:
            lines.append("What the environment reported with the last step, mean over episodes:")
        lines += [f"{name}: {value:.4g}" for name, value in self.logs.items()]
        return "\n".join(lines)

    def save(self, directory: Path, name: str = "test_scores") -> tuple[Path, Path]:
        """Write NAME.csv (one row an episode) and NAME.json (the summary); earlier files stay.

        Raises:
            UserError: the directory cannot be written.
        """
        table, summary = unused(directory / f"{name}.csv"), unused(directory / f"{name}.json")
        try:
            directory.mkdir(parents=True, exist_ok=True)
            with open(table, "x", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(("episode", "return", "length", *self.agents))
                columns = (self.returns, self.lengths, *self.agents.values())
                writer.writerows(zip(range(len(self.returns)), *columns, strict=True))
            write_atomically(summary, json.dumps(self.summary(), indent=1).encode())
        except OSError as error:
            raise UserError(f"Test scores cannot be written into {directory} ({error.strerror}).") from error
        return table, summary


def evaluate(
    vec_env: VecEnv,
    policy: Policy | Sequence[Policy],
    episodes: int,
    seed: int,
    comm: Comm,
    max_episode_steps: int,
    on_frame: Sequence[FrameSink] = (),
) -> Evaluation:
    """Play `episodes` episodes over the rows of all ranks, the same number of rows on each.

    Episode i belongs to row i mod (rows of all ranks): how many a row plays does not depend on how long they
    are. One exchange between ranks, at the end. A start that fails in its first step (no step of it was active) is no
    episode: the row plays on. With several agents, read environment for row: its episode ends when all its agents' do.

    Args:
        vec_env: starts anew, and is left in the middle of episodes.
        policy: one for each group of the environment.
        seed: of the environments; every rank passes the same.
        max_episode_steps: an episode that is still going then is cut, and counted in `n_cut`.
        on_frame: sinks for pictures; `vec_env` must have been made with render=True.
    Raises:
        UserError: no picture can be drawn on this machine.
        EnvironmentFailure: a row had no active step within `max_episode_steps`, because every start of its fails.
    """
    groups = vec_env.spec.groups
    policies = list(policy) if isinstance(policy, Sequence) else [policy]
    scores = Scores(vec_env.spec, comm.rank, comm.size, episodes, max_episode_steps)
    camera = Camera(vec_env, on_frame if comm.rank == 0 else ())
    with torch.no_grad():
        restarts = 0
        while not scores.done:
            seen = vec_env.reset(seed + SEED_STRIDE * (comm.rank + comm.size * restarts))
            scores.restart()
            states = [own.start(group.rows) for own, group in zip(policies, groups, strict=True)]
            firsts = [torch.ones(len(obs.mask), dtype=torch.bool, device=obs.mask.device) for obs in seen]
            camera.shoot()
            while not scores.stuck:
                parts = zip(policies, seen, states, firsts, strict=True)
                decided = [own.act(obs, state, first) for own, obs, state, first in parts]
                states = [state for _, state in decided]
                steps = vec_env.step(tuple(actions for actions, _ in decided))
                ended = scores.add(steps)
                if 0 in ended:
                    camera.cut()
                if scores.wanted[0] > 0:
                    camera.shoot()
                seen = tuple(step.obs for step in steps)
                firsts = [step.terminated | step.truncated | ~step.active for step in steps]
            restarts += 1
    return _gathered(scores, comm, vec_env.spec)


class Camera:
    """Pictures of row 0, drawn only while a sink wants them."""

    def __init__(self, vec_env: VecEnv, sinks: Sequence[FrameSink]) -> None:
        self._vec_env, self._sinks = vec_env, sinks

    def shoot(self) -> None:
        sinks = [sink for sink in self._sinks if sink.wants_frame()]
        if not sinks:
            return
        try:
            frame = self._vec_env.frame(0)
        except UserError:
            raise
        except Exception as error:
            raise UserError(
                f"No picture of {self._vec_env.spec.task} can be drawn here ({type(error).__name__}: {error}): install "
                "EGL or OSMesa (libegl1 or libosmesa6), or go without --render, --render_gif and --gif_every."
            ) from error
        for sink in sinks:
            sink.show(frame)

    def cut(self) -> None:
        for sink in self._sinks:
            sink.end_episode()


def _gathered(scores: Scores, comm: Comm, spec: Spec) -> Evaluation:
    parts = comm.gather_bytes(json.dumps(scores.episodes).encode())
    joined = json.dumps([episode for part in parts for episode in json.loads(part)]).encode() if parts else None
    episodes = sorted(json.loads(comm.broadcast_bytes(joined)), key=lambda episode: episode["number"])
    names = dict.fromkeys(name for episode in episodes for name in sorted(episode["log"]))
    agents = [(group.name, agent) for group in spec.groups for agent in group.agents]
    labels = [f"{group}/{agent}" if len(spec.groups) > 1 else agent for group, agent in agents]
    alone = len(agents) == 1
    return Evaluation(
        returns=tuple(episode["return"] for episode in episodes),
        lengths=tuple(episode["length"] for episode in episodes),
        logs={name: statistics.fmean(ep["log"][name] for ep in episodes if name in ep["log"]) for name in names},
        n_cut=sum(episode["cut"] for episode in episodes),
        agents={} if alone else {name: tuple(ep["agents"][i] for ep in episodes) for i, name in enumerate(labels)},
    )
