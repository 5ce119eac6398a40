"""What the critic of several agents sees: of those that are there, of the dead, of pictures."""

from __future__ import annotations

import pytest
import torch
from agent_toys import DEATHS, FOREVER, Blind, Crew, FilmedCrew, crew, take
from toys import experiment

from ppo_and_friends.ppo import PPO
from ppo_and_friends.types import leaves
from ppo_and_friends.vector.multi_agent import MultiAgentEnv


@pytest.mark.parametrize(
    ("critic", "shape", "seen"),
    [
        ("joined", 6, [[0, 2, 0, 0, 0, 0]] * 3),
        ("state", 2, [[2, 1]] * 3),
        (
            "agent_state",
            11,
            [[0, 2, 0, 0, 0, 0, 0, 2, 1, 0, 0], [0, 2, 0, 0, 0, 0, 0, 0, 0, 1, 0], [0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 1]],
        ),
    ],
)
def test_what_the_critic_sees(critic: str, shape: int, seen: list[list[int]]) -> None:
    """After the step in which bob dies; and the last of it, before."""
    env = crew(DEATHS, critic=critic, agent_ids=True).make(2)
    (group,) = env.spec.groups
    assert group.critic[0].shape == (shape,) and not group.symmetric and group.actor[0].shape == (5,)
    (obs,) = env.reset(0)
    assert obs.actor.tolist() == [[0, 0, 1, 0, 0], [1, 0, 0, 1, 0], [0, 0, 0, 0, 1]] * 2
    take(env)
    step = take(env)
    assert step.obs.critic.tolist() == seen * 2
    before = {"joined": [0, 2, 1, 2, 0, 0], "state": [2, 1], "agent_state": [0, 2, 1, 2, 0, 0, 1, 2, 0, 1, 0]}
    assert step.final.critic[1].tolist() == before[critic]
    for _ in range(4):
        step = take(env)
    assert step.final.critic[0, :2].tolist() == ([6, 0] if critic == "state" else [0, 6])
    assert step.obs.critic[0, :4].tolist() == ([0, 2] if critic == "state" else [0, 0, 1, 0])


@pytest.mark.parametrize("ids", [False, True])
@pytest.mark.parametrize("kind", [FilmedCrew, Blind])
@pytest.mark.parametrize("critic", ["joined", "agent_state"])
def test_pictures_are_joined_as_parts_of_their_own(critic: str, kind: type[Crew], ids: bool) -> None:
    presence = {"ann": (0, FOREVER), "bob": (0, FOREVER), "cid": (0, FOREVER)}
    env = MultiAgentEnv("Crew", {"presence": presence}, critic, ids, factory=kind).make(2)  # type: ignore[arg-type]
    own_too, columns = critic == "agent_state", kind is FilmedCrew
    env.reset(0)
    *vector, one, two, three = leaves(take(env).obs.critic)[: 3 + (columns or own_too)]
    assert [picture[:, 0, 0, 0].tolist() for picture in (one, two, three)] == [[1] * 6, [11] * 6, [21] * 6]
    pictures = [part.name for part in env.spec.groups[0].critic if len(part.shape) == 3]
    whose = ["ann", "bob", "cid"] + ["itself"] * own_too
    assert pictures == [f"{'eye' if columns else 'observation'} of {who}" for who in whose]
    assert len(vector) == (columns or own_too)
    if columns:
        assert vector[0][4, :6].tolist() == [0, 1, 1, 1, 2, 1]
    if own_too:
        assert vector[0][:, -3:].tolist() == torch.eye(3).repeat(2, 1).tolist()
        assert leaves(take(env).obs.critic)[-1][:, 0, 0, 0].tolist() == [2, 12, 22] * 2
    PPO(experiment(MultiAgentEnv("Crew", critic=critic, agent_ids=ids, factory=kind))).iterate()  # type: ignore[arg-type]


@pytest.mark.parametrize("critic", ["joined", "agent_state"])
def test_who_goes_on_was_led_to_a_world_without_the_dead(critic: str) -> None:
    """bob dies and cid's time is up in the second step, dan's in the third, where all else ends too."""
    presence = {"ann": (0, FOREVER), "bob": (0, 2), "cid": (0, 2), "dan": (0, 3)}
    env = crew(presence, critic=critic, length=3, expire=("cid", "dan")).make(2)
    env.reset(0)
    take(env)
    step = take(env)
    everyone, left = [0, 2, 1, 2, 2, 2, 3, 2], [0, 2, 0, 0, 0, 0, 3, 2]
    seen = step.final.critic[:, :8].tolist()  # type: ignore[call-overload]
    assert step.truncated.tolist() == [False, False, True, False] * 2
    assert seen == [left, everyone, everyone, left] * 2
    on = [0, 3, 4, 7]
    assert torch.equal(step.final.critic[on], step.obs.critic[on])  # type: ignore[index, arg-type]
    step = take(env)
    assert step.final.critic[:, :8].tolist() == [[0, 3, 0, 0, 0, 0, 3, 3]] * 8, "all end: dan is seen"  # type: ignore[call-overload]
    assert step.obs.critic[:, :8].tolist() == [[0, 0, 1, 0, 2, 0, 3, 0]] * 8  # type: ignore[call-overload]
