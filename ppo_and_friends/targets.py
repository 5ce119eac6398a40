"""From facts to what is learned from them: the critic once over a rollout, advantages, and one reduction."""

from __future__ import annotations

import torch
from torch import Tensor

from ppo_and_friends.config import PPOConfig
from ppo_and_friends.functional.returns import gae
from ppo_and_friends.minibatch import Batch, fold
from ppo_and_friends.networks.net import Net
from ppo_and_friends.rollout import Rollout, Targets
from ppo_and_friends.types import Obs, Tree, tree_map

SUMS = 5  # length of `advantage_sums`


@torch.no_grad()
def compute_targets(net: Net, rollout: Rollout, carry: Tensor, config: PPOConfig, length: int = 1) -> Targets:
    """Values, advantages and returns.

    Args:
        net: the critic and its normalisers.
        rollout: the facts, rewards as add-ons transformed them.
        carry: `[N, S]`, the critic core's state where this rollout begins.
        config: discount, trace decay, cuts and the bootstrap's bounds.
        length: steps of a chunk.
    """
    steps = len(rollout.rewards)
    normalized = net.critic_norm(tree_map(lambda part: part[:-1], rollout.obs.critic))
    outputs, states = net.values(normalized, carry, rollout.first[:-1])
    values = net.value_norm.denormalize(outputs)
    next_values = net.value_norm.denormalize(_final_values(net, rollout, states))
    if config.timeout_value == "acted_on":
        next_values = torch.where(rollout.truncated, values, next_values)
    cut = rollout.truncated | rollout.terminated | ~rollout.active
    cut[:-1] |= ~rollout.active[1:]  # a row that goes absent without an end is bootstrapped, not continued
    if config.max_ts_per_ep:
        cut = cut | ((rollout.age + 1) % config.max_ts_per_ep == 0)
    # Only a value that stands for a cut-off future is bounded; the others are steps of the same trajectory.
    ends = cut.clone()
    ends[-1] = True
    next_values = torch.where(ends, next_values.clamp(*config.bootstrap_clip), next_values)
    terminated = rollout.terminated | rollout.truncated if config.timeout_value == "none" else rollout.terminated
    advantages = gae(rollout.rewards, values, next_values, terminated, cut, config.gamma, config.gae_lambda)
    before = torch.cat((carry.unsqueeze(0), states[:-1]))
    weights = rollout.active.to(values.dtype)
    return Targets(values, advantages, advantages + values, weights, before[:steps:length], states[-1], outputs)


def _final_values(net: Net, rollout: Rollout, states: Tensor) -> Tensor:
    """Values `[T, N]`, in normalised units, of what each action led to: one step from the state after it."""
    steps, rows = rollout.rewards.shape
    if rollout.final_index is None:
        final, after = rollout.final.critic, states.reshape(steps * rows, -1)
        flat = tree_map(lambda part: part.flatten(0, 1), final)
        return _step_values(net, flat, after).view(steps, rows)
    # Where nothing was cut, the next row is what the action led to.
    following = net.critic_norm(tree_map(lambda part: part[1:], rollout.obs.critic))
    flat = tree_map(lambda part: part.flatten(0, 1), following)
    values = _step_values(net, flat, states.reshape(steps * rows, -1), normalized=True)
    if len(rollout.final_index):
        after = states.reshape(steps * rows, -1)[rollout.final_index]
        values[rollout.final_index] = _step_values(net, rollout.final.critic, after)
    return values.view(steps, rows)


def _step_values(net: Net, observation: Tree, state: Tensor, normalized: bool = False) -> Tensor:
    """[B, ...] to [B]: one step of the critic's core."""
    ready = observation if normalized else net.critic_norm(observation)
    ahead = tree_map(lambda part: part.unsqueeze(0), ready)
    no_start = torch.zeros(1, len(state), dtype=torch.bool, device=state.device)
    return net.values(ahead, state, no_start)[0].squeeze(0)


def measure(net: Net, rollout: Rollout, targets: Targets) -> None:
    """Set the deltas of the observation and value moments from this rank's rollout."""
    obs: Obs = rollout.obs
    net.actor_norm.measure(tree_map(lambda part: part[:-1], obs.actor), targets.weights)
    if net.critic_norm is not net.actor_norm:
        net.critic_norm.measure(tree_map(lambda part: part[:-1], obs.critic), targets.weights)
    net.value_norm.measure(targets.returns, targets.weights)


def advantage_sums(targets: Targets) -> Tensor:
    """What the reduction of a rollout carries, `[SUMS]` float64: weight, and first and second moments of advantages
    (which are the errors of the values) and of returns."""
    weights, advantages, returns = (x.double() for x in (targets.weights, targets.advantages, targets.returns))
    return torch.stack(
        (
            weights.sum(),
            (weights * advantages).sum(),
            (weights * advantages.square()).sum(),
            (weights * returns).sum(),
            (weights * returns.square()).sum(),
        )
    )


def explained_variance(sums: list[float]) -> float:
    """1 - Var(returns - values) / Var(returns), from `advantage_sums` of all ranks; NaN where returns do not vary."""
    weight, errors, squared_errors, returns, squared_returns = sums
    if not weight:
        return float("nan")
    variance = squared_returns / weight - (returns / weight) ** 2
    return 1 - (squared_errors / weight - (errors / weight) ** 2) / variance if variance > 1e-12 else float("nan")


@torch.no_grad()
def make_batch(net: Net, rollout: Rollout, targets: Targets, sums: Tensor, config: PPOConfig, length: int = 1) -> Batch:
    """One rollout as a `Batch` `[L, C * N]`: observations normalised once, advantages by the moments of all ranks."""
    advantages = targets.advantages
    if config.normalize_advantages:
        mean = sums[1] / sums[0].clamp_min(1)
        std = (sums[2] / sums[0].clamp_min(1) - mean.square()).clamp_min(0).sqrt()
        advantages = (advantages - mean.to(advantages.dtype)) / (std.to(advantages.dtype) + 1e-8)
    actor = net.actor_norm(tree_map(lambda part: part[:-1], rollout.obs.actor))
    symmetric = rollout.obs.critic is rollout.obs.actor
    previous_visit = config.target_kl > 0 and config.kl_reference == "previous_visit"
    critic = actor if symmetric else net.critic_norm(tree_map(lambda part: part[:-1], rollout.obs.critic))
    batch = Batch(
        actor=actor,
        critic=critic,
        mask=rollout.obs.mask[:-1],
        actions=rollout.actions,
        log_probs=rollout.log_probs,
        parameters=rollout.parameters,
        reference=rollout.parameters.clone() if previous_visit else rollout.parameters,
        values=targets.outputs,
        advantages=advantages,
        returns=net.value_norm.normalize(targets.returns),
        weights=targets.weights,
        first=rollout.first[:-1],
        actor_states=rollout.actor_states,
        critic_states=targets.critic_states,
        extras=targets.extras,
    )
    # States are kept per chunk, not per step: [C, N, S] folds to [1, C * N, S].
    steps = len(targets.values)
    batch = batch.map(lambda tensor: fold(tensor, length if len(tensor) == steps else 1))
    if net.warm_up:
        batch = batch._replace(weights=batch.weights.clone())
        batch.weights[: net.warm_up] = 0
    return batch
