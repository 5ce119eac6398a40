"""Learning with memory: burn-in, every setting, ranks, what is refused, and predicting step by step."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from ranks import needs_mpirun, run
from test_cores import GRU, LSTM
from torch import Tensor, nn
from toys import BOX, DISCRETE, Toy, box_spec, experiment, recorded

from ppo_and_friends.comm import SoloComm
from ppo_and_friends.config import NetConfig
from ppo_and_friends.errors import UserError
from ppo_and_friends.group import Group
from ppo_and_friends.net_config import CoreConfig
from ppo_and_friends.policy import Memory
from ppo_and_friends.ppo import PPO
from ppo_and_friends.schedules import Progress, constant


def chunks_of(ppo: PPO) -> list[Any]:
    """The batches that a run learns from, untouched by learning."""
    seen: list[Any] = []
    learner = ppo.groups[0].learner
    learner.step = lambda batch: (seen.append(batch), batch.parameters)[1]  # type: ignore[func-returns-value]
    return seen


@pytest.mark.parametrize("net", [GRU, replace(GRU, core_place="before"), replace(LSTM, shared=True)])
def test_samples_of_the_burn_in_warm_the_state_and_nothing_else(net: NetConfig) -> None:
    made = PPO(experiment(Toy(BOX, terminates=0.0, truncates=0.0), replace(net, burn_in=2), minibatches=1, epochs=1))
    seen = chunks_of(made)
    made.iterate()
    (batch,) = seen
    assert batch.weights[:2].sum() == 0 and bool((batch.weights[2:] == 1).all())
    assert bool((made.groups[0].rows.active == 1).all()), "facts stay as they are"
    objective = made.groups[0].learner.objective
    numbers = torch.tensor(0.2), torch.tensor(0.0)

    def gradient(changed: Any) -> list[Tensor]:
        made.groups[0].net.zero_grad()
        objective(changed, *numbers)[0].backward()
        return [parameter.grad.clone() for parameter in made.groups[0].net.parameters() if parameter.grad is not None]

    def spoiled(tensor: Tensor, steps: slice) -> Tensor:
        other = tensor.clone()
        other[steps] += 1
        return other

    plain = gradient(batch)
    for name in ("actions", "log_probs", "advantages", "returns", "values"):
        other = gradient(batch._replace(**{name: spoiled(getattr(batch, name), slice(0, 2))}))
        assert all(torch.equal(one, two) for one, two in zip(plain, other, strict=True)), name
    obs = batch.actor.clone().requires_grad_()
    objective(batch._replace(actor=obs, critic=obs), *numbers)[0].backward()
    assert obs.grad is not None and not obs.grad[:2].any() and bool(obs.grad[2:].any())
    seen_otherwise = spoiled(batch.actor, slice(0, 2))
    other = gradient(batch._replace(actor=seen_otherwise, critic=seen_otherwise))
    assert not all(torch.equal(one, two) for one, two in zip(plain, other, strict=True)), "the state"


VARIANTS: dict[str, Any] = {
    "core": "lstm",
    "core_size": 7,
    "core_layers": 2,
    "core_place": "before",
    "critic_core": "identity",
    "reset_state_on_done": False,
    "chunk_length": 8,
    "burn_in": 1,
}


def outcome(**settings: Any) -> Tensor:
    """What two iterations make of the distribution's parameters."""
    ppo = PPO(experiment(Toy(BOX, terminates=0.2), replace(GRU, **settings), lr=constant(3e-3)))
    for _ in range(2):
        ppo.iterate()
    return torch.cat([parameter.flatten() for parameter in ppo.groups[0].net.distribution.parameters()])


def test_every_setting_of_memory_changes_what_is_learned() -> None:
    assert set(VARIANTS) == {item.name for item in fields(CoreConfig)}
    plain = outcome()
    assert torch.equal(plain, outcome())
    for name, value in VARIANTS.items():
        changed = outcome(**{name: value})
        assert changed.shape != plain.shape or not torch.allclose(plain, changed, rtol=0, atol=1e-6), name


def test_without_memory_its_settings_change_nothing() -> None:
    assert torch.equal(outcome(core="identity"), outcome(core="identity", chunk_length=5, burn_in=2, core_size=9))


