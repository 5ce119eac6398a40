"""Whole iterations: the ratio of the first minibatch, exact resume, soft resets, memory."""

from __future__ import annotations

import gc
import io
import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from toys import BODY, BOX, DISCRETE, MULTI_BINARY, MULTI_DISCRETE, NET, Toy, experiment

from ppo_and_friends import objective
from ppo_and_friends.addons.icm import ICM
from ppo_and_friends.addons.rnd import RND
from ppo_and_friends.config import EvaluationConfig, Experiment, NetConfig, RunConfig
from ppo_and_friends.errors import UserError
from ppo_and_friends.launch import THREAD_VARIABLES
from ppo_and_friends.ppo import PPO
from ppo_and_friends.schedules import constant, linear
from ppo_and_friends.vector.gym_vec import GymEnv

GSDE, SQUASH = replace(NET, distribution="gsde"), replace(NET, squash=True)
STATE_STD = replace(NET, state_dependent_std=True)
GRU = replace(NET, core="gru", core_size=8, chunk_length=4)
LSTM = replace(GRU, core="lstm", core_layers=2, chunk_length=8)
ALL_ON = {"normalize_values": True, "reward_clip": (-1.0, 1.0), "reward_scale": 2.0, "reward_shift": -1.0}
ALL_OFF = {"normalize_observations": False, "normalize_rewards": False, "normalize_advantages": False}
CASES: dict[str, tuple[Toy, NetConfig, dict[str, Any]]] = {
    "discrete": (Toy(DISCRETE), NET, {}),
    "discrete, masked": (Toy(DISCRETE, masked=True), NET, ALL_ON),
    "multi_discrete": (Toy(MULTI_DISCRETE), NET, ALL_OFF),
    "multi_discrete, masked": (Toy(MULTI_DISCRETE, masked=True), NET, ALL_ON),
    "multi_binary": (Toy(MULTI_BINARY, masked=True), replace(NET, shared=True), {}),
    "box": (Toy(BOX), NET, ALL_ON),
    "box, squash": (Toy(BOX), SQUASH, ALL_OFF),
    "box, std of the state": (Toy(BOX), STATE_STD, ALL_ON),
    "gsde": (Toy(BOX), GSDE, ALL_ON),
    "gsde, squash, shared": (Toy(BOX), replace(GSDE, squash=True, shared=True), {}),
    "shared": (Toy(BOX), replace(NET, shared=True), ALL_ON),
    "asymmetric": (Toy(BOX, asymmetric=True), NET, ALL_ON),
    "images": (Toy(DISCRETE, images=True), NET, ALL_ON),
    "images, shared": (Toy(BOX, images=True, masked=False), replace(NET, shared=True), {}),
    "images, asymmetric": (Toy(MULTI_DISCRETE, images=True, asymmetric=True, masked=True), NET, ALL_ON),
    "ICM": (Toy(MULTI_BINARY, masked=True), NET, {"addons": (ICM(),)}),
    "RND": (Toy(BOX, images=True), NET, {"addons": (RND(),)}),
    "absent rows": (Toy(DISCRETE, absent=0.3), NET, ALL_ON),
    "hard resets": (Toy(BOX), NET, {"soft_resets": False, "max_ts_per_ep": 5}),
    "gru": (Toy(DISCRETE, masked=True, absent=0.1), GRU, ALL_ON),
    "gru, images, asymmetric": (Toy(BOX, images=True, asymmetric=True), GRU, ALL_ON),
    "gru, before the body": (Toy(BOX), replace(GRU, core_place="before", burn_in=1), ALL_OFF),
    "gru, critic without": (Toy(BOX), replace(GRU, critic_core="identity"), {"soft_resets": False}),
    "gru, gsde, never forgets": (
        Toy(BOX),
        replace(GSDE, core="gru", reset_state_on_done=False),
        {"soft_resets": False},
    ),
    "lstm": (Toy(BOX, asymmetric=True), LSTM, ALL_ON),
    "lstm, shared": (Toy(MULTI_DISCRETE), replace(LSTM, shared=True), {"max_ts_per_ep": 5}),
}


