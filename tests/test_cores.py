"""Memory: what cores promise each other, where it begins and ends, and that learning sees what acting saw."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from toys import DISCRETE, NET, Toy, box_spec, experiment, recorded

from ppo_and_friends.config import PPOConfig
from ppo_and_friends.net_config import CoreConfig
from ppo_and_friends.networks.cores import make_core
from ppo_and_friends.networks.net import Net
from ppo_and_friends.ppo import PPO
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
