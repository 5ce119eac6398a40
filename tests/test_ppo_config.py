"""No setting of PPOConfig is without effect."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from toys import BOX, NET, Toy, experiment

from ppo_and_friends.config import BodyConfig, PPOConfig, check_experiment
from ppo_and_friends.errors import UserError
from ppo_and_friends.ppo import PPO
from ppo_and_friends.schedules import constant

ADAPTIVE = {"target_kl": 0.005, "epochs": 4}
# field: (another value, what else both runs set)
VARIANTS: dict[str, tuple[Any, dict[str, Any]]] = {
    "lr": (constant(1e-3), {}),
    "critic_lr": (constant(1e-3), {}),
    "gamma": (0.5, {}),
    "gae_lambda": (0.5, {}),
    "epochs": (3, {}),
    "minibatches": (5, {}),
    "steps_total": (48, {"steps_per_row": 0, "steps_total": 64}),
    "steps_per_row": (12, {}),
    "clip_range": (constant(0.001), {}),
    "clip_shape": ("smooth", {}),
    "value_clip": (0.001, {}),
    "value_weight": (2.0, {}),
    "entropy_weight": (constant(0.1), {}),
    "bounds_weight": (1.0, {"lr": constant(0.3)}),
    "soft_bound": (0.0, {"bounds_weight": 1.0}),
    "max_grad_norm": (0.01, {}),
    "stop_kl": (1e-6, {}),
    "target_kl": (0.1, {"target_kl": 1e-5}),
    "kl_reference": ("previous_visit", ADAPTIVE),
    "kl_schedule": ("epoch", ADAPTIVE),
    "lr_bounds": ((1e-6, 4e-3), ADAPTIVE),
    "max_ts_per_ep": (2, {}),
    "soft_resets": (False, {}),
    "normalize_observations": (False, {}),
    "normalize_rewards": (False, {}),
    "normalize_values": (True, {}),
    "normalize_advantages": (False, {}),
    "observation_clip": (0.5, {}),
    "reward_clip": ((-0.1, 0.1), {}),
    "bootstrap_clip": ((-0.01, 0.01), {}),
    "timeout_value": ("acted_on", {}),
    "reward_scale": (3.0, {"normalize_rewards": False}),
    "reward_shift": (3.0, {}),
    "adam_eps": (0.1, {}),
    "adam_betas": ((0.5, 0.9), {}),
}


def outcome(settings: dict[str, Any]) -> torch.Tensor:
    """The parameters after two iterations."""
    ppo = PPO(experiment(Toy(BOX), NET, **{"lr": constant(3e-3), **settings}))
    for _ in range(2):
        ppo.iterate()
    return ppo.groups[0].learner.flat.values


def test_every_field_has_a_variant() -> None:
    assert set(VARIANTS) == {item.name for item in fields(PPOConfig)}


@pytest.mark.parametrize("name", VARIANTS)
def test_every_field_changes_what_is_learned(name: str) -> None:
    value, base = VARIANTS[name]
    plain, again, changed = outcome(base), outcome(base), outcome({**base, name: value})
    assert torch.equal(plain, again)
    assert not torch.allclose(plain, changed, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"ppo": PPOConfig(timeout_value="None")}, "ppo.timeout_value is 'None', but must be one of reached, acted_on"),
        ({"ppo": PPOConfig(normalize_rewards="off")}, "ppo.normalize_rewards is 'off', but must be True or False"),
        ({"net": replace(NET, core="rnn")}, "net.core is 'rnn', but must be one of identity, gru, lstm"),
        ({"net": replace(NET, critic=BodyConfig(activation="Tanh"))}, "net.critic.activation is 'Tanh', but must be"),
        ({"compile": True}, "compile is True, but must be one of auto, on, off"),
    ],
)
def test_words_and_switches_that_a_launcher_made_up_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=re.escape(said)):
        check_experiment(replace(experiment(Toy(BOX)), **changes), 4)
