"""The examples run as a user would start them."""

from __future__ import annotations

import dataclasses
import math
import os
import runpy
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from commands import TINY, succeed
from tensor_toys import LabEnv
from torch.distributions import Laplace, kl_divergence
from toys import BOX

from ppo_and_friends import registry
from ppo_and_friends.config import NetConfig, RunConfig
from ppo_and_friends.custom import load_custom
from ppo_and_friends.errors import UserError
from ppo_and_friends.ppo import PPO

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"


def test_a_run_from_python_can_be_loaded_and_played(tmp_path: Path) -> None:
    load_custom(f"{EXAMPLES}/train_cartpole.py:main")(num_timesteps=2048, state_path=str(tmp_path))
    score = load_custom(f"{EXAMPLES}/load_and_predict.py:main")(str(tmp_path / "cartpole_example"))
    assert 5 <= score <= 500


@pytest.mark.parametrize(
    ("words", "said"), [((), "Name a trained run: python "), (("/nope",), "error: There is no state at /nope.")]
)
def test_without_a_run_the_example_says_so(words: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    script = str(EXAMPLES / "load_and_predict.py")
    monkeypatch.setattr(sys, "argv", [script, *words])
    with pytest.raises(SystemExit, match=f"^{said}.*") as end:
        runpy.run_path(script, run_name="__main__")
    assert isinstance(end.value.code, str) and "\n" not in end.value.code  # which Python prints, and exits with 1


def test_a_callback_ends_the_run() -> None:
    stop = load_custom(f"{EXAMPLES}/train_cartpole.py:stop_when_solved")
    metrics = {"timesteps": 1000.0, "mean_return": 474.0}
    assert not stop(None, metrics)
    assert stop(None, metrics | {"mean_return": 476.0})


def test_a_launcher_of_a_users_own_trains(tmp_path: Path) -> None:
    reference = f"{EXAMPLES / 'my_env.py'}:MyTask"
    assert registry.build(reference).name == "MyTask"
    words = [sys.executable, "main.py", "-e", reference, "--num_timesteps", "2048", "--state_path", str(tmp_path)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "MyTask" / "progress.csv").is_file()


def test_a_body_and_a_distribution_of_a_users_own_train(tmp_path: Path) -> None:
    body, noise = (f"{EXAMPLES / 'my_nets.py'}:{name}" for name in ("Shortcut", "Laplace"))
    nets = ("--net.actor.custom", body, "--net.critic.custom", body, "--net.custom_distribution", noise)
    words = ("-e", "Pendulum", *TINY, "--net.distribution", "auto", *nets, "--state_path", tmp_path)
    assert "Done: 128 timesteps" in succeed(*words, "--num_timesteps", 128)


def test_the_distribution_of_a_users_own_equals_torchs() -> None:
    made = load_custom(f"{EXAMPLES}/my_nets.py:Laplace")(3, BOX, NetConfig())
    parameters, others = torch.randn(2, 6, 4)
    theirs, other = (Laplace(x[:, :2], x[:, 2:].exp()) for x in (parameters, others))
    actions = torch.randn(6, 2)
    torch.testing.assert_close(made.log_prob(parameters, actions), theirs.log_prob(actions).sum(-1))
    torch.testing.assert_close(made.entropy(parameters), theirs.entropy().sum(-1))
    torch.testing.assert_close(made.kl(others, parameters), kl_divergence(other, theirs).sum(-1))
    draws = made.draws(1, 40_000, torch.Generator().manual_seed(0))
    torch.testing.assert_close(draws.var(), torch.tensor(2.0), rtol=0.05, atol=0)  # a Laplace of scale 1


def test_the_environment_of_a_users_own_draws(tmp_path: Path) -> None:
    reference = f"{EXAMPLES / 'my_env.py'}:MyTask"
    words = ("-e", reference, "--random_policy", "--num_test_runs", 1, "--render_gif", "--state_path", tmp_path)
    assert "GIF: " in succeed(*words) and (tmp_path / "MyTask" / "gif" / "MyTask-random.gif").is_file()


def test_go1_asks_mjlab_for_as_many_robots_as_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand-ins for mjlab's modules, which need another MuJoCo than this project."""
    experiment = registry.build(f"{EXAMPLES / 'mjlab_go1.py'}:Go1")
    monkeypatch.setitem(sys.modules, "mjlab", None)
    with pytest.raises(UserError, match="Go1 .* needs a package that this Python cannot import"):
        experiment.env.make(2)

    def made(config: SimpleNamespace, device: str, render_mode: str | None) -> LabEnv:
        assert (config.task, device, render_mode) == ("Mjlab-Velocity-Rough-Unitree-Go1", "cpu", "rgb_array")
        return LabEnv(config.scene.num_envs, groups=("actor", "critic"))

    modules = {
        "mjlab": {},
        "mjlab.tasks": {},
        "mjlab.envs": {"ManagerBasedRlEnv": made},
        "mjlab.tasks.registry": {"load_env_cfg": lambda task: SimpleNamespace(task=task, scene=SimpleNamespace())},
    }
    for name, contents in modules.items():
        module = ModuleType(name)
        vars(module).update(contents)
        monkeypatch.setitem(sys.modules, name, module)
    rough = dataclasses.replace(experiment.env, kwargs={"terrain": "rough"}, device="cpu")
    monkeypatch.setenv("MUJOCO_GL", "")
    for library, chosen in (("libEGL.so.1", None), (None, "disable")):
        monkeypatch.delenv("MUJOCO_GL")
        monkeypatch.setattr("ctypes.util.find_library", {"EGL": library}.get)
        assert rough.make(3, render=True).spec.groups[0].rows == 3
        assert os.environ.get("MUJOCO_GL") == chosen
        monkeypatch.setenv("MUJOCO_GL", "")


def test_go1_learns_with_mjlabs_settings() -> None:
    """Where mjlab is installed, which is in no environment that has this project's MuJoCo."""
    pytest.importorskip("mjlab.tasks")
    from mjlab.tasks.registry import load_rl_cfg  # pyright: ignore[reportMissingImports]

    experiment = registry.build(f"{EXAMPLES / 'mjlab_go1.py'}:Go1")
    ppo, theirs = experiment.ppo, load_rl_cfg("Mjlab-Velocity-Flat-Unitree-Go1")
    algorithm = theirs.algorithm
    for mine, other in (
        (ppo.steps_per_row, theirs.num_steps_per_env),
        (ppo.epochs, algorithm.num_learning_epochs),
        (ppo.minibatches, algorithm.num_mini_batches),
        (ppo.gamma, algorithm.gamma),
        (ppo.gae_lambda, algorithm.lam),
        (ppo.target_kl, algorithm.desired_kl),
        (ppo.max_grad_norm, algorithm.max_grad_norm),
        (ppo.value_weight / 2, algorithm.value_loss_coef),
        (set(ppo.lr.values()), {algorithm.learning_rate}),
        (set(ppo.entropy_weight.values()), {algorithm.entropy_coef}),
        (set(ppo.clip_range.values()) | {ppo.value_clip}, {algorithm.clip_param}),
        (experiment.net.actor.hidden, theirs.actor.hidden_dims),
        (experiment.net.critic.hidden, theirs.critic.hidden_dims),
        (ppo.normalize_observations, theirs.actor.obs_normalization),
    ):
        assert mine == other
    small = dataclasses.replace(experiment, envs_per_proc=4, compile="off")
    metrics = PPO(small, RunConfig(device="cpu")).iterate()
    assert math.isfinite(metrics["kl"])
