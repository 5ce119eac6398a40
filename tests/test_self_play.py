"""Who sits where: a learner and an opponent in the seats of a game of two."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from agent_toys import crew
from team_toys import Hunt
from torch import Tensor
from toys import Toy, experiment

from environments.connect_four import ConnectFour
from ppo_and_friends.errors import UserError
from ppo_and_friends.ppo import PPO
from ppo_and_friends.types import Step
from ppo_and_friends.vector.self_play import SelfPlay, SelfPlayVec


def seen(steps: tuple[Step, ...], kind: str = "obs") -> list[list[list[float]]]:
    """What learner and opponent observe: (number of the agent, clock) in each game."""
    return [getattr(step, kind).actor.tolist() for step in steps]


def taken(env: SelfPlayVec, game: int) -> dict[str, int]:
    inner: Any = env.inner
    return inner._backend.envs[game].taken[-1]


def act(env: SelfPlayVec, games: int) -> tuple[Step, ...]:
    """The learner takes action 2, the opponent action 1."""
    return env.step((torch.full((games, 1), 2), torch.full((games, 1), 1)))


def test_the_learner_changes_seats_with_every_episode() -> None:
    """Agent 0 earns the clock, agent 1 earns 10 more; games last three steps."""
    env = SelfPlay(crew(length=3)).make(3)
    assert [(g.name, g.learns, g.rows, g.agents) for g in env.spec.groups] == [
        ("learner", True, 3, ("learner",)),
        ("opponent", False, 3, ("opponent",)),
    ]
    obs = env.reset(0)
    assert all(isinstance(o.actor, Tensor) for o in obs)
    assert obs[0].actor[:, 0].tolist() == [0, 1, 0] and obs[1].actor[:, 0].tolist() == [1, 0, 1]  # type: ignore[call-overload]
    for episode in range(3):
        seats = [(game + episode) % 2 for game in range(3)]
        for clock in (1, 2, 3):
            steps = act(env, 3)
            learner, opponent = steps
            assert [reward // 10 for reward in learner.reward.tolist()] == seats, "by the seat that it acted in"
            assert [reward // 10 for reward in opponent.reward.tolist()] == [1 - seat for seat in seats]
            final = seen(steps, "final")
            assert final[0] == [[seat, clock] for seat in seats] and final[1] == [[1 - seat, clock] for seat in seats]
            assert learner.truncated.tolist() == opponent.truncated.tolist() == 3 * [clock == 3]
        following = [[1 - seat, 0] for seat in seats]
        assert seen(steps)[0] == following and seen(steps)[1] == [[1 - seat, 0] for seat, _ in following]


def test_a_reset_seats_all_as_at_the_beginning() -> None:
    env = SelfPlay(crew(length=2)).make(2)
    for _ in range(2):
        assert env.reset(0)[0].actor[:, 0].tolist() == [0, 1]  # type: ignore[call-overload]
        act(env, 2)
        act(env, 2)


def test_actions_go_to_the_agent_that_the_seat_is() -> None:
    env = SelfPlay(crew(length=2)).make(2)
    env.reset(0)
    act(env, 2)
    assert [taken(env, game) for game in (0, 1)] == [{"ann": 2, "bob": 1}, {"ann": 1, "bob": 2}]


def test_a_policy_is_asked_about_the_game_itself() -> None:
    """Whose observation it is does not matter: flags of legal actions are read from it."""
    ppo = PPO(experiment(SelfPlay(ConnectFour()), normalize_rewards=False))
    board = torch.zeros(3, 6, 7)
    board[0, ::2, 0] = board[1, 1::2, 0] = board[2] = 1  # the first column is full
    answers = ppo.predict(board.expand(500, -1, -1, -1).numpy(), deterministic=False, agent="learner")
    assert set(answers.flatten().tolist()) == {1, 2, 3, 4, 5, 6}
    ppo = PPO(experiment(SelfPlay(crew(length=3)), normalize_rewards=False))
    assert ppo.predict(np.zeros(2, np.float32), agent="opponent") in (0, 1, 2)


def test_seats_are_saved_with_the_game() -> None:
    env, other = (SelfPlay(crew(length=3)).make(2) for _ in range(2))
    env.reset(0)
    other.reset(0)
    for _ in range(4):
        act(env, 2)
    state = env.state()
    assert state is not None and state["seats"].tolist() == [1, 0]
    other.load_state(state)
    for one, two in zip(act(env, 2), act(other, 2), strict=True):
        assert one.reward.equal(two.reward) and seen((one,)) == seen((two,))


@pytest.mark.parametrize(
    ("env", "groups"),
    [(Toy(), "toy has \\(agent\\)"), (Hunt(), "Hunt has \\(first, second; prey\\)")],
    ids=["one", "3"],
)
def test_what_is_no_game_of_two_is_refused(env: Any, groups: str) -> None:
    with pytest.raises(UserError, match=f"SelfPlay needs a game of two agents in one group, but {groups}"):
        SelfPlay(env).make(2)
