"""Environments that hide something: what they show, and what they ask for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from environments.partial import RecallCue, cart_pole_without_velocities, pendulum_without_velocity


@pytest.mark.parametrize(
    ("factory", "whole", "columns"),
    [
        (cart_pole_without_velocities, "CartPole-v1", [0, 2]),
        (pendulum_without_velocity, "Pendulum-v1", [0, 1]),
    ],
)
def test_velocities_are_hidden_and_nothing_else_changes(
    factory: Callable[..., Any], whole: str, columns: list[int]
) -> None:
    hidden, shown = factory(), gymnasium.make(whole)
    assert hidden.spec is not None and hidden.spec.max_episode_steps == shown.spec.max_episode_steps  # type: ignore[union-attr]
    seen, everything = hidden.reset(seed=3)[0], shown.reset(seed=3)[0]
    hidden.action_space.seed(0)
    for _ in range(8):
        assert hidden.observation_space.contains(seen) and np.array_equal(seen, everything[columns])
        action = hidden.action_space.sample()
        (seen, *facts), (everything, *same) = hidden.step(action), shown.step(action)
        assert facts == same


def test_a_cue_is_shown_once_asked_for_at_the_end_and_only_its_name_is_rewarded() -> None:
    env = RecallCue(cues=3, delay=5, render_mode="rgb_array")
    check_env(env, skip_render_check=True)
    cues, totals = set(), []
    for episode in range(20):
        observation, _ = env.reset(seed=episode)
        cue, total, ended = int(observation.argmax()), 0.0, False
        assert observation.tolist() == [float(column == cue) for column in range(4)]
        cues.add(cue)
        for step in range(6):
            assert not ended and env.render().any() == (step in (0, 5))
            answer = cue if step < 5 or episode % 2 else (cue + 1) % 3
            observation, reward, ended, truncated, _ = env.step(np.int64(answer))
            total += reward
            assert observation.tolist() == [0, 0, 0, float(step == 4)] and not truncated
        assert ended
        totals.append(total)
    assert cues == {0, 1, 2} and totals == [0.0, 1.0] * 10
