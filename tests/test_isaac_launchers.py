"""The launchers of the flying tasks and the hands: rl_games' sizes, and an iteration with tiny ones."""

from __future__ import annotations

import math
import runpy
from dataclasses import replace
from pathlib import Path

import pytest

from ppo_and_friends import registry
from ppo_and_friends.ppo import PPO

LAUNCHERS = {  # rows, steps of a row, minibatch size, epochs, frames: rl_games' own
    "IsaacQuadcopter": (8192, 8, 16384, 8, 32.8e6),
    "IsaacIngenuity": (4096, 16, 16384, 8, 32.8e6),
    "IsaacCrazyflie": (4096, 16, 16384, 8, 65.5e6),
    "IsaacShadowHand": (16384, 8, 32768, 5, 655e6),
    "IsaacShadowHandAsymmetric": (16384, 8, 16384, 8, 1.31e9),
    "IsaacAllegroHand": (16384, 8, 32768, 5, 655e6),
}


BOOTSTRAPPED = {"IsaacAnt", "IsaacHumanoid", "IsaacAnymal", "IsaacShadowHand", "IsaacAllegroHand"}


@pytest.fixture
def launchers(monkeypatch: pytest.MonkeyPatch) -> dict[str, registry.Launcher]:
    """Those of environments/isaac.py, whether or not the registry lists that family."""
    found: dict[str, registry.Launcher] = {}
    monkeypatch.setattr(registry, "_launchers", found)
    runpy.run_path(str(Path(registry.__file__).parents[1] / "environments" / "isaac.py"))
    return found


def test_settings_that_rl_games_has_for_some_of_them(launchers: dict[str, registry.Launcher]) -> None:
    """value_bootstrap where its files set it, schedule_type standard for the hands, a central value for one."""
    made = {name: launcher() for name, launcher in launchers.items()}
    assert {name for name, one in made.items() if one.ppo.timeout_value == "acted_on"} == BOOTSTRAPPED
    assert {one.ppo.timeout_value for one in made.values()} == {"acted_on", "none"}
    assert {name for name, one in made.items() if one.ppo.kl_schedule == "epoch"} == {n for n in made if "Hand" in n}
    assert [name for name, one in made.items() if one.ppo.own_critic_lr] == ["IsaacShadowHandAsymmetric"]
    assert {one.net.initialization for one in made.values()} == {"zero_biases"}


@pytest.mark.parametrize("name", LAUNCHERS)
def test_launchers(launchers: dict[str, registry.Launcher], name: str) -> None:
    """The sizes that the table gives, and one iteration with tiny ones."""
    experiment = replace(launchers[name](), name=name)
    ppo, (rows, steps, minibatch, epochs, frames) = experiment.ppo, LAUNCHERS[name]
    assert (experiment.envs_per_proc, ppo.steps_per_row, ppo.epochs) == (rows, steps, epochs)
    assert rows * steps == ppo.minibatches * minibatch
    assert experiment.num_timesteps == pytest.approx(frames, rel=2e-3)
    small = replace(ppo, minibatches=2, epochs=2, steps_per_row=4)
    trainer = PPO(replace(experiment, envs_per_proc=2, ppo=small))
    metrics = trainer.iterate()
    trainer.env.close()
    assert metrics["timesteps"] >= 8 and all(math.isfinite(metrics[key]) for key in ("policy_loss", "value_loss", "kl"))
