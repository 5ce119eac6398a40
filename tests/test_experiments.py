"""Every registered experiment builds, and runs one iteration with the settings of its launcher."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from ppo_and_friends import registry
from ppo_and_friends.ppo import PPO

ROWS, STEPS = 2, 8


@pytest.mark.parametrize("name", registry.names())
def test_one_iteration(name: str) -> None:
    """Only its size is changed."""
    experiment = registry.build(name)
    small = replace(experiment.ppo, steps_total=ROWS * STEPS, steps_per_row=0, epochs=2, minibatches=2)
    ppo = PPO(replace(experiment, envs_per_proc=ROWS, ppo=small))
    before = [parameter.detach().clone() for parameter in ppo.groups[0].net.parameters()]
    metrics = ppo.iterate()
    ppo.env.close()
    assert metrics["iteration"] == 1 and metrics["timesteps"] >= ROWS * STEPS
    assert all(math.isfinite(metrics[key]) for key in ("policy_loss", "value_loss", "kl", "grad_norm"))
    assert any(not old.equal(new) for old, new in zip(before, ppo.groups[0].net.parameters(), strict=True))
