"""Games of turns: one move a step, who waits, what is earned in between, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from toys import experiment
from turn_toys import Table

from ppo_and_friends.errors import UserError
from ppo_and_friends.ppo import PPO
from ppo_and_friends.schedules import constant
from ppo_and_friends.vector.multi_agent import MultiAgentEnv
from ppo_and_friends.vector.self_play import SelfPlay

WAIT = 3
WAITS = [False, False, False, True]
EVEN, ODD = [True, True, True, False], [False, True, True, False]


def table(moves: dict[str, int], **settings: Any) -> MultiAgentEnv:
    return MultiAgentEnv("Table", {"moves": moves, **settings}, "own", factory=Table)


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("masks", ["dict", "info"])
def test_a_step_is_one_move_and_the_others_wait(masks: str, lazy: bool) -> None:
    """ann, bob (who is out after it), cid, ann (out), cid: then all begins anew."""
    env = table({"ann": 2, "bob": 1, "cid": 2}, masks=masks, lazy=lazy).make(1)
    (group,) = env.spec.groups
    assert (group.action.sizes, group.mask, group.actor[0].shape) == ((4,), 4, (2,))
    (obs,) = env.reset(0)
    assert obs.mask.tolist() == [EVEN, WAITS, WAITS]
    facts = []
    for actions in ([1, WAIT, WAIT], [WAIT, 2, WAIT], [WAIT, 0, 1], [2, 0, WAIT], [0, 0, 1]):
        (step,) = env.step((torch.tensor(actions)[:, None],))
        facts.append([each.tolist() for each in (step.active, step.reward, step.terminated, step.obs.mask)])
    on, gone, anything = True, False, [True] * 4
    assert facts == [
        [[on, on, on], [0, 0, 0], [gone, gone, gone], [WAITS, ODD, WAITS]],
        [[on, on, on], [1, 0, 0], [False, True, False], [WAITS, anything, EVEN]],
        [[on, gone, on], [0, 0, 0], [False] * 3, [ODD, anything, WAITS]],
        [[on, gone, on], [0, 0, 1], [True, False, False], [anything, anything, EVEN]],
        [[gone, gone, on], [0, 0, 0], [False, False, True], [EVEN, WAITS, WAITS]],
    ]
    assert step.final.actor[2].tolist() == [2, 5] and step.obs.actor.tolist() == [[0, 0], [1, 0], [2, 0]]
    taken = env._backend.envs[0].env.taken
    assert taken == [("ann", 1), ("bob", 2), ("cid", 1), ("ann", 2), ("cid", 1)]
    assert env.spec.steps_per_second == 3 and env.frame(0).shape == (2, 2, 3)


def test_what_is_earned_while_others_move_is_learned_from() -> None:
    """15 of 16 moves are paid, each while its mover waits: 15 by chance, 30 at best."""
    ppo = PPO(experiment(table({"ann": 8, "bob": 8}, masks=""), rows=8, steps_per_row=32, lr=constant(0.01)))
    first = ppo.iterate()["mean_return"]
    for _ in range(14):
        last = ppo.iterate()["mean_return"]
    assert first < 20 and last > 26


@pytest.mark.parametrize("masks", ["", "info", "dict"])
def test_prediction_reads_what_the_game_gives_and_never_waits(masks: str) -> None:
    ppo = PPO(experiment(table({"ann": 2, "bob": 2}, masks=masks)))
    game = Table({"ann": 2, "bob": 2}, masks)
    game.reset()
    answers = [int(ppo.predict(game.observe("ann"), deterministic=False)) for _ in range(60)]
    several = ppo.predict([game.observe("ann")] * 60, agent="ann", deterministic=False)
    assert {*answers, *several.tolist()} == {0, 1, 2}


def test_prediction_takes_the_flags_that_a_game_tells_beside_its_observations() -> None:
    ppo = PPO(experiment(table({"ann": 2, "bob": 2}, masks="info")))
    game = Table({"ann": 2, "bob": 2}, "info")
    game.reset()
    game.step(1)
    seen, told = game.observe("bob"), game.infos["bob"]["action_mask"]
    assert told.tolist() == [0, 1, 1], "move 0 is illegal at clock 1"
    answers = {int(ppo.predict(seen, deterministic=False, agent="bob", mask=told)) for _ in range(60)}
    each = ppo.predict([seen] * 60, deterministic=False, agent="bob", mask=[told] * 60)
    with_wait = ppo.predict([seen] * 60, deterministic=False, agent="bob", mask=[*told, 0])
    assert answers == {*each.tolist()} == {*with_wait.tolist()} == {1, 2}
    with pytest.raises(UserError, match=r"The mask has shape \(2,\)"):
        ppo.predict(seen, agent="bob", mask=told[1:])
    with pytest.raises(UserError, match="leaves observation 0 no legal action"):
        ppo.predict(game.observe("ann"), agent="ann", mask=game.infos["ann"]["action_mask"])


def games() -> PPO:
    return PPO(experiment(MultiAgentEnv("pettingzoo.classic.tictactoe_v3", critic="own"), rows=8, steps_per_row=24))


def test_a_real_game_is_trained_and_resumed_exactly(tmp_path: Path) -> None:
    pytest.importorskip("pettingzoo.classic.tictactoe_v3", exc_type=ImportError)
    whole, resumed = games(), games()
    whole.iterate()
    torch.save({"shared": whole.shared_state(), "own": whole.own_state()}, tmp_path / "state.pt")
    saved = torch.load(tmp_path / "state.pt", weights_only=True)
    resumed.load_shared_state(saved["shared"])
    assert resumed.load_own_state(saved["own"])
    one, other = ({k: v for k, v in ppo.iterate().items() if "seconds" not in k} for ppo in (whole, resumed))
    assert one == other and 5 <= one["mean_length"] <= 9
    assert whole.groups[0].learner.flat.values.equal(resumed.groups[0].learner.flat.values)


def test_a_real_game_sees_no_illegal_move_and_has_a_loser_for_each_winner(monkeypatch: pytest.MonkeyPatch) -> None:
    wrapper = pytest.importorskip("pettingzoo.utils").wrappers.TerminateIllegalWrapper
    pytest.importorskip("pettingzoo.classic.tictactoe_v3", exc_type=ImportError)
    moves = []

    def checked(self: Any, action: Any, step: Any = wrapper.step) -> None:
        moves.append(action is None or bool(self.observe(self.agent_selection)["action_mask"][action]))
        step(self, action)

    monkeypatch.setattr(wrapper, "step", checked)
    ppo = PPO(experiment(SelfPlay(MultiAgentEnv("pettingzoo.classic.tictactoe_v3", critic="own")), steps_per_row=60))
    learner, opponent = ppo.collector.collect()
    assert len(moves) > 4 * 60 and all(moves)
    assert torch.equal(learner.rewards, -opponent.rewards) and 1 in learner.rewards and -1 in learner.rewards


def test_only_discrete_actions_have_room_for_waiting() -> None:
    env = table({"ann": 1}, actions=spaces.Box(0, 1, (2,), np.float32))
    with pytest.raises(UserError, match=r"agents of Table take turns, and .* of ann are Box\(.*to wait") as told:
        env.make(1)
    assert "\n" not in str(told.value)
