"""PressurePlate: its rules, and what PettingZoo asks of an environment."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("pettingzoo")

from pettingzoo.test import parallel_api_test

from environments.pressure_plate import PressurePlate

UP, DOWN, LEFT, RIGHT, STAY = range(5)


def begun(**settings: int) -> PressurePlate:
    env = PressurePlate(**settings)  # type: ignore[arg-type]
    env.reset(seed=0)
    return env


def moves(env: PressurePlate, **actions: int) -> tuple[dict[str, float], bool]:
    """Step with the actions named, all others stay: rewards, and whether the goal was reached."""
    _, rewards, terminated, _, _ = env.step({agent: actions.get(agent, STAY) for agent in env.possible_agents})
    return rewards, any(terminated.values())


@pytest.mark.parametrize("players", [4, 5, 6])
def test_petting_zoo_accepts_it(players: int) -> None:
    parallel_api_test(PressurePlate(players, max_cycles=30), num_cycles=100)


def test_the_rooms_of_four() -> None:
    env = begun()
    assert (env.height, env.goal, env.plates) == (15, (3, 1), [(7, 13), (2, 9), (7, 5)])
    assert env.doors == [{(6, 11), (7, 11)}, {(2, 7), (3, 7)}, {(6, 3), (7, 3)}]
    wall = {(x, 11) for x in (*range(6), 8)} | {(x, 7) for x in (0, 1, *range(4, 9))} | {(x, 3) for x in (*range(6), 8)}
    assert env.walls == wall
    assert env.positions == [(5, 13), (5, 12), (4, 13), (4, 12)]


def test_rewards_are_distances_in_the_own_room_and_rooms_elsewhere() -> None:
    env = begun()
    rewards, _ = moves(env)
    assert rewards == {"agent_0": -0.2, "agent_1": -3.0, "agent_2": -3.0, "agent_3": -3.0}
    env.positions[1:] = [(3, 10), (6, 7), (4, 2)]  # in its room, in the doorway of its room's wall, in the top room
    rewards, _ = moves(env)
    assert rewards == {"agent_0": -0.2, "agent_1": -0.2, "agent_2": pytest.approx(-0.3), "agent_3": -0.2}
    env.positions[2] = (2, 8)
    assert moves(env)[0]["agent_2"] == -2.0


def test_a_door_is_open_while_its_agent_stands_on_the_plate() -> None:
    env = begun()
    env.positions[1] = (6, 12)
    moves(env, agent_1=UP)
    assert env.positions[1] == (6, 12)
    moves(env, agent_0=RIGHT)
    moves(env, agent_0=RIGHT)
    moves(env, agent_1=UP)
    assert env.positions[1] == (6, 11)
    moves(env, agent_0=LEFT)
    assert env._closed() >= env.doors[0] and env.positions[1] == (6, 11)
    moves(env, agent_1=UP)
    assert env.positions[1] == (6, 10)
    moves(env, agent_1=DOWN)
    assert env.positions[1] == (6, 10)


def test_agents_do_not_share_a_cell_and_the_order_of_moves_is_drawn() -> None:
    followed = set()
    for seed in range(20):
        env = PressurePlate()
        env.reset(seed=seed)
        moves(env, agent_0=RIGHT, agent_2=RIGHT)
        followed.add(env.positions[2])
        assert len(set(env.positions)) == 4
    assert followed == {(4, 13), (5, 13)}


def test_the_goal_ends_it_for_all_and_time_cuts_it() -> None:
    env = begun(max_cycles=2)
    env.positions[2] = (3, 2)
    _, over = moves(env, agent_2=UP)
    assert over and env.agents == []
    env.reset()
    moves(env)
    _, _, terminated, truncated, _ = env.step(dict.fromkeys(env.possible_agents, STAY))
    assert not any(terminated.values()) and all(truncated.values())


def test_an_agent_sees_five_by_five_cells() -> None:
    env = begun()
    env.positions[0] = (6, 12)
    seen = env._observations()["agent_0"]
    agents, plates, doors, goal = seen[:100].reshape(4, 5, 5)
    assert agents[2, 2] == 1 and agents[2, 1] == 1 and agents[2, 0] == 1 and agents[3, 0] == 1 and agents.sum() == 4
    assert plates[3, 3] == 1 and plates.sum() == 1 and not goal.any()
    assert doors[1, 2] == doors[1, 3] == 1 and doors.sum() == 2
    assert seen[100:].tolist() == [6, 12] and env.observation_space("agent_0").contains(seen)
    assert env.state_space.contains(env.state())


def test_a_picture() -> None:
    picture = begun().render()
    assert picture.shape == (360, 216, 3) and len(np.unique(picture.reshape(-1, 3), axis=0)) > 6


def test_other_numbers_of_players_are_refused() -> None:
    with pytest.raises(ValueError, match="players is 3"):
        PressurePlate(3)