@pytest.mark.parametrize(
    ("net", "settings", "said"),
    [
        ({"chunk_length": 32}, {}, "net.chunk_length is 32, but a rollout has only 16 steps of each row"),
        ({"chunk_length": 5}, {}, "net.chunk_length is 5, which does not divide the 16 steps"),
        ({"chunk_length": 8}, {"minibatches": 9}, "a rollout has only 8 chunks of 8 steps"),
        ({"shared": True, "critic_core": "identity"}, {}, "what is shared has one memory"),
    ],
)
def test_settings_that_do_not_fit(net: dict[str, Any], settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        PPO(experiment(Toy(BOX), replace(GRU, **net), **settings))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"core_size": 0}, "net.core_size is 0"),
        ({"chunk_length": 4, "burn_in": 4}, "net.burn_in is 4"),
        ({"burn_in": -1}, "net.burn_in is -1"),
    ],
)
def test_numbers_that_make_no_sense(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        NetConfig(**settings)


def test_memory_before_the_body_sees_no_images() -> None:
    with pytest.raises(UserError, match=r"the image has shape \(1, 12, 12\)"):
        PPO(experiment(Toy(BOX, images=True), replace(GRU, core_place="before")))


def test_a_policy_with_memory_predicts_step_by_step() -> None:
    ppo = PPO(experiment(Toy(BOX), GRU))
    nn.init.normal_(ppo.groups[0].net.distribution.head.weight)  # type: ignore[union-attr,arg-type]
    observations = torch.randn(3, 2, 5)
    with pytest.raises(UserError, match="make one for each episode"):
        ppo.predict(observations[0])
    memory, policy = Memory(), ppo.policy()
    state = policy.start(2)
    for step, observation in enumerate(observations):
        seen = ppo.env.reset(0)[0]._replace(actor=observation, mask=torch.ones(2, 0, dtype=torch.bool))
        expected, state = policy.act(seen, state, torch.full((2,), step == 0))
        assert torch.equal(torch.from_numpy(ppo.predict(observation, memory=memory)), expected)
    assert not torch.equal(torch.from_numpy(ppo.predict(observations[2], memory=Memory())), expected)
    with pytest.raises(UserError, match="the memory is of 2"):
        ppo.predict(observations[0, 0], memory=memory)


RANKS_RUN = """
    import torch
    from test_recurrence import learned_from_recorded
    def main(comm):
        rows = (slice(0, 1), slice(1, 3))[comm.rank]
        values = learned_from_recorded(comm, rows)
        alone = learned_from_recorded(None, slice(0, 3))
        torch.testing.assert_close(values, alone, rtol=0, atol=1e-6)
        print(f"rank {comm.rank} agrees")
"""


def learned_from_recorded(comm: Any, rows: slice) -> Tensor:
    """The parameters after an update from rows of a rollout that is the same whoever holds them."""
    torch.manual_seed(0)
    spec = box_spec(rows.stop - rows.start)
    config = experiment(Toy(BOX), replace(LSTM, burn_in=1), minibatches=4, lr=constant(0.01), normalize_rewards=False)
    group = Group(spec, config, comm or SoloComm(), 16, torch.Generator().manual_seed(0))
    rollout = recorded(group.net, spec, 16, rows, 3, seed=3)
    states = torch.randn(4, 3, 24, generator=torch.Generator().manual_seed(1))[:, rows]
    rollout, targets, sums = group.prepare(replace(rollout, actor_states=states), Progress(0, 1))
    group.comm.sum_(sums)
    group.learn(group.batch(rollout, targets, sums), 0, 0, Progress(0, 1))
    return group.learner.flat.values


@needs_mpirun
def test_two_ranks_learn_what_one_does() -> None:
    done = run(2, RANKS_RUN)
    assert done.returncode == 0 and done.stdout.count("agrees") == 2, done.stderr


def test_bodies_of_images_come_before_memory() -> None:
    ppo = PPO(experiment(Toy(DISCRETE, images=True), GRU))
    before = ppo.groups[0].learner.flat.values.clone()
    ppo.iterate()
    assert not torch.equal(before, ppo.groups[0].learner.flat.values)
