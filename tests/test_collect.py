"""What the collector keeps: facts beside each other, extras, and environments that misbehave."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from toys import BOX, DISCRETE, NET, Toy, experiment

from ppo_and_friends.errors import EnvironmentFailure
from ppo_and_friends.ppo import PPO
from ppo_and_friends.types import Obs, Step


def watched(toy: Toy) -> tuple[PPO, list[Step]]:
    """A PPO and every step its environment gives, copied; the environment overwrites its tensors."""
    ppo, seen = PPO(experiment(toy, NET)), []
    step = ppo.env.step

    def watch(actions: tuple[torch.Tensor, ...]) -> tuple[Step, ...]:
        (result,) = step(actions)
        seen.append(result)
        return (result,)

    ppo.collector.env.step = watch  # type: ignore[method-assign]
    return ppo, seen


def test_a_rollout_holds_what_the_environment_said() -> None:
    ppo, seen = watched(Toy(BOX, asymmetric=True, absent=0.2, terminates=0.2, truncates=0.2))
    for _ in range(2):
        seen.clear()
        (rollout,) = ppo.collector.collect()
        for name in ("terminated", "truncated", "active"):
            assert torch.equal(getattr(rollout, name), torch.stack([getattr(step, name) for step in seen]))
        assert torch.equal(rollout.rewards, torch.stack([step.reward for step in seen]))
        assert torch.equal(rollout.obs.actor[1:], torch.stack([step.obs.actor for step in seen]))  # type: ignore[arg-type]
        assert torch.equal(rollout.obs.critic[1:], torch.stack([step.obs.critic for step in seen]))  # type: ignore[arg-type]
        assert torch.equal(rollout.final.critic, torch.stack([step.final.critic for step in seen]))  # type: ignore[arg-type]
        assert torch.equal(rollout.logs, (rollout.rewards * 2).unsqueeze(1))
        ended = rollout.terminated | rollout.truncated
        assert torch.equal(rollout.first[1:], ended | ~rollout.active)
        assert torch.equal(rollout.age[1:], torch.where(rollout.first[1:-1], 0, rollout.age[:-1] + 1))
        assert torch.equal(rollout.ended, ended)


def test_the_environment_gets_actions_in_its_own_bounds_and_the_rollout_raw_ones() -> None:
    ppo, _ = watched(Toy(BOX))
    (rollout,) = ppo.collector.collect()
    given = ppo.env.actions  # type: ignore[attr-defined]
    assert torch.equal(given, ppo.groups[0].net.distribution.to_environment(rollout.actions[-1]))
    assert bool((rollout.actions.abs() > 1).any())


def test_an_episode_that_the_environment_goes_on_with_is_cut_but_not_ended() -> None:
    ppo, _ = watched(Toy(DISCRETE, terminates=0.0, truncates=0.5))
    step = ppo.collector.env.step
    ppo.collector.env.step = lambda actions: tuple(  # type: ignore[method-assign]
        result._replace(log=result.log | {"episode_continues": result.truncated.float()}) for result in step(actions)
    )
    (rollout,) = ppo.collector.collect()
    assert bool(rollout.truncated.any()) and not rollout.ended.any()


@pytest.mark.parametrize("where", ["observation", "critic", "final", "reward"])
def test_a_number_that_is_not_finite_names_row_and_step(where: str) -> None:
    ppo = PPO(experiment(Toy(BOX, asymmetric=True, terminates=0.0, truncates=0.0)))
    ppo.iterate()
    step, count = ppo.env.step, 0

    def spoil(actions: tuple[torch.Tensor, ...]) -> tuple[Step, ...]:
        nonlocal count
        (result,) = step(actions)
        count += 1
        if count != 6:
            return (result,)
        parts: dict[str, Any] = {"reward": result.reward, "obs": result.obs, "final": result.final}
        if where == "reward":
            parts["reward"] = result.reward.index_fill(0, torch.tensor([2]), math.nan)
        else:
            bad = [tensor.clone() for tensor in (result.obs.actor, result.obs.critic)]  # type: ignore[union-attr]
            bad[where == "critic"][2, 1] = math.inf
            parts["final" if where == "final" else "obs"] = Obs(bad[0], bad[1], result.obs.mask)
        return (result._replace(**parts),)

    ppo.collector.env.step = spoil  # type: ignore[method-assign]
    kind = "a reward" if where == "reward" else "an observation"
    with pytest.raises(EnvironmentFailure, match=f"^row 2 returned {kind}.* is not finite in step 5 .*, 37 steps into"):
        ppo.iterate()


def test_a_first_observation_that_is_not_finite_is_named() -> None:
    ppo = PPO(experiment(Toy(BOX)))
    reset = ppo.env.reset

    def spoiled(seed: int) -> tuple[Obs, ...]:
        (obs,) = reset(seed)
        bad = obs.actor.index_fill(0, torch.tensor([1]), math.nan)  # type: ignore[union-attr]
        return (obs._replace(actor=bad, critic=bad),)

    ppo.collector.env.reset = spoiled  # type: ignore[method-assign]
    with pytest.raises(EnvironmentFailure, match="^row 1 returned an observation.* is not finite to begin with: mend"):
        ppo.iterate()
