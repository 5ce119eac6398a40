"""Recorded iterations beside plain ones; most of it needs a GPU."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from toys import BOX, DISCRETE, Toy, experiment

from ppo_and_friends import registry
from ppo_and_friends.accelerate import accelerate
from ppo_and_friends.addons.icm import ICM
from ppo_and_friends.addons.rnd import RND
from ppo_and_friends.config import Experiment, RunConfig
from ppo_and_friends.graphs import Kept, Recorded, obstacle
from ppo_and_friends.ppo import PPO
from ppo_and_friends.schedules import linear
from ppo_and_friends.types import Obs

gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
ROWS = 64


def contact_free(**changes: Any) -> Experiment:
    return on_warp("IsaacCartpole", **changes)


def on_warp(name: str, **changes: Any) -> Experiment:
    whole = registry.build(name)
    env = replace(whole.env, simulator="warp")
    ppo = replace(whole.ppo, minibatches=4, epochs=3, normalize_rewards=True)
    return replace(whole, env=env, ppo=ppo, envs_per_proc=ROWS, **changes)


def trained(iterations: int, **changes: Any) -> tuple[PPO, list[dict[str, float]], list[str]]:
    said: list[str] = []
    ppo = PPO(contact_free(**{"compile": "off", **changes}))
    accelerate(ppo, said.append)
    return ppo, [ppo.iterate() for _ in range(iterations)], said


@pytest.mark.gpu
@gpu
@pytest.mark.parametrize("addons", [(), (ICM(weight=linear(1.0, 0.0)), RND())], ids=["", "bonuses"])
@pytest.mark.parametrize("compiled", ["off", "on"])
def test_recorded_iterations_are_those_of_plain_ones(compiled: str, addons: tuple[Any, ...]) -> None:
    plain, one, _ = trained(7, cuda_graphs="off", compile=compiled, addons=addons)
    recorded, other, said = trained(7, compile=compiled, addons=addons)
    parts = (recorded.collect, recorded.digest, recorded.groups[0].learner.epoch)
    assert len(said) == (compiled == "on"), said
    assert all(isinstance(part, Recorded) and part.graph is not None for part in parts)
    assert recorded.collector.taken == plain.collector.taken and "seconds_iterating" in other[-1]
    torch.testing.assert_close(
        recorded.groups[0].learner.flat.values, plain.groups[0].learner.flat.values, rtol=1e-4, atol=1e-5
    )
    for mine, theirs in zip(one, other, strict=True):
        for name in (
            "timesteps",
            "episodes",
            "mean_return",
            "mean_length",
            "value_loss",
            "kl",
            "lr",
            "rollout_simulation_failures",
            *(("icm_forward_loss", "rollout_icm_bonus", "rollout_rnd_bonus") if addons else ()),
        ):
            assert mine[name] == pytest.approx(theirs[name], rel=1e-3, abs=1e-5, nan_ok=True), name


@pytest.mark.gpu
@gpu
@pytest.mark.parametrize("compiled", ["off", "on"])
@pytest.mark.parametrize("toy", [Toy(BOX), Toy(DISCRETE, images=True, truncates=0.3)], ids=["box", "image"])
def test_actions_and_updates_are_recorded_for_an_environment_that_waits(toy: Toy, compiled: str) -> None:
    values = []
    for graphs in ("off", "auto"):
        config = replace(experiment(toy, minibatches=2, epochs=3), cuda_graphs=graphs, compile=compiled)
        said: list[str] = []
        ppo = PPO(config, RunConfig(device="cuda", random_seed=1))
        accelerate(ppo, said.append)
        returns = [ppo.iterate()["mean_return"] for _ in range(4)]
        values.append((returns, ppo.groups[0].learner.flat.values))
    assert "Only actions and updates are recorded" in said[-1] and len(said) == 1 + (compiled == "on"), said
    for part in (ppo.groups[0].rows.decide, ppo.groups[0].learner.epoch):
        assert isinstance(part, Kept) and isinstance(part.function, Recorded) and part.function.graph is not None
    (returns, plain), (others, recorded) = values
    assert others == pytest.approx(returns, rel=1e-3, nan_ok=True)
    torch.testing.assert_close(recorded, plain, rtol=1e-3, atol=1e-4)


def test_kept_arguments_are_the_same_objects_with_new_numbers() -> None:
    seen: list[tuple[Obs, torch.Tensor]] = []

    def function(obs: Obs, own: torch.Tensor) -> None:
        seen.append((obs, own))
        own += 1

    kept = Kept(function)
    one, two = (torch.full((3,), value) for value in (1.0, 2.0))
    for number, own in ((one, one.clone()), (two, two.clone())):
        obs = Obs(number, number, number[:0])
        kept(obs, own)
        assert torch.equal(seen[-1][0].actor, number) and torch.equal(seen[-1][1], number + 1)  # type: ignore[arg-type]
        kept(obs, own)
        assert torch.equal(seen[-1][1], number + 2), "what the function made of the same objects stays"
        assert torch.equal(own, number), "callers keep theirs"
    (first, own), *others = seen
    assert first.critic is first.actor
    assert all(obs is first and each is own for obs, each in others)


@pytest.mark.gpu
@gpu
@pytest.mark.parametrize("name", ["IsaacCartpole", "IsaacAnt", "IsaacShadowHand"])
def test_nothing_in_an_iteration_waits_for_the_gpu(name: str) -> None:
    ppo = PPO(on_warp(name, compile="off", cuda_graphs="off"))
    accelerate(ppo, print)
    for _ in range(2):
        ppo.iterate()
    ppo.env.sim.bind("qpos")[3] = torch.nan  # type: ignore[attr-defined]  # a world that breaks is masked, reset and counted
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        batches, sums = ppo.digest(ppo.collect())
        ppo.groups[0].learner.epoch(batches[0])
    finally:
        torch.cuda.set_sync_debug_mode("default")
    samples = ppo.steps * ROWS
    assert ppo.groups[0].report(sums.tolist(), samples)["rollout_simulation_failures"] == 1
    assert bool(ppo.groups[0].learner.flat.values.isfinite().all())


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (experiment(Toy(BOX)), "waits for the GPU"),
        (contact_free(addons=(ICM(), RND())), ""),
        (replace(contact_free(), ppo=replace(contact_free().ppo, soft_resets=False)), "soft_resets"),
        (replace(contact_free(), net=replace(contact_free().net, distribution="gsde")), "draws its noise"),
    ],
    ids=["environment", "none", "resets", "noise"],
)
def test_what_cannot_be_recorded_is_named(config: Experiment, reason: str) -> None:
    """On Warp's CPU backend, whose environments claim the same."""
    if hasattr(config.env, "task"):
        config = replace(config, env=OnCpu(config.env.task))
    said = obstacle(PPO(config))
    assert (reason in said) if reason else said == ""


class OnCpu:
    """The GPU's environment on Warp's CPU backend."""

    def __init__(self, task: Any) -> None:
        self.task = task

    def make(self, rows: int, threads: int = 1, render: bool = False) -> Any:
        from ppo_and_friends.vector.sim.device_env import DeviceTaskEnv
        from ppo_and_friends.vector.sim.warp_gpu import WarpSim

        return DeviceTaskEnv(self.task, WarpSim(self.task.model(), 4, self.task.name, "cpu"), "mujoco_warp")
