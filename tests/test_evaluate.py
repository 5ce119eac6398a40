"""Whole episodes, exactly as many as asked for, whatever their length."""

from __future__ import annotations

import csv
import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ppo_and_friends.errors import EnvironmentFailure, UserError
from ppo_and_friends.evaluate import Evaluation, evaluate
from ppo_and_friends.types import ActionSpace, GroupSpec, Obs, Spec, Step, TensorSpec


class Countdown:
    """Row i's episodes have `lengths[i]` steps (0: endless) of reward 1; its observation is its clock."""

    def __init__(self, lengths: list[int], life: int = 0) -> None:
        rows = len(lengths)
        part = (TensorSpec((1,)),)
        self.spec = Spec((GroupSpec(rows, part, part, ActionSpace("discrete", (2,))),), "Countdown", "toy")
        self.lengths, self.life = torch.tensor(lengths), life
        self.active = torch.ones(rows, dtype=torch.bool)
        self.clock = torch.zeros(rows, dtype=torch.int64)
        self.seeds: list[int] = []
        self.frames = self.steps = 0

    def _obs(self) -> Obs:
        observed = self.clock[:, None].float()
        return Obs(observed, observed, torch.zeros(len(self.clock), 0, dtype=torch.bool))

    def reset(self, seed: int) -> tuple[Obs, ...]:
        self.seeds.append(seed)
        self.clock.zero_()
        return (self._obs(),)

    def step(self, actions: tuple[Tensor, ...]) -> tuple[Step, ...]:
        assert actions[0].shape == (len(self.clock), 1)
        self.steps += 1
        self.clock += 1
        final = self._obs()
        ended = self.clock == self.lengths
        lost = ~ended & (self.clock == self.life)  # a lost life: an end for the learner, but the game goes on
        success = torch.where(ended & (self.lengths > 2), (self.lengths % 2).float(), torch.nan)
        log = {"is_success": success, "episode_continues": lost.float(), "clock": self.clock.float()}
        self.clock[ended] = 0
        reward = torch.ones(len(ended))
        return (Step(self._obs(), final, reward, ended & True, lost, self.active, log),)

    def state(self) -> dict[str, Any] | None:
        return None

    def load_state(self, state: dict[str, Any]) -> None: ...

    def frame(self, row: int) -> np.ndarray:
        assert row == 0
        self.frames += 1
        return np.full((2, 2, 3), int(self.clock[0]), np.uint8)

    def close(self) -> None: ...


