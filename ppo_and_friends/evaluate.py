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
from ppo_and_friends.errors import EnvironmentFailure, UserError
from ppo_and_friends.files import unused, write_atomically
from ppo_and_friends.types import CONTINUES, Obs, Step
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
    """Scores of whole episodes of all ranks, in the order of their numbers; the same on every rank."""

    returns: tuple[float, ...]
    lengths: tuple[int, ...]
    logs: dict[str, float] = field(default_factory=dict)
    """Means over episodes of what the environment reported with their last step, such as is_success."""
    n_cut: int = 0
    """Episodes that were still going after the most steps allowed."""

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
            **self.logs,
        }

    def report(self) -> str:
        """A small table."""
        rows: list[tuple[str, ...]] = [("", "mean", "std", "min", "max")]
        for name, values in (("return", self.returns), ("length", self.lengths)):
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
                writer.writerow(("episode", "return", "length"))
                writer.writerows(zip(range(len(self.returns)), self.returns, self.lengths, strict=True))
            write_atomically(summary, json.dumps(self.summary(), indent=1).encode())
        except OSError as error:
            raise UserError(f"Test scores cannot be written into {directory} ({error.strerror}).") from error
        return table, summary


def evaluate(
    vec_env: VecEnv,
    policy: Policy,
    episodes: int,
    seed: int,
    comm: Comm,
    max_episode_steps: int,
    on_frame: Sequence[FrameSink] = (),
) -> Evaluation:
    """Play `episodes` episodes over the rows of all ranks, the same number of rows on each.

    Episode i belongs to row i mod (rows of all ranks): how many a row plays does not depend on how long they
    are. One exchange between ranks, at the end. A start that fails in its first step (no step of it was active) is no
    episode: the row plays on.

    Args:
        vec_env: its first group is scored. Starts anew, and is left in the middle of episodes.
        seed: of the environments; every rank passes the same.
        max_episode_steps: an episode that is still going then is cut, and counted in `n_cut`.
        on_frame: sinks for pictures; `vec_env` must have been made with render=True.
    Raises:
        UserError: no picture can be drawn on this machine.
        EnvironmentFailure: a row had no active step within `max_episode_steps`, because every start of its fails.
    """
    rows = vec_env.spec.groups[0].rows
    scores = Scores(rows, comm.rank * rows, comm.size * rows, episodes, max_episode_steps, vec_env.spec.task)
    camera = Camera(vec_env, on_frame if comm.rank == 0 else ())
    with torch.no_grad():
        restarts = 0
        while not scores.done:
            obs = vec_env.reset(seed + SEED_STRIDE * (comm.rank + comm.size * restarts))[0]
            scores.restart()
            state, first = policy.start(rows), torch.ones(rows, dtype=torch.bool, device=obs.mask.device)
            camera.shoot()
            while not scores.stuck:
                actions, state = policy.act(obs, state, first)
                step = vec_env.step((actions,))[0]
                ended = scores.add(step)
                if 0 in ended:
                    camera.cut()
                if scores.wanted[0] > 0:
                    camera.shoot()
                obs, first = step.obs, step.terminated | step.truncated | ~step.active
            restarts += 1
    return _gathered(scores, comm)


class Scores:
    """What the rows of one rank have played, and have yet to play.

    A row whose episode was cut for its length is set aside until its environment ends that episode by itself.
    When only such rows have episodes left to play, all rows are stuck and must be reset.
    """

    def __init__(self, rows: int, first_row: int, all_rows: int, episodes: int, longest: int, task: str) -> None:
        self.wanted = [len(range(first_row + row, episodes, all_rows)) for row in range(rows)]
        self.episodes: list[dict[str, Any]] = []
        self._number = [first_row + row for row in range(rows)]  # of each row's present episode
        self._all_rows, self._longest, self._task = all_rows, longest, task
        self.restart()

    @property
    def done(self) -> bool:
        return not any(self.wanted)

    @property
    def stuck(self) -> bool:
        """No row plays an episode that is wanted."""
        return not any(wanted and not aside for wanted, aside in zip(self.wanted, self._aside, strict=True))

    def restart(self) -> None:
        """All rows begin a new episode."""
        rows = len(self.wanted)
        self._returns, self._lengths = torch.zeros(rows, dtype=torch.float64), torch.zeros(rows, dtype=torch.int64)
        self._absent = torch.zeros(rows, dtype=torch.int64)  # steps since a row was last active
        self._aside = [False] * rows

    def add(self, step: Step) -> list[int]:
        """Count one step; the rows whose episodes ended or were cut with it. Raises EnvironmentFailure."""
        active = step.active.cpu()
        self._returns += torch.where(active, step.reward.cpu().double(), 0.0)
        self._lengths += active
        self._refuse_absence(active)
        ends = (step.terminated | step.truncated).cpu() & (self._lengths > 0)  # else it never began
        if CONTINUES in step.log:
            ends &= step.log[CONTINUES].cpu() != 1
        over = (ends | (self._lengths >= self._longest)).nonzero().flatten().tolist()
        for row in over:
            if self.wanted[row] and not self._aside[row]:
                self._record(row, step, cut=not ends[row])
            self._aside[row] = not ends[row]
            if ends[row]:
                self._returns[row], self._lengths[row] = 0.0, 0
        return over

    def _refuse_absence(self, active: Tensor) -> None:
        self._absent = (self._absent + 1).masked_fill_(active, 0)
        if self._absent.max() <= self._longest:
            return
        for row, (absent, wanted) in enumerate(zip(self._absent.tolist(), self.wanted, strict=True)):
            if wanted and not self._aside[row] and absent > self._longest:
                raise EnvironmentFailure(
                    f"{self._task}: row {row} was not active in any of {absent} steps of an evaluation: every start of "
                    "its fails at once, or it is absent."
                )

    def _record(self, row: int, step: Step, cut: bool) -> None:
        log = {name: float(values[row]) for name, values in step.log.items() if name != CONTINUES}
        self.episodes.append(
            {
                "number": self._number[row],
                "return": float(self._returns[row]),
                "length": int(self._lengths[row]),
                "cut": cut,
                "log": {name: value for name, value in log.items() if value == value},  # NaN: nothing was said
            }
        )
        self._number[row] += self._all_rows
        self.wanted[row] -= 1


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


def _gathered(scores: Scores, comm: Comm) -> Evaluation:
    parts = comm.gather_bytes(json.dumps(scores.episodes).encode())
    joined = json.dumps([episode for part in parts for episode in json.loads(part)]).encode() if parts else None
    episodes = sorted(json.loads(comm.broadcast_bytes(joined)), key=lambda episode: episode["number"])
    names = dict.fromkeys(name for episode in episodes for name in sorted(episode["log"]))
    return Evaluation(
        returns=tuple(episode["return"] for episode in episodes),
        lengths=tuple(episode["length"] for episode in episodes),
        logs={name: statistics.fmean(ep["log"][name] for ep in episodes if name in ep["log"]) for name in names},
        n_cut=sum(episode["cut"] for episode in episodes),
    )
