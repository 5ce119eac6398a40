"""Memory: what cores promise each other, where it begins and ends, and that learning sees what acting saw."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from ranks import needs_mpirun, run
from torch import Tensor, nn
from toys import BODY, BOX, DISCRETE, NET, Toy, box_spec, experiment, recorded

from ppo_and_friends.config import NetConfig, PPOConfig
from ppo_and_friends.errors import UserError
from ppo_and_friends.net_config import CoreConfig
from ppo_and_friends.networks.cores import make_core
from ppo_and_friends.networks.net import Net
from ppo_and_friends.policy import Memory
from ppo_and_friends.ppo import PPO
from ppo_and_friends.schedules import constant
from ppo_and_friends.targets import compute_targets

INPUTS, STEPS, ROWS = 3, 9, 5
GRU = replace(NET, core="gru", core_size=6, chunk_length=4)
LSTM = replace(GRU, core="lstm", core_layers=2)


def core_of(kind: str, layers: int = 1) -> Any:
    torch.manual_seed(0)
    return make_core(kind, INPUTS, CoreConfig(core_size=4, core_layers=layers))


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("kind", ["identity", "gru", "lstm"])
def test_unrolling_equals_stepping_with_resets(kind: str, layers: int) -> None:
    core, x, first = core_of(kind, layers), torch.randn(STEPS, ROWS, INPUTS), torch.rand(STEPS, ROWS) < 0.3
    state = torch.randn(ROWS, core.state_size)
    output, states = core.unroll(x, state, first)
    assert output.shape == (STEPS, ROWS, core.features) and states.shape == (STEPS, ROWS, core.state_size)
    assert torch.equal(core.start(ROWS), torch.zeros(ROWS, core.state_size))
    for step in range(STEPS):
        one, state = core.step(x[step], torch.where(first[step].unsqueeze(-1), core.start(ROWS), state))
        torch.testing.assert_close(one, output[step], rtol=0, atol=1e-6)
        torch.testing.assert_close(state, states[step], rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_cores_compute_what_torchs_own_do(kind: str) -> None:
    core, x = core_of(kind, 2), torch.randn(STEPS, ROWS, INPUTS)
    theirs = nn.GRU(INPUTS, 4, 2) if kind == "gru" else nn.LSTM(INPUTS, 4, 2)
    order = [0, 1, 2] if kind == "gru" else [0, 1, 3, 2]  # torch's cell gate comes before its output gate

    def ordered(tensor: Tensor) -> Tensor:
        gates = tensor.detach().split(4)
        return torch.cat([gates[index] for index in order])

    for index, layer in enumerate(core.layers):
        recurrent_bias = torch.zeros(len(order) * 4)
        if kind == "gru":
            recurrent_bias[8:] = layer.new_bias.detach()
        values = {"weight_ih": layer.input_weight, "weight_hh": layer.recurrent_weight, "bias_ih": layer.bias}
        for name, value in values.items():
            getattr(theirs, f"{name}_l{index}").data = ordered(value)
        getattr(theirs, f"bias_hh_l{index}").data = recurrent_bias
    output, _ = core.unroll(x, core.start(ROWS), torch.zeros(STEPS, ROWS, dtype=torch.bool))
    torch.testing.assert_close(output, theirs(x)[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_nothing_passes_the_start_of_an_episode(kind: str) -> None:
    """Neither what was seen before it, nor a gradient back."""
    core, x = core_of(kind, 2), torch.randn(STEPS, ROWS, INPUTS, requires_grad=True)
    state = torch.randn(ROWS, core.state_size, requires_grad=True)
    first = torch.zeros(STEPS, ROWS, dtype=torch.bool)
    first[4, 2] = True
    output, _ = core.unroll(x, state, first)
    output[4:].sum().backward()
    assert x.grad is not None and state.grad is not None
    before = x.grad[:4].abs().sum((0, 2))
    assert before[2] == 0 and state.grad[2].abs().sum() == 0
    assert bool((before[[0, 1, 3, 4]] > 0).all()), "and elsewhere the past counts"
    fresh, _ = core.unroll(x[4:], core.start(ROWS), first[4:])
    torch.testing.assert_close(output[4:, 2], fresh[:, 2], rtol=0, atol=1e-6)


def test_initial_weights_of_gates() -> None:
    spec = box_spec(ROWS)
    for net in (GRU, LSTM):
        for layer in Net(spec, net, PPOConfig()).actor_core.layers:  # type: ignore[attr-defined]
            for gate in layer.recurrent_weight.split(net.core_size):
                torch.testing.assert_close(gate @ gate.t(), torch.eye(net.core_size), rtol=0, atol=1e-5)
            enter, keep, *others = layer.bias.split(net.core_size)
            assert bool((keep >= 0).all()) and bool((keep <= math.log(3)).all()) and len(keep.unique()) > 1, (
                "chunks of 4"
            )
            assert torch.equal(enter, -keep if net is LSTM else torch.zeros_like(keep))
            assert not any(bool(bias.any()) for bias in others)
        zeroed = Net(spec, replace(net, initialization="zero_biases"), PPOConfig()).actor_core.layers  # type: ignore[attr-defined]
        assert not any(bool(p.any()) for layer in zeroed for name, p in layer.named_parameters() if "bias" in name)


def chunks_of(ppo: PPO) -> list[Any]:
    """The batches that a run learns from, untouched by learning."""
    seen: list[Any] = []
    learner = ppo.groups[0].learner
    learner.step = lambda batch: (seen.append(batch), batch.parameters)[1]  # type: ignore[func-returns-value]
    return seen


def test_the_state_is_stored_at_chunk_starts_and_forgotten_exactly_at_episode_starts() -> None:
    ppo = PPO(experiment(Toy(DISCRETE, terminates=0.1), GRU))
    rows, state = ppo.groups[0].rows, torch.zeros(4, 6)
    net, decided = ppo.groups[0].net, []

    def decide(obs: Any, given: Tensor, first: Tensor, *rest: Any) -> Any:
        assert torch.equal(given, state), "carried from step to step, and from rollout to rollout"
        x = net.actor_body(net.actor_norm(obs.actor))
        _, expected = net.actor_core.step(x, torch.where(first.unsqueeze(-1), torch.zeros_like(given), given))
        action = net.act(obs, given, first, *rest)
        torch.testing.assert_close(action.state, expected, rtol=0, atol=1e-6)
        decided.append((given.clone(), bool(first.any())))
        state.copy_(action.state)
        return action

    rows.decide = decide
    for _ in range(3):
        (rollout,) = ppo.collector.collect()
        stored = [before for before, _ in decided[-16::4]]
        assert torch.equal(rollout.actor_states, torch.stack(stored))
    assert any(started for _, started in decided[1:]) and bool(state.any())


def test_final_values_are_of_the_state_after_the_step() -> None:
    """A critic whose core sums what it saw since the episode began: its values can be worked out by hand."""

    class Sum(nn.Module):
        features = state_size = 1

        def unroll(self, x: Tensor, state: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
            states = []
            for now, starts in zip(x, first, strict=True):
                state = state * ~starts.unsqueeze(-1) + now
                states.append(state)
            return torch.stack(states), torch.stack(states)

    net = Net(box_spec(1), NET, PPOConfig(normalize_observations=False))
    net.critic_trunk.body, net.critic_trunk.core = (lambda obs: obs[..., :1]), Sum()  # type: ignore[assignment]
    net.value_head = nn.Linear(1, 1, bias=False)
    nn.init.ones_(net.value_head.weight)
    rollout = recorded(net, box_spec(1), 4, slice(0, 1), 1, seed=0, absent=0.0)
    obs, final = torch.zeros(5, 1, 5), torch.zeros(4, 1, 5)
    obs[:, 0, 0] = torch.tensor([1.0, 2.0, 10.0, 20.0, 40.0])  # an episode of two steps, then another
    final[:, 0, 0] = torch.tensor([2.0, 100.0, 20.0, 40.0])  # the first is cut after its second step, at 100
    ended = torch.tensor([[False], [True], [False], [False]])
    rollout = replace(
        rollout,
        obs=rollout.obs._replace(actor=obs, critic=obs),
        final=rollout.final._replace(actor=final, critic=final),
        truncated=ended,
        terminated=torch.zeros_like(ended),
        first=torch.cat((torch.zeros(1, 1, dtype=torch.bool), ended)),
        rewards=torch.zeros(4, 1),
    )
    config = PPOConfig(gamma=1.0, gae_lambda=0.0)
    targets = compute_targets(net, rollout, torch.full((1, 1), 1000.0), config, length=2)
    assert targets.values[:, 0].tolist() == [1001, 1003, 10, 30]
    assert (targets.advantages + targets.values)[:, 0].tolist() == [1003, 1103, 30, 70]
    assert targets.critic_states[:, 0, 0].tolist() == [1000, 1003] and targets.critic_carry.item() == 30


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
    from test_cores import LSTM, learned_from_recorded
    def main(comm):
        rows = (slice(0, 1), slice(1, 3))[comm.rank]
        values = learned_from_recorded(comm, rows)
        alone = learned_from_recorded(None, slice(0, 3))
        torch.testing.assert_close(values, alone, rtol=0, atol=1e-6)
        print(f"rank {comm.rank} agrees")
"""


def learned_from_recorded(comm: Any, rows: slice) -> Tensor:
    """The parameters after an update from rows of a rollout that is the same whoever holds them."""
    from ppo_and_friends.comm import SoloComm
    from ppo_and_friends.group import Group
    from ppo_and_friends.schedules import Progress

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
    ppo = PPO(experiment(Toy(DISCRETE, images=True), replace(GRU, actor=BODY, critic=BODY)))
    before = ppo.groups[0].learner.flat.values.clone()
    ppo.iterate()
    assert not torch.equal(before, ppo.groups[0].learner.flat.values)
