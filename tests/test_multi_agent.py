"""Agents as rows: who is active, what the critic sees, and what is refused."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from agent_toys import DEATHS, FOREVER, Crew, Pair, crew, take
from torch import Tensor
from toys import BOX, Toy, experiment

from ppo_and_friends.addons.team_reward import TeamReward
from ppo_and_friends.comm import SoloComm
from ppo_and_friends.config import RunConfig
from ppo_and_friends.errors import EnvironmentFailure, UserError
from ppo_and_friends.evaluate import evaluate
from ppo_and_friends.ppo import PPO
from ppo_and_friends.types import Step
from ppo_and_friends.vector.gym_vec import GymEnv
from ppo_and_friends.vector.multi_agent import MultiAgentEnv


def listed(*tensors: Any) -> list[Any]:
    return [tensor.tolist() for tensor in tensors]


def test_agents_are_rows_of_several_environments() -> None:
    env = crew().make(2)
    (group,) = env.spec.groups
    assert (group.rows, group.agents, group.environments) == (4, ("ann", "bob"), 2)
    (obs,) = env.reset(0)
    assert obs.actor.tolist() == [[0, 0], [1, 0]] * 2 and obs.critic is obs.actor
    step = take(env, 0, 1, 2, 1)
    assert step.reward.tolist() == [1, 11, 1, 11] and step.obs.actor.tolist() == [[0, 1], [1, 1]] * 2
    assert step.log["luck"].tolist() == [0.5] * 4 and bool(step.active.all())
    first, second = env._backend.envs  # type: ignore[attr-defined]
    assert (first.taken, second.taken) == ([{"ann": 0, "bob": 1}], [{"ann": 2, "bob": 1}])
    assert len({first.seeds[-1], second.seeds[-1]}) == 2
    assert env.spec.steps_per_second == 7 and env.frame(1).tolist() == np.ones((3, 3, 3)).tolist()


def test_agents_die_and_come_late() -> None:
    """ann lives on, bob dies after two steps, late acts in steps 4 and 5 of six."""
    env = crew(DEATHS).make(1)
    env.reset(0)
    steps = [Step(*(x.clone() if isinstance(x, Tensor) else x for x in take(env))) for _ in range(7)]
    assert [step.active.tolist() for step in steps] == [
        [True, True, False],
        [True, True, False],
        [True, False, False],
        [True, False, True],
        [True, False, True],
        [True, False, False],
        [True, True, False],
    ]
    assert [step.terminated.tolist() for step in steps[:6]] == [
        [False] * 3,
        [False, True, False],
        [False] * 3,
        [False] * 3,
        [False, False, True],
        [False] * 3,
    ]
    assert steps[5].truncated.tolist() == [True] * 3, "all end with their environment, those who died before too"
    assert [step.reward.tolist() for step in steps[3:5]] == [[4, 0, 24], [5, 0, 25]]


def test_what_a_death_led_to_is_kept_and_then_forgotten() -> None:
    env = crew(DEATHS).make(1)
    env.reset(0)
    take(env)
    step = take(env)
    assert listed(step.final.actor, step.obs.actor) == [[[0, 2], [1, 2], [0, 0]], [[0, 2], [0, 0], [0, 0]]]
    assert take(env).obs.actor.tolist() == [[0, 3], [0, 0], [2, 3]], "who comes is seen before it acts"
    for _ in range(3):
        step = take(env)
    assert listed(step.final.actor[0], step.obs.actor) == [[0, 6], [[0, 0], [1, 0], [0, 0]]]


def test_an_environment_without_agents_ends() -> None:
    env = crew({"ann": (0, 2), "bob": (0, 1)}).make(1)
    env.reset(0)
    take(env)
    step = take(env)
    assert listed(step.terminated, step.truncated) == [[True, False], [False, True]]
    assert step.obs.actor.tolist() == [[0, 0], [1, 0]]
    found = evaluate(env, Still(), 4, 0, SoloComm(), 100)
    assert found.returns == (1 + 2 + 11,) * 4 and found.lengths == (2,) * 4
    assert found.agents == {"ann": (3.0,) * 4, "bob": (11.0,) * 4} and found.logs == {"luck": 0.5}


class Still:
    """A policy that always takes action 1."""

    def start(self, rows: int) -> None:
        return None

    def act(self, obs, state, first):
        return torch.ones(len(first), 1, dtype=torch.int64), None


def test_a_time_limit_truncates() -> None:
    env = crew(max_episode_steps=3).make(1)
    env.reset(0)
    steps = [take(env).truncated.tolist() for _ in range(4)]
    assert steps == [[False] * 2, [False] * 2, [True] * 2, [False] * 2]


def test_groups_by_name_and_by_spaces() -> None:
    three = {"wolf_0": (0, 9), "hare": (0, 9), "wolf_1": (0, 9)}
    env = crew(three, groups={"wolf_*": "wolves", "*": "prey"}, sizes={"hare": 5}, wide={"hare": 1}).make(2)
    wolves, prey = env.spec.groups
    assert (wolves.name, wolves.agents, wolves.rows) == ("wolves", ("wolf_0", "wolf_1"), 4)
    assert (prey.name, prey.actor[0].shape, prey.action.sizes) == ("prey", (3,), (5,))
    env.reset(0)
    hunted = env.step((torch.tensor([[0], [1], [2], [0]]), torch.tensor([[4], [3]])))
    assert env._backend.envs[1].taken == [{"wolf_0": 2, "hare": 3, "wolf_1": 0}]
    assert listed(hunted[0].reward, hunted[1].reward) == [[1, 21, 1, 21], [11, 11]]
    separate = crew(three, separate=True, sizes={"hare": 5}).make(1)
    assert [group.name for group in separate.spec.groups] == ["agents_0", "agents_1"]


@pytest.mark.parametrize("masks", ["info", "dict"])
def test_illegal_actions_are_never_taken(masks: str) -> None:
    env = crew({"ann": (0, FOREVER), "bob": (0, 3)}, masks=masks).make(2)
    (group,) = env.spec.groups
    assert group.mask == 3 and group.actor[0].shape == (2,)
    (obs,) = env.reset(0)
    assert bool(obs.mask.all())
    assert take(env).obs.mask.tolist() == [[False, True, True]] * 4
    take(env)
    step = take(env)
    assert step.obs.mask.tolist() == [[False, True, True], [True, True, True]] * 2, "who is dead may do anything"
    ppo = PPO(experiment(crew(masks=masks), steps_per_row=30))
    ppo.iterate()
    taken = [step for each in ppo.env._backend.envs for step in each.taken]  # type: ignore[attr-defined]
    odd = [actions for number, actions in enumerate(taken) if number % 6 % 2]
    assert any(0 in actions.values() for actions in taken) and not any(0 in actions.values() for actions in odd)


def test_prediction_for_an_agent_knows_its_identity_and_its_flags() -> None:
    ppo = PPO(experiment(crew(masks="dict", agent_ids=True)))
    seen = {"observation": np.zeros(2, np.float32), "action_mask": np.array([0, 0, 1], np.int8)}
    assert ppo.predict(seen, agent="bob") == 2 and ppo.predict([seen, seen]).tolist() == [2, 2]
    tree, _ = ppo.env.seat("bob").encode(seen)  # type: ignore[attr-defined]
    assert tree.tolist() == [[0, 0, 0, 1]]
    with pytest.raises(UserError, match="This is no observation of bob"):
        ppo.predict({"observation": np.zeros(3), "action_mask": np.ones(3)}, agent="bob")


def test_tuples_of_gymnasium_are_agents_too() -> None:
    env = MultiAgentEnv("Pair", factory=Pair).make(2)
    assert env.spec.groups[0].agents == ("agent_0", "agent_1") and env.spec.groups[0].critic[0].shape == (2,)
    env.reset(0)
    step = take(env, 1, 2, 0, 1)
    assert listed(step.reward, step.obs.actor) == [[1, 20, 0, 10], [[1], [-1], [1], [-1]]]
    assert step.log["food"].tolist() == [1] * 4
    for _ in range(3):
        step = take(env)
    assert step.terminated.tolist() == [True] * 4 and step.final.actor[0].tolist() == [4]


def test_a_team_shares_its_reward_but_scores_do_not() -> None:
    ppo = PPO(experiment(crew(DEATHS), addons=(TeamReward(),), normalize_rewards=False, steps_per_row=6))
    (rollout,) = ppo.collector.collect()
    group = ppo.groups[0]
    shared, _, sums = group.prepare(rollout, ppo.progress)
    assert shared.rewards[:, :3].tolist() == [[12] * 3, [14] * 3, [3] * 3, [28] * 3, [30] * 3, [6] * 3]
    noisy = dataclasses.replace(rollout, rewards=rollout.rewards.masked_fill(~rollout.active, 99.0))
    addon = group.addons[0]
    again = addon.transform(noisy, None).rewards  # type: ignore[operator]
    assert torch.equal(again, shared.rewards), "who is absent earns nothing"
    assert sums[-3:].tolist() == [4, 4 * 93, 4 * 6], "episodes of teams, their returns as they were given, their steps"


def test_one_agent_has_no_team() -> None:
    with pytest.raises(UserError, match="TeamReward shares rewards among agents, but this environment has one"):
        PPO(experiment(Toy(BOX), addons=(TeamReward(),)))


def test_a_reward_is_shared_before_it_is_cut() -> None:
    config = experiment(crew(DEATHS), addons=(TeamReward(),), normalize_rewards=False, steps_per_row=6)
    ppo = PPO(dataclasses.replace(config, ppo=dataclasses.replace(config.ppo, reward_clip=(-13.0, 13.0))))
    (rollout,) = ppo.collector.collect()
    shared, *_ = ppo.groups[0].prepare(rollout, ppo.progress)
    assert shared.rewards[:, 0].tolist() == [12, 13, 3, 13, 13, 6]


def test_training_counts_steps_of_environments_and_ignores_who_is_absent() -> None:
    ppo = PPO(experiment(crew(DEATHS, critic="joined"), rows=3, normalize_rewards=False), RunConfig())
    metrics = ppo.iterate()
    assert ppo.timesteps == 3 * (16 + 16) and metrics["mean_return"] == 93
    assert metrics["mean_agent_return"] == 31 and metrics["mean_length"] == 6


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: crew(sizes={"bob": 5}), "ann and bob of Crew have mixed spaces and one shared policy"),
        (lambda: crew(masks="info", flags=4), r"ann an action_mask of 4 flags, but its actions Discrete\(3\) have 3"),
        (lambda: crew(masks="dict", flags=2), r"ann an action_mask of 2 flags, but its actions Discrete\(3\) have 3"),
        (lambda: crew(groups={"a*": "first"}), "env.groups of Crew names no group for its agent bob"),
        (lambda: MultiAgentEnv("Crew", critic="state", factory=Crew), "env.critic is state, but Crew has none"),
        (
            lambda: MultiAgentEnv("CartPole-v1"),
            r"CartPole-v1 has one agent, whose actions are Discrete\(2\): use GymEnv",
        ),
        (lambda: MultiAgentEnv("json.spread_v3"), "the package json has no module spread_v3; correct its name"),
        (lambda: MultiAgentEnv("CartPol-v1"), "No environment 'CartPol-v1' is registered .* did you mean CartPole-v1"),
        (lambda: MultiAgentEnv("no_such_module.game"), "no_such_module.game needs the package no_such_module; install"),
        (lambda: MultiAgentEnv("json"), "json has neither parallel_env nor env"),
        (lambda: MultiAgentEnv("agent_toys:Crew", {"colour": 1}), "agent_toys:Crew raises TypeError when made with"),
        (lambda: crew(max_episode_steps=0), "env.max_episode_steps is 0"),
        (lambda: GymEnv("Pair", factory=Pair), "Pair has 2 agents and .*: use MultiAgentEnv"),
        (lambda: GymEnv("Crew", factory=Crew), "Crew has 2 agents and .*: use MultiAgentEnv"),
    ],
)
def test_what_cannot_be_is_one_sentence(make: Any, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        make().make(1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"masks": "info", "stuck": 2}, "Crew, ann, row 2, step 2 of its episode: action_mask leaves no legal action"),
        ({"masks": "dict", "stuck": 2}, "Crew, ann, row 2, step 2 of its episode: action_mask leaves no legal action"),
        ({"poison": 2}, "Crew, ann, row 2, step 2 of its episode: observation is not finite"),
    ],
)
def test_failures_name_agent_row_and_step(settings: dict[str, Any], message: str) -> None:
    env = crew(**settings).make(2)
    env._backend.envs[0] = Crew(masks=settings.get("masks", ""))  # which goes on
    env.reset(0)
    take(env)
    with pytest.raises(EnvironmentFailure, match=message):
        take(env)


class Cornered(Crew):
    """Has no legal action at the start of the episode number `episode`; episodes have one step."""

    def __init__(self, episode: int, render_mode: str | None = None) -> None:
        super().__init__(masks="info", length=1)
        self.episode = episode

    def _legal(self) -> np.ndarray:
        return np.full(self.flags, len(self.seeds) != self.episode, np.int8)


def test_an_episode_that_begins_without_a_legal_action_is_refused() -> None:
    for episode in (2, 3):  # the first reset reads the spaces
        env = MultiAgentEnv("Cornered", factory=Cornered, kwargs={"episode": episode}).make(1)
        with pytest.raises(EnvironmentFailure, match="ann, row 0, step 0 of its episode: action_mask leaves no legal"):
            env.reset(0)
            take(env)


def test_a_view_of_the_critic_that_there_is_not() -> None:
    with pytest.raises(UserError, match="env.critic is 'joint'; give one of own, joined, state, agent_state"):
        MultiAgentEnv("Crew", critic="joint")  # type: ignore[arg-type]


def test_groups_are_a_dict() -> None:
    with pytest.raises(UserError, match="env.groups is 'wolves'; give names of agents and of their groups"):
        MultiAgentEnv("Crew", groups="wolves")  # type: ignore[arg-type]


def test_what_is_no_picture_is_one_sentence() -> None:
    env = crew().make(1)
    env._backend.envs[0].render = lambda: None  # type: ignore[attr-defined]
    with pytest.raises(UserError, match="Crew has no rgb_array render mode .its render gives NoneType, not"):
        env.frame(0)
