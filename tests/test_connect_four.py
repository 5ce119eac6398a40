"""Connect four: lines, legal actions, who wins what, and the players it is measured with."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import Tensor

from environments.connect_four import (
    CELL,
    DISCS,
    EMPTY,
    FULL,
    MARGIN,
    PLACES,
    WAIT,
    ConnectFour,
    ConnectFourVec,
    Lookahead,
    won,
)
from ppo_and_friends.comm import SoloComm
from ppo_and_friends.evaluate import evaluate
from ppo_and_friends.policy import RandomPolicy
from ppo_and_friends.types import Step
from ppo_and_friends.vector.self_play import SelfPlay


def plainly(board: int) -> bool:
    """Four in a line, by looking at each line of places."""
    taken = {(c, r) for c in range(7) for r in range(6) if board & int(PLACES[c, r])}
    ways = ((1, 0), (0, 1), (1, 1), (1, -1))
    return any(all((c + i * x, r + i * y) in taken for i in range(4)) for c, r in taken for x, y in ways)


def test_lines_are_those_found_by_looking() -> None:
    chance, places = random.Random(0), PLACES.flatten().tolist()
    boards = [sum(chance.sample(places, chance.randint(4, 21))) for _ in range(500)]
    expected = [plainly(board) for board in boards]
    assert won(torch.tensor(boards)).tolist() == expected and 100 < sum(expected) < 400


def played(env: ConnectFourVec, columns: list[int]) -> Step:
    """The last step of one game in which players drop into these columns in turn."""
    for column in columns:
        mover = int(env.mover[0])
        actions = torch.full((2, 1), WAIT)
        actions[mover] = column
        (step,) = env.step((actions,))
    return step


@pytest.mark.parametrize(("columns", "reward"), [([0, 1, 0, 1, 0, 1, 0], [1, -1]), ([6, 0, 1, 0, 1, 0, 2, 0], [-1, 1])])
def test_who_has_four_wins_and_the_other_one_loses(columns: list[int], reward: list[float]) -> None:
    env = ConnectFour().make(1)
    env.reset(0)
    before = played(env, columns[:-1])
    assert before.reward.tolist() == [0, 0] and not before.terminated.any()
    step = played(env, columns[-1:])
    assert step.reward.tolist() == reward and step.terminated.all() and not step.truncated.any() and step.active.all()
    assert isinstance(step.final.actor, Tensor) and isinstance(step.obs.actor, Tensor)
    assert step.final.actor[:, :2].sum((1, 2, 3)).tolist() == 2 * [len(columns)], "the board as it was at the end"
    assert not step.obs.actor[:, :2].any() and step.obs.actor[:, 2].sum((1, 2)).tolist() == [42, 0], (
        "the first one's move"
    )


def test_a_full_board_without_a_line_is_a_draw() -> None:
    owners = [[(column == 3) ^ height for height in (0, 1, 0, 1, 0, 1)] for column in range(7)]
    boards = [
        int(sum(PLACES[c, r] for c in range(7) for r in range(6) if owners[c][r] == own)) for own in (False, True)
    ]
    last = int(PLACES[6, 5])
    env = ConnectFour().make(1)
    env.reset(0)
    env.boards[0] = torch.tensor([boards[0] & ~last, boards[1] & ~last])
    env.mover[0] = int(owners[6][5])
    assert sum(boards) == int(FULL) and not any(map(plainly, boards))
    step = played(env, [6])
    assert step.terminated.all() and step.reward.tolist() == [0, 0]


def test_only_columns_with_room_and_only_whose_turn_it_is() -> None:
    """Random games: each move adds one disc of the mover's to a column that had room."""
    games = 50
    env = ConnectFour().make(games)
    (obs,) = env.reset(0)
    policy = RandomPolicy(env.spec.groups[0].action, torch.Generator().manual_seed(0))
    full = 0
    for _ in range(200):
        before = env.boards.clone()
        tops = (before.sum(1, keepdim=True) & PLACES[:, -1]) != 0
        mover = env.mover.repeat_interleave(2) == torch.arange(2).repeat(games)
        assert obs.mask[mover].equal(torch.cat((~tops, torch.zeros(games, 1, dtype=torch.bool)), 1))
        assert obs.mask[~mover].equal(torch.tensor([7 * [False] + [True]]).expand(games, -1))
        assert env.legal(obs.actor).equal(obs.mask)
        full += int(tops.sum())
        (step,) = env.step((policy.act(obs, None, mover)[0],))
        on = ~step.terminated[::2]
        discs = (env.boards.sum(1) - before.sum(1))[on]
        assert all(disc in PLACES for disc in discs)
        obs = step.obs
    assert full > 100, "columns were full"


def test_an_illegal_move_is_refused() -> None:
    env = ConnectFour().make(1)
    for columns in ([0] * 7, [WAIT]):
        env.reset(0)
        with pytest.raises(ValueError, match=f"game 0: column {columns[-1]} takes no disc"):
            played(env, columns)


def test_lookahead_wins_before_it_blocks_and_blocks_before_all_else() -> None:
    env = ConnectFour().make(1)
    player = Lookahead(torch.Generator().manual_seed(0))
    for columns, answer in (([0, 6, 0, 6, 0, 6], 0), ([0, 6, 0, 6, 3, 6], 6), ([0, 6, 1, 6, 2], 3)):
        env.reset(0)
        step = played(env, columns)
        for _ in range(5):
            actions, _ = player.act(step.obs, None, step.terminated)
            mover = int(env.mover[0])
            assert actions[mover] == answer and actions[1 - mover] == WAIT


def test_lookahead_beats_chance_in_both_seats() -> None:
    env = SelfPlay(ConnectFour()).make(50)
    chance = torch.Generator().manual_seed(0)
    policies = [Lookahead(chance), RandomPolicy(env.spec.groups[0].action, chance)]
    returns = np.array(evaluate(env, policies, 100, 0, SoloComm(), 100).returns)
    assert returns.reshape(2, 50)[:, ::2].mean() > 0.6 and returns.reshape(2, 50)[:, 1::2].mean() > 0.6


def test_a_picture_shows_the_discs() -> None:
    env = ConnectFour().make(1)
    env.reset(0)
    played(env, [3, 3])
    start = MARGIN + CELL // 2
    picture = env.frame(0)[start::CELL, start::CELL]
    assert picture.shape == (6, 7, 3)
    assert [tuple(picture[row, 3]) for row in (5, 4, 3)] == [*DISCS, EMPTY] and tuple(picture[5, 2]) == EMPTY
