"""Acting outside training."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from toys import BOX, DISCRETE, MULTI_DISCRETE, NET, Toy, experiment

from ppo_and_friends.errors import UserError
from ppo_and_friends.policy import NetPolicy, RandomPolicy
from ppo_and_friends.ppo import PPO
from ppo_and_friends.types import ActionSpace, Obs


@pytest.mark.parametrize("toy", [Toy(DISCRETE, masked=True), Toy(BOX)])
def test_a_policy_acts_within_the_space_and_moves_nothing(toy: Toy) -> None:
    ppo = PPO(experiment(toy, replace(NET, distribution="gsde") if toy.action is BOX else NET))
    ppo.iterate()
    before = {name: tensor.clone() for name, tensor in ppo.groups[0].net.state_dict().items()}
    (obs,), first = ppo.env.reset(1), torch.ones(4, dtype=torch.bool)
    chosen = {}
    for deterministic in (True, False):
        policy = NetPolicy(ppo.groups[0].net, torch.Generator().manual_seed(0), deterministic)
        state, actions = policy.start(4), []
        for _ in range(30):
            action, state = policy.act(obs, state, first)
            actions.append(action)
        chosen[deterministic] = torch.stack(actions)
        if toy.masked:
            assert bool(obs.mask.expand(30, -1, -1).gather(2, chosen[deterministic]).all())
    assert bool((chosen[True] == chosen[True][0]).all()) and bool((chosen[False] != chosen[False][0]).any())
    assert all(torch.equal(tensor, before[name]) for name, tensor in ppo.groups[0].net.state_dict().items())


def test_predict_takes_flags_of_legal_actions() -> None:
    ppo = PPO(experiment(Toy(DISCRETE, masked=True), NET))
    seen, choices = np.zeros((50, *ppo.env.spec.groups[0].actor[0].shape)), ppo.env.spec.groups[0].mask
    for legal in range(choices):
        only = np.arange(choices) == legal
        assert int(ppo.predict(seen[0], deterministic=False, mask=only)[0]) == legal
        assert set(ppo.predict(seen, deterministic=False, mask=only.astype(np.int8)).flatten()) == {legal}
    each = np.arange(50) % choices
    assert (ppo.predict(seen, deterministic=False, mask=np.eye(choices)[each]).flatten() == each).all()
    several = PPO(experiment(Toy(MULTI_DISCRETE, masked=True), NET))
    flags = tuple(np.arange(size) == size - 1 for size in MULTI_DISCRETE.sizes)  # one array for each action column
    assert several.predict(seen[0], deterministic=False, mask=flags).tolist() == [n - 1 for n in MULTI_DISCRETE.sizes]
    with pytest.raises(UserError, match=rf"The mask has shape \({choices + 1},\), but must be \({choices},\) or"):
        ppo.predict(seen, mask=np.ones(choices + 1))
    with pytest.raises(UserError, match="leaves observation 0 no legal action"):
        ppo.predict(seen, mask=np.zeros(choices))
    with pytest.raises(UserError, match="has no flags of legal actions"):
        PPO(experiment(Toy(DISCRETE), NET)).predict(seen[0], mask=np.ones(choices))


def test_random_actions_are_legal_and_within_bounds() -> None:
    generator, first = torch.Generator().manual_seed(0), torch.ones(500, dtype=torch.bool)
    empty = torch.zeros(500, 0)
    low, high = (-2.0, 0.0, -math.inf), (2.0, math.inf, math.inf)
    actions, _ = RandomPolicy(ActionSpace("box", (), low, high), generator).act(Obs(empty, empty, empty), None, first)
    assert bool(((actions >= torch.tensor(low)) & (actions <= torch.tensor(high))).all())
    assert float(actions[:, 0].std()) == pytest.approx(4 / math.sqrt(12), rel=0.1)
    mask = torch.tensor([1, 0, 1, 0, 1, 1, 1, 0, 0, 0], dtype=torch.bool).expand(500, -1)
    actions, _ = RandomPolicy(MULTI_DISCRETE, generator).act(Obs(empty, empty, mask), None, first)
    assert [column.unique().tolist() for column in actions.t()] == [[0, 2], [1], [0, 1]]