class Recorder:
    """A policy that checks that `first` is true exactly where the clock begins."""

    def __init__(self, starts_at: tuple[int, ...] = (0,)) -> None:
        self.starts_at = starts_at

    def start(self, rows: int) -> Tensor:
        return torch.zeros(rows)

    def act(self, obs: Obs, state: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
        assert isinstance(obs.actor, Tensor)
        assert not torch.is_grad_enabled()
        assert first.tolist() == [int(clock) in self.starts_at for clock in obs.actor[:, 0]]
        return torch.zeros(len(first), 1, dtype=torch.int64), state + 1


class Ranks:
    """Ranks as threads; counts collectives."""

    def __init__(self, size: int) -> None:
        self.size, self.barrier, self.data = size, threading.Barrier(size), [b""] * size


class ThreadComm:
    def __init__(self, ranks: Ranks, rank: int) -> None:
        self.ranks, self.rank, self.size, self.calls = ranks, rank, ranks.size, 0

    def gather_bytes(self, data: bytes) -> list[bytes] | None:
        self.calls += 1
        self.ranks.data[self.rank] = data
        self.ranks.barrier.wait(10)
        gathered = list(self.ranks.data)
        self.ranks.barrier.wait(10)
        return gathered if self.rank == 0 else None

    def broadcast_bytes(self, data: bytes | None) -> bytes:
        self.calls += 1
        if self.rank == 0:
            assert data is not None
            self.ranks.data[0] = data
        self.ranks.barrier.wait(10)
        return self.ranks.data[0]


def play(vec_env: Any, episodes: int, longest: int = 1000, sinks: Any = (), policy: Any = None) -> Evaluation:
    comm: Any = ThreadComm(Ranks(1), 0)
    return evaluate(vec_env, policy or Recorder(), episodes, 5, comm, longest, sinks)


def test_quota_of_a_row_does_not_depend_on_its_lengths() -> None:
    evaluation = play(Countdown([2, 30, 7]), 7)
    assert evaluation.lengths == (2, 30, 7, 2, 30, 7, 2)
    assert evaluation.returns == evaluation.lengths
    assert evaluation.n_cut == 0


@pytest.mark.parametrize("episodes", [1, 2, 3, 8])
def test_any_number_of_episodes(episodes: int) -> None:
    assert play(Countdown([3, 1, 2]), episodes).lengths == ((3, 1, 2) * 3)[:episodes]


class Counting(Recorder):
    """Whose state is how often it acted since its row's episode began."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[Tensor, Tensor]] = []

    def start(self, rows: int) -> Tensor:
        return torch.zeros(rows, 1)

    def act(self, obs: Obs, state: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
        state = state * ~first.unsqueeze(1)
        self.seen.append((state.clone(), obs.actor))
        return torch.zeros(len(state), 1, dtype=torch.int64), state + 1


def test_memory_goes_on_from_step_to_step_and_ends_with_the_episode() -> None:
    policy = Counting()
    play(Countdown([2, 5, 3]), 6, policy=policy)
    assert len(policy.seen) == 10 and all(torch.equal(state, clock) for state, clock in policy.seen)


def test_stops_as_soon_as_the_quota_is_played() -> None:
    vec_env = Countdown([2, 30, 7])
    play(vec_env, 1)
    assert vec_env.steps == 2


@pytest.mark.parametrize("episodes", [1, 3, 11])
def test_ranks_share_the_episodes_and_agree(episodes: int) -> None:
    ranks, lengths = Ranks(3), [[2, 9], [4, 1], [3, 5]]
    comms = [ThreadComm(ranks, rank) for rank in range(3)]
    found: dict[int, Evaluation] = {}
    environments = [Countdown(own) for own in lengths]

    def work(rank: int) -> None:
        comm: Any = comms[rank]
        found[rank] = evaluate(environments[rank], Recorder(), episodes, 5, comm, 1000)

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found[0].lengths == ((2, 9, 4, 1, 3, 5) * 2)[:episodes]
    assert found[0] == found[1] == found[2]
    assert {comm.calls for comm in comms} == {2}
    seeds = [seed for environment in environments for seed in environment.seeds]
    assert len(set(seeds)) == len(seeds)


def test_endless_episodes_are_cut_and_said() -> None:
    vec_env = Countdown([0, 3])
    evaluation = play(vec_env, 5, longest=10)
    assert evaluation.lengths == (10, 3, 10, 3, 10)
    assert evaluation.n_cut == 3
    assert "3 of them had not ended after 10 steps" in evaluation.report()
    assert len(set(vec_env.seeds)) == 3  # each cut episode was followed by a fresh one


def test_a_cut_episode_that_ends_later_is_not_counted_twice() -> None:
    evaluation = play(Countdown([12, 40]), 4, longest=20)
    assert evaluation.lengths == (12, 20, 12, 20)
    assert play(Countdown([25, 15]), 4, longest=20).lengths == (20, 15, 20, 15)


def test_an_episode_of_exactly_the_longest_length_is_not_cut() -> None:
    assert play(Countdown([20]), 2, longest=20).n_cut == 0


def test_a_lost_life_is_no_end() -> None:
    evaluation = play(Countdown([6, 5], life=2), 4, policy=Recorder((0, 2)))
    assert evaluation.lengths == (6, 5, 6, 5)


def test_logs_of_last_steps() -> None:
    logs = play(Countdown([3, 4, 2]), 4).logs
    assert logs["is_success"] == pytest.approx(2 / 3)  # the episode of two steps says nothing of it
    assert "episode_continues" not in logs


class Indifferent(Recorder):
    """A policy for rows that come and go."""

    def act(self, obs: Obs, state: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros(len(first), 1, dtype=torch.int64), state


def test_inactive_rows_earn_nothing() -> None:
    class Fading(Countdown):
        """Row 1 is active in its first two steps alone."""

        def step(self, actions: tuple[Tensor, ...]) -> tuple[Step, ...]:
            self.active = (self.clock < 2) | torch.tensor([True, False])
            return super().step(actions)

    evaluation = play(Fading([3, 4]), 4, policy=Indifferent())
    assert evaluation.returns == evaluation.lengths == (3, 2, 3, 2)


class Failing(Countdown):
    """Starts of row 0 fail in their first step, `failures` of them before each one that does not."""

    def __init__(self, lengths: list[int], failures: int) -> None:
        super().__init__(lengths)
        self.failures, self.failed = failures, 0

    def step(self, actions: tuple[Tensor, ...]) -> tuple[Step, ...]:
        assert self.steps < 1000, "it goes on for ever"
        fails = int(self.clock[0]) == 0 and self.failed < self.failures
        self.failed = self.failed + 1 if fails else 0 if int(self.clock[0]) == 0 else self.failed
        (step,) = super().step(actions)
        if not fails:
            return (step,)
        self.clock[0] = 0
        lost = torch.arange(len(self.clock)) == 0
        return (step._replace(obs=self._obs(), terminated=step.terminated | lost, active=~lost),)


def test_a_start_that_fails_is_no_episode() -> None:
    sink = Sink(1)
    evaluation = play(Failing([3, 4], failures=2), 4, policy=Indifferent(), sinks=(sink,))
    assert evaluation.returns == evaluation.lengths == (3, 4, 3, 4)
    assert sink.clocks == [0, 0, 0, 1, 2]  # and the film of the first goes on


def test_a_row_that_always_fails_ends_the_evaluation() -> None:
    vec_env = Failing([3, 4], failures=10**9)
    with pytest.raises(EnvironmentFailure, match="Countdown: row 0 was not active in any of 21 steps"):
        play(vec_env, 2, longest=20, policy=Indifferent())
    assert play(Failing([3, 4], failures=20), 2, longest=20, policy=Indifferent()).lengths == (3, 4)


class Sink:
    def __init__(self, episodes: int) -> None:
        self.left, self.clocks = episodes, list[int]()

    def wants_frame(self) -> bool:
        return self.left > 0

    def show(self, frame: np.ndarray) -> None:
        self.clocks.append(int(frame[0, 0, 0]))

    def end_episode(self) -> None:
        self.left -= 1


def test_frames_of_row_0_as_long_as_somebody_wants_them() -> None:
    one, all_ = Sink(1), Sink(99)
    vec_env = Countdown([3, 50])
    play(vec_env, 3, sinks=(one, all_))
    assert one.clocks == [0, 1, 2]
    assert all_.clocks == [0, 1, 2, 0, 1, 2]
    vec_env = Countdown([3, 50])
    play(vec_env, 3, sinks=(Sink(1),))
    assert vec_env.frames == 3


def test_no_picture_is_one_sentence() -> None:
    class Blind(Countdown):
        def frame(self, row: int) -> np.ndarray:
            raise RuntimeError("no GL")

    with pytest.raises(UserError, match=r"No picture of Countdown can be drawn here \(RuntimeError: no GL\)"):
        play(Blind([3]), 1, sinks=(Sink(1),))


def test_statistics_report_and_files(tmp_path: Path) -> None:
    evaluation = Evaluation((1.0, 4.0), (10, 20), {"is_success": 0.5})
    assert (evaluation.mean, evaluation.std, evaluation.min, evaluation.max) == (2.5, 1.5, 1, 4)
    assert evaluation.report().splitlines() == [
        "2 episodes",
        "         mean   std    min    max",
        "return   2.50  1.50   1.00   4.00",
        "length  15.00  5.00  10.00  20.00",
        "What the environment reported with the last step, mean over episodes:",
        "is_success: 0.5",
    ]
    assert "last step" not in Evaluation((1.0,), (10,)).report()
    table, summary = evaluation.save(tmp_path / "new")
    assert list(csv.reader(table.open())) == [["episode", "return", "length"], ["0", "1.0", "10"], ["1", "4.0", "20"]]
    assert json.loads(summary.read_text())["mean"] == 2.5
    assert evaluation.save(tmp_path / "new")[0].name == "test_scores-2.csv"
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        evaluation.save(tmp_path / "file")
