"""Every registered experiment builds, runs one iteration with the settings of its launcher, and prints them."""

from __future__ import annotations

import math
import re
import shlex
from dataclasses import replace
from typing import Any

import pytest
from commands import ROOT, succeed

from ppo_and_friends import cli, registry
from ppo_and_friends.config import RunConfig
from ppo_and_friends.ppo import PPO

ROWS, STEPS = 2, 8
LEARNED = ("policy_loss", "value_loss", "kl", "grad_norm")


@pytest.mark.parametrize("name", registry.names())
def test_one_iteration(name: str) -> None:
    """Only its size is changed."""
    experiment = registry.build(name)
    small = replace(experiment.ppo, steps_total=ROWS * STEPS, steps_per_row=0, epochs=2, minibatches=2)
    net = replace(experiment.net, chunk_length=STEPS // 2)  # of effect on memory alone
    if hasattr(experiment.env, "agent_ids"):
        pytest.importorskip(re.split("[.:]", experiment.env.id)[0])
    ppo = PPO(replace(experiment, envs_per_proc=ROWS, ppo=small, net=net))
    before = [parameter.detach().clone() for parameter in ppo.groups[0].net.parameters()]
    metrics = ppo.iterate()
    ppo.env.close()
    assert metrics["iteration"] == 1 and metrics["timesteps"] >= ROWS * STEPS
    numbers = [value for key, value in metrics.items() if key.rpartition("/")[2] in LEARNED]
    assert len(numbers) == len(LEARNED) * len(ppo.groups) and all(map(math.isfinite, numbers))
    assert any(not old.equal(new) for old, new in zip(before, ppo.groups[0].net.parameters(), strict=True))


@pytest.mark.parametrize(
    "reference", [*registry.names(), f"{ROOT}/examples/my_env.py:MyTask", "gymnasium:FrozenLake-v1"]
)
def test_printed_settings_make_the_same_experiment(reference: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[Any, ...]] = []
    monkeypatch.setattr(cli, "execute", lambda *arguments: calls.append(arguments) or 0)
    succeed(*shlex.split(succeed("-e", reference, "--print_config"), comments=True))
    ((*called, on_gpu),) = calls
    assert called == [registry.build(reference), RunConfig(), reference]
    assert on_gpu is None or on_gpu() == called[0], "every setting was given, whichever a GPU would have had"
