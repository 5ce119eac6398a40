"""Input that cannot work: one clear sentence, a non-zero exit, nothing trained and nothing on disk changed."""

from __future__ import annotations

import json
import shutil
import textwrap
from pathlib import Path

import pytest
import torch
from commands import ROLLOUT, TINY, Result, call, finish, kept, refuse, sentence, spawn, succeed

CART = ("-e", "CartPole", *TINY)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state path with two states of CartPole."""
    path = tmp_path_factory.mktemp("trained")
    succeed(*CART, "--num_timesteps", 2 * ROLLOUT, "--save_every", 1, "--state_path", path)
    return path


@pytest.fixture
def path(trained: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    shutil.copytree(trained, tmp_path / "states")
    return tmp_path / "states"


def launcher(folder: Path, body: str, step: str = "pass", name: str = "task") -> str:
    """A reference to a launcher file; `step` is what its environment does before it steps."""
    text = f"""
        import numpy as np
        from gymnasium.envs.classic_control import CartPoleEnv
        from ppo_and_friends.config import Experiment
        from ppo_and_friends.vector.gym_vec import GymEnv

        class Mine(CartPoleEnv):
            count = 0
            def step(self, action):
                self.count += 1
                observation, reward, *rest = super().step(action)
                if self.count == 5:
                    {step}
                return observation, reward, *rest
    """
    file = folder / "mine.py"
    file.write_text(textwrap.dedent(text) + "\n" + textwrap.dedent(body))
    return f"{file}:{name}"


TASK = "task = Experiment(env=GymEnv(id='Mine', factory=Mine))"


def failed(result: Result) -> str:
    """The sentence of a run that an environment ended."""
    assert result.code == 1
    return sentence(result.err)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--num_timesteps", "-1"), "num_timesteps is -1"),
        (("--num_timesteps", "a lot"), "not a whole number"),
        (("--envs_per_proc", "0"), "envs_per_proc is 0"),
        (("--env_workers", "-1"), "-1"),
        (("--ppo.minibatches", "1000"), "only 64 samples"),
        (("--ppo.lr", "-0.1"), "ppo.lr is -0.1"),
        (("--net.core", "lstm", "--net.chunk_length", "64"), "a rollout has only 32 steps of each row"),
        (("--net.core", "gru", "--net.chunk_length", "5"), "does not divide the 32 steps"),
        (("--net.core", "rnn"), "rnn"),
        (("--net.chunk_length", "32"), "--net.chunk_length is 32, but without memory it has no effect"),
        (("--env.separate", "True"), "CartPole-v1 has no setting 'separate'"),
        (("--gif_fps", "-1"), "gif_fps is -1"),
        (("--gif_seconds", "0"), "gif_seconds is 0"),
        (("--frame_pause", "-1"), "frame_pause is -1"),
        (("--max_iterations", "-1"), "max_iterations is -1"),
        (("--save_every", "-1"), "save_every is -1"),
        (("--net.actor.hidden", "64", "0"), "layers of 1 or more"),
        (("--net.actor.hidden", "-64"), "layers of 1 or more"),
        (("--evaluation.every", "-1"), "evaluation.every is -1"),
        (("--ppo.value_weight", "-1"), "value_weight is -1"),
        (("--ppo.adam_betas", "0.9", "1.5"), "adam_betas"),
        (("--device", "toaster"), "--device is 'toaster'"),
        (("--env.nonsense", "3"), "nonsense"),
        (("--clobber", "--test"), "--clobber"),
        (("--checkpoint", "absent.pt"), "absent.pt does not exist"),
        (("--init_from", "absent.pt", "--name", "new"), "There is no state at absent.pt"),
        (("--name", "../elsewhere"), "the name of one directory"),
    ],
)
def test_wrong_values(words: tuple[str, ...], said: str, path: Path) -> None:
    before = kept(path)
    assert said in refuse(*CART, "--num_timesteps", 3 * ROLLOUT, "--state_path", path, *words)
    assert kept(path) == before


def test_a_state_path_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    assert "is a file, but a directory is needed" in refuse(*CART, "--state_path", tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"
    assert "cannot be written" in refuse(*CART, "--state_path", "/proc/nope")


def test_a_test_without_a_state(tmp_path: Path) -> None:
    message = refuse("-e", "CartPole", "--num_test_runs", 2, "--state_path", tmp_path / "none")
    assert "There is no saved state" in message and "train first with python main.py -e CartPole" in message
    assert not (tmp_path / "none").exists()
    assert "no best state" in refuse("-e", "CartPole", "--test", "--checkpoint", "best", "--state_path", tmp_path)


def test_a_state_of_another_experiment(path: Path) -> None:
    before = kept(path)
    words = ("-e", "Acrobot", *TINY, "--name", "CartPole", "--state_path", path)
    for more in ((), ("--accept_changes",), ("--num_test_runs", 1)):
        message = refuse(*words, *more)
        assert "holds a state of experiment 'CartPole', not of 'Acrobot'" in message
    message = refuse("-e", "Ant", "--name", "CartPole", "--state_path", path, "--num_test_runs", 1)
    assert "holds a state of experiment 'CartPole', not of 'Ant': give that with -e" in message
    message = refuse(*words, "--name", "new", "--init_from", path / "CartPole")
    assert "does not fit (it is of CartPole)" in message and "or another state for --init_from." in message
    assert kept(path) == before


def test_other_network_sizes(path: Path) -> None:
    before = kept(path)
    words = (*CART, "--num_timesteps", 3 * ROLLOUT, "--state_path", path, "--net.actor.hidden", 32)
    testing = ("-e", "CartPole", "--state_path", path, "--test", "--net.actor.hidden", 32)
    started = (*words, "--name", "new", "--init_from", path / "CartPole")
    for asked in (words, (*words, "--ppo.gamma", 0.5), (*words, "--accept_changes"), testing, started):
        message = refuse(*asked)
        assert "networks have another shape, net.actor.hidden: [64, 64] -> [32]): give the settings" in message
        assert "accept_changes" not in message and "torch" not in message
    assert kept(path) == before


@pytest.mark.parametrize("damage", ["truncated", "foreign", "newer"])
def test_a_state_that_cannot_be_read(damage: str, path: Path) -> None:
    states = json.loads((path / "CartPole" / "manifest.json").read_text())["states"]
    file, good = (path / "CartPole" / name for name in reversed(states[-2:]))
    if damage == "truncated":
        file.write_bytes(file.read_bytes()[:-1000])
    elif damage == "foreign":
        torch.save({"weights": torch.ones(3)}, file)
    else:
        content = torch.load(file, weights_only=True)
        torch.save({**content, "format": content["format"] + 1}, file)
    before = kept(path)
    train = (*CART, "--num_timesteps", 3 * ROLLOUT, "--state_path", path)
    for words in (train, ("-e", "CartPole", "--num_test_runs", 1, "--state_path", path)):
        message = refuse(*words)
        assert str(file) in message and f"--checkpoint {good}" in message
    assert file.name in refuse(*train, "--name", "new", "--init_from", file)
    assert kept(path) == before
    assert "at iteration 1" in succeed(*train, "--checkpoint", good)
    assert file.read_bytes() == before[f"CartPole/{file.name}"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("def task(:\n    pass", "mine.py, line"),
        ("", "has no 'task'"),
        ("tusk = Experiment(env=None)", "did you mean"),
        ("task = 3", "must be a function that returns an Experiment"),
        ("def task(): return 1 / 0", "ZeroDivisionError: division by zero"),
        ("import no_such_package", "No module named 'no_such_package'"),
        ("task = Experiment(env=GymEnv(id='Mine', factory=lambda: 1 / 0))", "ZeroDivisionError"),
        ("task = Experiment(env=3)", "env is 3, but must have make"),
    ],
)
def test_launchers_that_cannot_be_used(body: str, said: str, tmp_path: Path) -> None:
    reference = launcher(tmp_path, body)
    assert said in refuse("-e", reference, *TINY, "--state_path", tmp_path / "states")
    assert not (tmp_path / "states").exists()


def test_an_unknown_environment_id(tmp_path: Path) -> None:
    message = refuse("-e", "gymnasium:CartPol-v1", "--state_path", tmp_path / "states")
    assert "CartPole-v1" in message and not (tmp_path / "states").exists()
    message = refuse("-e", "gymnasium:mpe2.simple_spread_v3", "--state_path", tmp_path / "states")
    assert (
        "(Environment `mpe2.simple_spread_v3` doesn't exist); an environment of PettingZoo's is -e petting" in message
    )


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ("raise KeyError('gone')", "KeyError: 'gone'. Raised in"),
        ("observation = observation * np.nan", "observation is not finite"),
        ("reward = float('inf')", "reward is not finite"),
        ("reward = None", "reward is not finite"),
        ("observation = observation[:3]", "observation has shape (3,) where its space says (4,).\n"),
        ("observation = {'angle': 1.0}", "observation has shape () where its space says (4,).\n"),
    ],
)
@pytest.mark.parametrize("mode", ["train", "test"])
def test_environments_that_misbehave(mode: str, step: str, said: str, tmp_path: Path) -> None:
    reference = launcher(tmp_path, TASK, step)
    words = ("--random_policy", "--num_test_runs", 9) if mode == "test" else ()
    message = failed(call("-e", reference, *TINY, "--state_path", tmp_path / "states", *words))
    assert message.startswith("error: Mine, row 0, step 5 of its episode: ") and said in message
    if mode == "train":
        assert (tmp_path / "states" / "task" / "manifest.json").exists()


def test_a_reset_that_fails(tmp_path: Path) -> None:
    body = "Mine.reset = lambda self, **settings: 1 / 0\n" + TASK
    message = failed(call("-e", launcher(tmp_path, body), *TINY, "--state_path", tmp_path / "states"))
    assert "Mine failed in its first reset: ZeroDivisionError" in message
    assert not (tmp_path / "states").exists()


def test_a_loss_that_is_not_finite(tmp_path: Path) -> None:
    reference = launcher(tmp_path, TASK, "reward = 1e38")
    words = ("--ppo.reward_scale", "1e38", "--ppo.normalize_rewards", "False")
    result = call("-e", reference, *TINY, "--state_path", tmp_path, *words)
    assert result.code == 1
    assert "not finite in iteration 0" in sentence(result.err)


def test_a_missing_package_is_named_with_its_command(tmp_path: Path) -> None:
    (tmp_path / "Box2D").mkdir()
    (tmp_path / "Box2D" / "__init__.py").write_text("raise ModuleNotFoundError('no Box2D', name='Box2D')")
    result = finish(spawn("-e", "LunarLander", "--state_path", tmp_path / "states", PYTHONPATH=str(tmp_path)))
    assert result.code == 2 and result.out == ""
    assert 'pip install "gymnasium[box2d]"' in sentence(result.err)
    assert not (tmp_path / "states").exists()


def test_a_window_without_a_display(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    words = ("-e", "CartPole", "--state_path", path, "--num_test_runs", 1, "--render")
    assert "use --render_gif, which needs no screen" in refuse(*words)
    assert "use --render_gif" in refuse(*words, "--random_policy")


@pytest.mark.parametrize("name", ["InvertedPendulum", "gymnasium:InvertedPendulum-v5"])
def test_a_backend_that_mujoco_does_not_know(name: str, tmp_path: Path) -> None:
    result = finish(spawn("-e", name, "--state_path", tmp_path / "states", MUJOCO_GL="nonsense"))
    assert result.code == 2
    assert "MUJOCO_GL is 'nonsense', which MuJoCo does not know: set egl, osmesa or glfw" in sentence(result.err)
    assert not (tmp_path / "states").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("words", [("--allow_mpi_gpu",), ("--device", "cuda")])
def test_a_gpu_that_is_not_there(words: tuple[str, ...], tmp_path: Path) -> None:
    message = refuse(*CART, *words, "--state_path", tmp_path / "states")
    assert f"{' '.join(words)} needs a GPU" in message and not (tmp_path / "states").exists()


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ("self.action_space = spaces.Text(3)", "takes actions from Text(1, 3"),
        (
            "self.observation_space = spaces.Box(0, 255, (3, 12, 12), np.uint8)",
            "Images of shape (3, 12, 12) are too small for the convolutions ((32, 8, 4), (64, 4, 2), (64, 3, 1)): ",
        ),
    ],
)
def test_curiosity_about_what_it_cannot_read(space: str, said: str, tmp_path: Path) -> None:
    body = f"""
from gymnasium import spaces
from ppo_and_friends.addons.icm import ICM
from ppo_and_friends.config import BodyConfig, NetConfig

class Strange(CartPoleEnv):
    def __init__(self, **settings):
        super().__init__(**settings)
        {space}

    def reset(self, **settings):
        return np.zeros(self.observation_space.shape, self.observation_space.dtype), {{}}

flat = BodyConfig((8,), ())
task = Experiment(env=GymEnv(id="Strange", factory=Strange), net=NetConfig(flat, flat), addons=(ICM(),))
"""
    assert said in refuse("-e", launcher(tmp_path, body), *TINY, "--state_path", tmp_path / "states")
    assert not (tmp_path / "states").exists()
