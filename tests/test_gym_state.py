"""The exact state of Gymnasium environments, or none."""

from __future__ import annotations

import io

import gymnasium
import numpy as np
import pytest
import torch
from gym_toys import Echo, Toy, assert_same, take

from ppo_and_friends.errors import UserError
from ppo_and_friends.vector.gym_vec import GymEnv

CLASSIC = ["CartPole-v1", "Pendulum-v1", "Acrobot-v1", "MountainCar-v0", "MountainCarContinuous-v0"]


@pytest.mark.parametrize("name", [*CLASSIC, "FrozenLake-v1", "Taxi-v4"])
def test_exact_state(name: str) -> None:
    limit = 40  # so that time limits and resets lie on both sides of the save
    env, other = (GymEnv(name, max_episode_steps=limit).make(2) for _ in range(2))
    env.reset(5)
    other.reset(6)
    space = gymnasium.make(name).action_space
    space.seed(0)
    draws = [torch.from_numpy(np.stack([np.atleast_1d(space.sample()) for _ in range(2)])) for _ in range(150)]
    for actions in draws[:50]:
        env.step((actions,))
    stored = io.BytesIO()
    torch.save(env.state(), stored)
    stored.seek(0)
    other.load_state(torch.load(stored, weights_only=True))
    cuts = 0
    for actions in draws[50:]:
        one, two = env.step((actions,))[0], other.step((actions,))[0]
        assert_same(one, two)
        cuts += int((one.terminated | one.truncated).sum())
    assert cuts > 0


class Sampling(Echo):
    """Draws its observations from its own space, whose generator is state too."""

    def step(self, action):
        return self.observation_space.sample(), 0.0, False, False, {}


def test_generators_of_spaces_are_state() -> None:
    env, other = (GymEnv("Sampling", factory=Sampling).make(1) for _ in range(2))
    env.reset(0)
    other.reset(0)
    take(env, 0)
    state = env.state()
    assert state is not None
    other.load_state(state)
    for _ in range(3):
        assert_same(take(env, 0), take(other, 0))


class Restless(Toy):
    """Keeps something that cannot be saved, or that is held in two places."""

    def __init__(self, kept) -> None:
        super().__init__()
        self.kept = kept


def test_no_state_rather_than_a_wrong_one() -> None:
    array = np.zeros(4)
    for kept in (object(), [array, array], (array[:2], array[2:]), lambda: 0, {"set": {"a"}}):
        assert GymEnv("Restless", {"kept": kept}, factory=Restless).make(1).state() is None
    for kept in ([array, array.copy()], {"a": (1, np.float32(2))}, np.random.default_rng(0), np.array(["x"])):
        assert GymEnv("Restless", {"kept": kept}, factory=Restless).make(1).state() is not None
    pytest.importorskip("Box2D")
    env = GymEnv("LunarLander-v3").make(1)
    env.reset(0)
    assert env.state() is None
    state = GymEnv("CartPole-v1").make(2).state()
    assert state is not None
    with pytest.raises(UserError, match="2 rows of CartPole-v1, not 1"):
        GymEnv("CartPole-v1").make(1).load_state(state)