@pytest.mark.parametrize("case", CASES)
def test_the_ratio_of_the_first_minibatch_is_one(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    toy, net, settings = CASES[case]
    gaps: list[float] = []
    original = objective.ppo_losses

    def spy(log_probs: Tensor, old: Tensor, *rest: Any, **more: Any) -> Any:
        gaps.append(float((log_probs - old).detach().abs().max()))
        return original(log_probs, old, *rest, **more)

    monkeypatch.setattr(objective, "ppo_losses", spy)
    ppo = PPO(experiment(toy, net, **{"lr": constant(0.01), **settings}))
    for _ in range(4):
        gaps.clear()
        ppo.iterate()
        assert len(gaps) == 6
        assert gaps[0] < 2e-6, "before the first step the policy is the one that acted"
        assert gaps[1] > 1e-4, "and a step changes it"


RESUMABLE = {
    "toy": experiment(Toy(BOX, absent=0.1), GSDE, normalize_values=True, target_kl=0.01),
    "toy, hard resets": experiment(Toy(DISCRETE, masked=True), soft_resets=False, max_ts_per_ep=7),
    "bonuses": experiment(Toy(BOX, absent=0.1), addons=(ICM(weight=linear(1.0, 0.0), lr=0.01), RND())),
    "CartPole": experiment(GymEnv("CartPole-v1"), lr=constant(0.01)),
    "gru": experiment(Toy(BOX, absent=0.1), GRU, normalize_values=True),
    "lstm, shared": experiment(Toy(DISCRETE), replace(LSTM, shared=True, burn_in=2)),
    "Pendulum": experiment(GymEnv("Pendulum-v1"), replace(GSDE, sde_sample_every=5), normalize_values=True),
}


def test_what_a_recorded_rollout_cannot_tell_is_counted_and_timed_outside() -> None:
    """A replay runs none of the collector's Python."""
    ppo = PPO(experiment(Toy(BOX)))
    eager = ppo.iterate()
    assert {"seconds_acting", "seconds_targets", "seconds_learning"} < set(eager)
    taken, rollouts = ppo.collector.taken, ppo.collect()
    ppo.collect = lambda: rollouts
    replayed = ppo.iterate()
    assert [name for name in replayed if name.startswith("seconds")] == ["seconds_iterating"]
    assert ppo.collector.taken == taken + ppo.steps


def saved(ppo: PPO) -> tuple[dict[str, Any], dict[str, Any]]:
    """Both states through a file, loaded as safely as a user's are."""
    file = io.BytesIO()
    torch.save((ppo.shared_state(), ppo.own_state()), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def assert_same(one: Any, other: Any, where: str = "state") -> None:
    assert type(one) is type(other), where
    if isinstance(one, dict):
        assert list(one) == list(other), where
        for key in one:
            assert_same(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for index, pair in enumerate(zip(one, other, strict=True)):
            assert_same(*pair, f"{where}[{index}]")
    elif isinstance(one, Tensor):
        assert torch.equal(one, other), where
    else:
        assert one == other or (one != one and other != other), where


def numbers(metrics: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if not name.startswith("seconds")}


@pytest.mark.parametrize("case", RESUMABLE)
def test_resume_is_exact(case: str) -> None:
    k, whole = 3, PPO(RESUMABLE[case])
    expected = [numbers(whole.iterate()) for _ in range(2 * k)][k:]
    first = PPO(RESUMABLE[case])
    for _ in range(k):
        first.iterate()
    shared, own = saved(first)
    first.iterate()
    second = PPO(RESUMABLE[case])
    torch.manual_seed(999)
    second.load_shared_state(shared)
    assert second.load_own_state(own)
    got = [numbers(second.iterate()) for _ in range(k)]
    assert_same(got, expected)
    assert_same(saved(second), saved(whole))


def test_a_state_once_taken_is_not_changed_by_more_training() -> None:
    ppo = PPO(RESUMABLE["toy"])
    ppo.iterate()
    states, copies = (ppo.shared_state(), ppo.own_state()), saved(ppo)
    ppo.iterate()
    for _ in range(2):
        assert_same(states[0], copies[0])
        assert_same(states[1]["groups"], copies[1]["groups"])
        assert_same(states[1]["collector"], copies[1]["collector"])


def test_an_environment_without_a_state_starts_anew_and_says_so() -> None:
    pytest.importorskip("Box2D")
    config = experiment(GymEnv("LunarLander-v3"), rows=2)
    ppo = PPO(config)
    ppo.iterate()
    shared, own = saved(ppo)
    other = PPO(config)
    other.load_shared_state(shared)
    assert not other.load_own_state(own)
    assert other.iterate()["iteration"] == 2 and other.iterate()["timesteps"] == ppo.timesteps + 2 * 32


@pytest.mark.parametrize("toy", [Toy(DISCRETE, masked=True), Toy(BOX, images=True, asymmetric=True)])
@pytest.mark.parametrize("terminates", [0.0, 0.5])
def test_a_rollout_goes_on_where_the_last_one_ended(toy: Toy, terminates: float) -> None:
    ppo = PPO(experiment(replace(toy, terminates=terminates, truncates=0.0)))
    (before,) = ppo.collector.collect()
    last = [part[-1].clone() for part in parts(before)]
    age, ended = before.age[-1].clone(), before.first[-1].clone()
    (after,) = ppo.collector.collect()
    assert all(torch.equal(x, part[0]) for x, part in zip(last, parts(after), strict=True))
    assert torch.equal(after.first[0], ended) and bool(ended.any()) == (terminates > 0)
    assert torch.equal(after.age[0], torch.where(ended, 0, age + 1))
    assert ppo.env.resets == 1 and not after.restarted  # type: ignore[attr-defined]


def parts(rollout: Any) -> list[Tensor]:
    obs = rollout.obs
    trees = (obs.actor, obs.critic, obs.mask)
    return [part for tree in trees for part in (tree if isinstance(tree, tuple) else (tree,))]


def test_hard_resets_start_every_row_anew_and_forget_what_was_under_way() -> None:
    toy = Toy(terminates=0.0, truncates=0.0)
    ppo = PPO(experiment(toy, soft_resets=False))
    first = ppo.collector.collect()[0].obs.actor
    assert isinstance(first, Tensor)
    start = first[0].clone()
    for number in range(2, 5):
        (rollout,) = ppo.collector.collect()
        assert ppo.env.resets == number and rollout.restarted  # type: ignore[attr-defined]
        assert bool(rollout.first[0].all()) and not rollout.age[0].any()
        assert isinstance(rollout.obs.actor, Tensor) and not torch.equal(rollout.obs.actor[0], start)
        ppo.groups[0].prepare(rollout, ppo.progress)
        assert bool((ppo.groups[0].tracker.lengths == 16).all()), "steps of an episode that was thrown away"


def test_episodes_of_a_run_are_counted_whole_and_unshaped() -> None:
    ppo = PPO(experiment(GymEnv("CartPole-v1"), reward_scale=5.0, reward_shift=2.0, max_ts_per_ep=4, steps_per_row=64))
    metrics = [ppo.iterate() for _ in range(3)][-1]
    assert metrics["episodes"] > 5 and metrics["mean_return"] == metrics["mean_length"] >= 8
    assert metrics["timesteps"] == 4 * 64 * 4, "the rollout that seeds the moments counts"


def test_a_seed_decides_everything_and_another_seed_decides_otherwise() -> None:
    from ppo_and_friends.config import RunConfig

    runs = [PPO(RESUMABLE["toy"], RunConfig(random_seed=seed)) for seed in (3, 3, 4)]
    results = [[numbers(ppo.iterate()) for _ in range(2)] for ppo in runs]
    assert results[0] == results[1] != results[2]


def live() -> tuple[int, int]:
    """(live tensors, bytes of this process in memory)."""
    gc.collect()
    tensors = sum(1 for item in gc.get_objects() if type(item) is Tensor)
    return tensors, int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")
@pytest.mark.parametrize(("toy", "last"), [(Toy(BOX), 80), (Toy(DISCRETE, images=True, masked=True), 40)])
def test_memory_does_not_grow(toy: Toy, last: int) -> None:
    ppo = PPO(experiment(toy, epochs=1, steps_per_row=8, target_kl=0.01, kl_reference="previous_visit"))

    def go(iterations: int) -> tuple[int, int]:
        for _ in range(iterations):
            ppo.iterate()
        return live()

    before, after = go(20), go(last - 20)
    assert after[0] <= before[0] * 1.02 and after[1] <= before[1] * 1.02


def test_a_small_problem_is_learned() -> None:
    body = replace(BODY, hidden=(16,))
    settings = {"lr": constant(0.01), "steps_per_row": 64, "gamma": 0.0, "normalize_rewards": False}
    config: Experiment = experiment(Toy(terminates=0.1), NetConfig(body, body), **settings)
    ppo = PPO(config)
    returns = [ppo.iterate() for _ in range(40)]
    assert math.isfinite(returns[-1]["kl"])
    # a step's reward is 1 + tanh(action mean * x): about 1.4 at best, and 1 for any policy that ignores x
    assert returns[-1]["mean_return"] / returns[-1]["mean_length"] > 1.25


def test_an_asymmetric_critic_cannot_share_a_body() -> None:
    with pytest.raises(UserError, match="net.shared"):
        PPO(experiment(Toy(BOX, asymmetric=True), replace(NET, shared=True)))


def test_values_of_observations_as_they_come_seed_nothing() -> None:
    """An untrained critic makes thousands of thousands, which would dominate its own aim for long."""
    loud = Toy(BOX, scale=1e4)
    ppo = PPO(experiment(loud, NET, normalize_values=True))
    ppo._seed_moments()
    group = ppo.groups[0]
    assert float(group.net.value_norm.count) == 0
    assert all(float(moments.count) == ppo.timesteps > 0 for moments in group.seeded_moments())
    ppo.iterate()
    assert float(group.net.value_norm.mean.abs()) < 100


def test_a_run_from_python_computes_in_one_thread_and_leaves_the_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[int] = []
    before = torch.get_num_threads()
    for variable in THREAD_VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    torch.set_num_threads(2)
    try:
        made = PPO(experiment(Toy(BOX)))
        made.learn(lambda ppo, metrics: counts.append(torch.get_num_threads()) or True)
        assert counts == [1] and torch.get_num_threads() == 2
        monkeypatch.setenv("OMP_NUM_THREADS", "2")
        made.learn(lambda ppo, metrics: counts.append(torch.get_num_threads()) or True)
        assert counts[1] == 2
    finally:
        torch.set_num_threads(before)


def test_the_command_that_tests_samples_where_evaluations_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sampled = EvaluationConfig(every=0, sample=True)
    PPO(replace(experiment(Toy(BOX)), evaluation=sampled), RunConfig(state_path=str(tmp_path))).learn()
    assert capsys.readouterr().out.splitlines()[-1].endswith("--num_test_runs 20 --test_explore")


def test_the_global_generators_of_a_caller_go_on() -> None:
    random.seed(3)
    np.random.seed(3)
    expected = random.Random(3).random(), np.random.RandomState(3).rand()
    PPO(experiment(Toy(BOX), NET))
    assert (random.random(), np.random.rand()) == expected


def test_what_is_loaded_goes_on_in_other_episodes(tmp_path: Path) -> None:
    config = experiment(Toy(BOX))
    ppo = PPO(config)
    began = ppo.collector.seed, ppo.generator.get_state()
    ppo.iterate()
    ppo.save(tmp_path / "state.pt")
    loaded = PPO.load(tmp_path / "state.pt", config)
    assert loaded.iteration == 1 and loaded.collector.seed != began[0]
    assert not torch.equal(loaded.generator.get_state(), began[1])
