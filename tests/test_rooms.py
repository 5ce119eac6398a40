"""The grid of rooms: where one can go, what is seen, and that nothing but arriving pays."""

from __future__ import annotations

from collections import deque

import pytest
from gymnasium.utils.env_checker import check_env

from environments.rooms import CELL, COLOURS, MOVES, Rooms


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_gymnasiums_own_checks_pass() -> None:
    check_env(Rooms(render_mode="rgb_array"))


def test_the_way_is_32_steps_and_pays_once() -> None:
    env = Rooms()
    came: dict[tuple[int, int], tuple[int, int, int]] = {(0, 0): (0, 0, -1)}
    queue = deque([(0, 0)])
    while queue:
        x, y = queue.popleft()
        for action, (right, down) in enumerate(MOVES):
            there = x + right, y + down
            if env.is_free(*there) and there not in came:
                came[there] = x, y, action
                queue.append(there)
    assert len(came) == 9 * 25 + 12, "nine rooms and a door in each of twelve walls"
    actions, at = [], (16, 16)
    while at != (0, 0):
        *at, action = came[at]  # type: ignore[assignment]
        at = tuple(at)  # type: ignore[assignment]
        actions.insert(0, action)
    assert len(actions) == 32
    env.reset()
    steps = [env.step(action) for action in actions]
    assert [reward for _, reward, *_ in steps] == 31 * [0.0] + [1.0]
    assert [ended for _, _, ended, *_ in steps] == 31 * [False] + [True]
    assert steps[-1][0].tolist() == [16, 16]


def test_walls_are_not_entered_and_the_picture_says_so() -> None:
    env = Rooms(rooms=2, size=3, render_mode="rgb_array")
    env.reset()
    assert env.step(0)[0].tolist() == env.step(3)[0].tolist() == [0, 0], "outside"
    for _ in range(5):
        observation = env.step(1)[0]
    assert observation.tolist() == [2, 0], "a wall without a door there"
    env.step(2)
    assert env.step(1)[0].tolist() == [3, 1], "the door"
    cells = env.render()[CELL // 2 :: CELL, CELL // 2 :: CELL]
    assert cells.shape == (9, 9, 3) and tuple(cells[2, 4]) == COLOURS["walker"]
    assert tuple(cells[7, 7]) == COLOURS["goal"] and tuple(cells[1, 4]) == COLOURS["wall"]
